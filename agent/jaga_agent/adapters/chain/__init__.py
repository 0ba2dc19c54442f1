"""The decision chain's file: append-only, each entry bound to the one before by hash.

`decisions.jsonl` in the state directory; past `LIMIT_BYTES` it becomes
`decisions.1.jsonl` and a new file goes on from its last hash. An appended entry has
survived SIGKILL; it has survived a power cut once `sync` has returned. What a power cut
tore is set aside at the next start, and the first entry then says so.

What the files alone cannot show is a cut at the very end. The collector holds id and
hash of what it was told, and shows that.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from jaga_agent.adapters.chain.entry import (
    BREAK,
    START,
    STOPPED,
    TURN,
    Content,
    Entry,
    Fault,
    NotAnEntryError,
    linked,
    parsed,
    verify,
)
from jaga_agent.errors import ChainError
from jaga_agent.whole_file import sync_directory

if TYPE_CHECKING:
    from pathlib import Path

LIMIT_BYTES: Final = 4 * 1024 * 1024
NAME: Final = "decisions.jsonl"
FULL_NAME: Final = "decisions.1.jsonl"
ASIDE_NAME: Final = "decisions.torn"
SPARED_IDS: Final = 100
"""Ids left out after a power cut: entries with them may have been told already, and
lost before they were on the card. A sync is never more than a few entries behind."""
_IDS: Final = re.compile(rb'"id":(\d{1,15}),')


class Chain:
    """One writer. `sync` may run in a thread of its own; all else on one thread."""

    def __init__(self, directory: Path, *, boot: str) -> None:
        """Open or create the chain; raises ChainError. `boot` names this boot."""
        self._directory = directory
        self._path = directory / NAME
        self._full = directory / FULL_NAME
        self._boot = boot
        self._lock = threading.Lock()
        """Over which file is open, for `sync`."""
        self._new = False
        self._broken: str | None = None
        """What the next entry must say first."""
        self._last_id = 0
        self.last: Entry | None = None
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._bytes, self._first = self._recover()
            self._fd = self._open()
        except OSError as error:
            raise _failed(self._path, error) from error

    def append(self, content: Content) -> Entry:
        """Add one entry; raises ChainError, and the chain is then as it was."""
        if self._broken is not None:
            reason, self._broken = self._broken, None
            try:
                self._add(_said(content, BREAK, reason), spared=SPARED_IDS)
            except ChainError:
                self._broken = reason
                raise
        if self._bytes > LIMIT_BYTES:
            self._turn(content)
        return self._add(content)

    def sync(self) -> None:
        """Wait until all that was appended is on the card; raises ChainError."""
        with self._lock:
            if self._fd < 0:
                return
            fd, new, self._new = os.dup(self._fd), self._new, False
        try:
            os.fdatasync(fd)
            if new:
                sync_directory(self._directory)
        except OSError as error:
            raise _failed(self._path, error) from error
        finally:
            os.close(fd)

    def close(self) -> None:
        """Put all on the card and close the file; raises ChainError."""
        try:
            self.sync()
        finally:
            with self._lock:
                if self._fd >= 0:
                    os.close(self._fd)
                self._fd = -1

    def _add(self, content: Content, *, spared: int = 0) -> Entry:
        prev = START if self.last is None else self.last.hash
        entry, line = linked(content, id=self._last_id + 1 + spared, prev=prev)
        data = line + b"\n"
        try:
            written = os.write(self._fd, data)
            if written < len(data):
                os.ftruncate(self._fd, self._bytes)
                msg = f"{self._path}: no space left; free some: df -h {self._directory}"
                raise ChainError(msg)
        except OSError as error:
            raise _failed(self._path, error) from error
        self._bytes += len(data)
        self._first = self._first or entry.id
        self._last_id = entry.id
        self.last = entry
        return entry

    def _turn(self, content: Content) -> None:
        """Begin a new file; the full one is put on the card first, and stays whole."""
        self.sync()
        first = self._first
        try:
            self._path.replace(self._full)
            with self._lock:
                os.close(self._fd)
                self._fd = -1
                self._fd = self._open()
        except OSError as error:
            raise _failed(self._path, error) from error
        self._bytes, self._first = 0, 0
        reason = f"{FULL_NAME} was full; it begins with entry {first}"
        said = _said(content, TURN, reason, of=first)
        self._add(said)

    def _open(self) -> int:
        self._new = True
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return os.open(self._path, flags, 0o640)

    def _recover(self) -> tuple[int, int]:
        """Find the last whole entry; return the file's whole length and first id."""
        data = _read(self._path) or b""
        whole = _whole_bytes(data)
        first = _entry_at(data, 0)
        self.last = _last_of(data[:whole]) or _last_of(_read(self._full) or b"")
        self._last_id = 0 if self.last is None else self.last.id
        torn = data[whole:]
        if torn:
            # Even what is damaged may have been told: its ids are spent.
            spent = (int(number) for number in _IDS.findall(torn))
            self._last_id = max(self._last_id, *spent, 0)
            (self._directory / ASIDE_NAME).write_bytes(torn)
            with self._path.open("r+b") as file:
                file.truncate(whole)
                os.fsync(file.fileno())
            digest = hashlib.sha256(torn).hexdigest()
            self._broken = (
                f"{len(torn)} bytes that are no entry stood at the end; "
                f"set aside in {ASIDE_NAME}, SHA-256 {digest}"
            )
        elif (
            self.last is not None
            and self.last.kind != STOPPED
            and self.last.boot != self._boot
        ):
            self._broken = (
                "power was cut, or the machine was reset: "
                f"up to {SPARED_IDS} entries may be missing"
            )
        return whole, 0 if first is None else first.id


