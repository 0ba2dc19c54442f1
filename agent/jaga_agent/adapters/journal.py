"""The engine's journal: what it saw and did, as JSON lines, for `jaga-agent replay`.

A line is `{"at": seconds since boot, "event": {...}, "actions": [...]}`. Each file
begins with the engine's whole state, so that it replays alone. The file lives in RAM
(/run) and is bounded: at `LIMIT_BYTES` it becomes `.1` and a new one begins.

The last `WINDOW_S` of it are held in memory too, cut into segments that each begin with
a whole state: the evidence of a decision is taken from there, at once.
"""

from __future__ import annotations

import gzip
import zlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec

from jaga_agent.core.actions import Action
from jaga_agent.core.events import Event
from jaga_agent.core.model import Instant
from jaga_agent.core.state import State
from jaga_agent.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LIMIT_BYTES: Final = 4 * 1024 * 1024
WINDOW_S: Final = 30.0
"""A cut holds at least this much of what led to it, if the engine has run as long."""
SEGMENT_S: Final = 5.0
"""How much more it may hold: a cut begins where a segment does."""
WINDOW_BYTES: Final = 2 * 1024 * 1024
"""And at most this much of lines, whatever floods in."""
READ_BYTES: Final = 64 * 1024 * 1024
"""A compressed file that unpacks to more is no journal of ours."""
_GZIP_MAGIC: Final = b"\x1f\x8b"
_EVENTS: Final[dict[str, Any]] = {kind.__name__: kind for kind in get_args(Event)}
_ACTIONS: Final[dict[str, Any]] = {kind.__name__: kind for kind in get_args(Action)}
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Step:
    """One line after the first."""

    at: Instant
    event: Event
    actions: tuple[Action, ...]
    line: bytes
    """As it stands in the file, without its end."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What led to this moment: the lines of a journal that replays alone."""

    at: Instant
    """Of the last step."""
    lines: tuple[bytes, ...]
    """The state's line, then the steps'; the last one is the step at hand."""
    mark: int
    """For `Journal.since`: what follows this cut."""


@dataclass(slots=True)
class _Segment:
    began_at: Instant
    state: State
    first: int
    """The number of its first line, counted over the journal's life."""
    lines: list[bytes] = field(default_factory=list)
    held_bytes: int = 0


class Journal:
    """Appends steps to a bounded file, and holds the last ones."""

    def __init__(self, path: Path | None) -> None:
        """`path` None: keeps no file, only the last `WINDOW_S` in memory."""
        self._path = path
        self._file: Any = None
        self._bytes = 0
        self._segments: deque[_Segment] = deque()
        self._steps = 0
        self._last_at = Instant(0.0)

    def record(
        self, before: State, event: Event, now: Instant, actions: Sequence[Action]
    ) -> None:
        """Take one step; raises JournalError when the file cannot be written."""
        line = encoded(now, event, actions)
        self._hold(before, now, line)
        if self._path is None:
            return
        try:
            if self._file is None or self._bytes > LIMIT_BYTES:
                self._begin(self._path, before)
            self._write(line)
        except OSError as error:
            msg = f"journal {self._path}: {error.strerror}"
            raise JournalError(msg) from error

    def cut(self) -> Cut | None:
        """Return what led to the last step; None before the first."""
        if not self._segments:
            return None
        head = _head(self._segments[0].state)
        lines = [line for segment in self._segments for line in segment.lines]
        return Cut(self._last_at, (head, *lines), self._steps)

    def since(self, mark: int) -> tuple[bytes, ...]:
        """Return the steps' lines after a cut; none if not all are held any more."""
        if self._segments and mark < self._segments[0].first:
            return ()
        return tuple(
            line
            for segment in self._segments
            for line in segment.lines[max(0, mark - segment.first) :]
        )

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _hold(self, before: State, now: Instant, line: bytes) -> None:
        held = self._segments
        if not held or now - held[-1].began_at >= SEGMENT_S:
            held.append(_Segment(now, before, self._steps))
        held[-1].lines.append(line)
        held[-1].held_bytes += len(line)
        self._steps += 1
        self._last_at = now
        while len(held) > 1 and (
            now - held[1].began_at >= WINDOW_S
            or sum(segment.held_bytes for segment in held) > WINDOW_BYTES
        ):
            held.popleft()

    def _begin(self, path: Path, state: State) -> None:
        self.close()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.replace(path.with_name(path.name + ".1"))
        # Unbuffered: a killed agent must leave whole lines, and a write to RAM is 1 µs.
        self._file = path.open("wb", buffering=0)
        self._bytes = 0
        self._write(_head(state))

    def _write(self, line: bytes) -> None:
        self._file.write(line + b"\n")
        self._bytes += len(line) + 1


def encoded(at: Instant, event: Event, actions: Sequence[Action]) -> bytes:
    """Return a step's line, the same bytes for the same values (doubles are exact)."""
    return _ENCODER.encode(
        {
            "at": at,
            "event": _tagged(event),
            "actions": [_tagged(action) for action in actions],
        }
    )


def read(path: Path) -> tuple[State, Iterator[Step]]:
    """Return the first state and the steps of a journal; raises JournalError."""
    return parsed(content(path), path)


def content(path: Path) -> bytes:
    """Return a journal's lines, unpacked if need be; raises JournalError."""
    try:
        raw = path.read_bytes()
        if not raw.startswith(_GZIP_MAGIC):
            return raw
        with gzip.open(path) as file:
            unpacked = file.read(READ_BYTES + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        msg = f"{path}: damaged, cannot be unpacked: {error}"
        raise JournalError(msg) from error
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        hint = "; use sudo" if isinstance(error, PermissionError) else ""
        msg = f"{path}: {what}{hint}"
        raise JournalError(msg) from error
    if len(unpacked) > READ_BYTES:
        msg = f"{path}: unpacks to more than {READ_BYTES >> 20} MiB; not a journal"
        raise JournalError(msg)
    return unpacked


def parsed(journal: bytes, path: Path) -> tuple[State, Iterator[Step]]:
    """Return the same of a journal already read; `path` names it in errors."""
    lines = journal.splitlines()
    if not lines:
        msg = f"{path}: empty; a journal begins with the engine's state"
        raise JournalError(msg)
    try:
        head = msgspec.json.decode(lines[0])
        state = msgspec.convert(head["state"], State)
    except (msgspec.MsgspecError, UnicodeError, KeyError, TypeError) as error:
        msg = f"{path}:1: not a journal of this version: {error}"
        raise JournalError(msg) from error
    return state, _steps(path, lines[1:])


def _steps(path: Path, lines: list[bytes]) -> Iterator[Step]:
    for number, line in enumerate(lines, 2):
        try:
            row = msgspec.json.decode(line)
            step = Step(
                Instant(float(row["at"])),
                _untagged(row["event"], _EVENTS),
                tuple(_untagged(action, _ACTIONS) for action in row["actions"]),
                line,
            )
        except (
            msgspec.MsgspecError,
            UnicodeError,
            KeyError,
            TypeError,
            ValueError,
        ) as error:
            msg = f"{path}:{number}: not a step of this version: {error}"
            raise JournalError(msg) from error
        yield step


def _head(state: State) -> bytes:
    return _ENCODER.encode({"state": msgspec.to_builtins(state)})


def _tagged(value: Event | Action) -> dict[str, Any]:
    return {"type": type(value).__name__, **msgspec.to_builtins(value)}


def _untagged(row: dict[str, Any], kinds: dict[str, Any]) -> Any:
    kind = kinds[row.pop("type")]
    return msgspec.convert(row, kind)