def _said(
    content: Content, kind: str, reason: str, *, of: int | None = None
) -> Content:
    """Return an entry of the chain itself, made at the same moment as `content`."""
    return Content(
        boot=content.boot,
        at_ms=content.at_ms,
        wall_ms=content.wall_ms,
        clock_age_s=content.clock_age_s,
        kind=kind,
        of=of,
        reason=reason,
    )


def _whole_bytes(data: bytes) -> int:
    """Return how long the file is up to its last whole entry, from the back."""
    end = data.rfind(b"\n") + 1
    while end > 0:
        begin = data.rfind(b"\n", 0, end - 1) + 1
        try:
            parsed(data[begin : end - 1])
        except NotAnEntryError:
            end = begin
        else:
            return end
    return 0


def _last_of(data: bytes) -> Entry | None:
    end = _whole_bytes(data)
    if end == 0:
        return None
    return parsed(data[data.rfind(b"\n", 0, end - 1) + 1 : end - 1])


def _entry_at(data: bytes, begin: int) -> Entry | None:
    try:
        return parsed(data[begin : data.find(b"\n", begin)])
    except NotAnEntryError:
        return None


@dataclass(frozen=True, slots=True)
class Kept:
    """The chain as it stands in the files, oldest first."""

    entries: tuple[Entry, ...]
    """Those whole in themselves."""
    fault: Fault | None
    fault_file: Path | None
    torn_bytes: int
    """At the very end: an entry being written, or cut by a power loss."""


def load(directory: Path) -> Kept:
    """Read and verify the chain; raises ChainError when there is none."""
    files = [(p, _checked_read(p)) for p in (directory / FULL_NAME, directory / NAME)]
    if all(data is None for _, data in files):
        msg = (
            f"there is no decision chain in {directory}; "
            "has the agent run? name its state directory with --directory"
        )
        raise ChainError(msg)
    entries: list[Entry] = []
    fault: Fault | None = None
    fault_file: Path | None = None
    torn_bytes = 0
    for path, data in files:
        lines = (data or b"").split(b"\n")
        torn_bytes = len(lines.pop())
        if path.name == FULL_NAME and torn_bytes:
            # A full file was put on the card before it was turned.
            lines.append((data or b"").rpartition(b"\n")[2])
        whole = [entry for entry in map(_parsed_or_none, lines) if entry is not None]
        last = entries[-1] if entries else None
        if fault is None:
            fault = verify(lines, last) or _turned(entries, whole)
            fault_file = path if fault is not None else None
        entries += whole
    return Kept(tuple(entries), fault, fault_file, torn_bytes)


def _turned(before: list[Entry], after: list[Entry]) -> Fault | None:
    """Return what is wrong with the file before: its head may have been cut off."""
    if before and after and after[0].kind == TURN and after[0].of != before[0].id:
        why = f"the file before must begin with entry {after[0].of}: some are missing"
        return Fault(1, after[0].id, why)
    return None


def _parsed_or_none(line: bytes) -> Entry | None:
    try:
        return parsed(line)
    except NotAnEntryError:
        return None


def _checked_read(path: Path) -> bytes | None:
    try:
        return _read(path)
    except OSError as error:
        raise _failed(path, error) from error


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _failed(path: Path, error: OSError) -> ChainError:
    hint = "; use sudo" if isinstance(error, PermissionError) else ""
    return ChainError(f"decision chain {path}: {error.strerror}{hint}")
