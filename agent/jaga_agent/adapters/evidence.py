"""Evidence of decisions: the journal that led to each, kept in the state directory.

`evidence/ID.jsonl.gz`, ID being the decision's in the chain. Written whole beside its
place and renamed; bounded in number and size, the oldest go. It knows nothing of what
is in the lines.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import threading
from typing import TYPE_CHECKING, Final

from jaga_agent.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FOLDER: Final = "evidence"
SUFFIX: Final = ".jsonl.gz"
MAX_FILES: Final = 50
MAX_BYTES: Final = 8 * 1024 * 1024
LEVEL: Final = 6
"""zlib's own default: level 9 costs a Pi twice the time for 2 % less."""


class EvidenceFiles:
    """One directory; to be used off the event loop, for it waits for the card."""

    def __init__(
        self,
        directory: Path,
        *,
        max_files: int = MAX_FILES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """`directory` is the state directory; nothing is touched yet."""
        self._folder = directory / FOLDER
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._lock = threading.Lock()

    def keep(self, decision: int, lines: Sequence[bytes]) -> None:
        """Keep a decision's lines, in place of what was kept of it; EvidenceError."""
        path = self._folder / f"{decision}{SUFFIX}"
        fresh = self._folder / f"{decision}.part"
        packed = gzip.compress(b"\n".join(lines) + b"\n", LEVEL, mtime=0)
        try:
            with self._lock:
                self._folder.mkdir(parents=True, exist_ok=True)
                with fresh.open("wb") as file:
                    file.write(packed)
                    file.flush()
                    os.fsync(file.fileno())
                fresh.replace(path)
                self._make_room(path)
        except OSError as error:
            msg = f"evidence {path}: {error.strerror}"
            raise EvidenceError(msg) from error

    def _make_room(self, newest: Path) -> None:
        """Drop the oldest, and what a killed agent left half written; never `newest`."""
        for leftover in self._folder.glob("*.part"):
            leftover.unlink()
        kept = sorted(_numbered(self._folder), reverse=True)
        total_bytes = 0
        for place, (_, path) in enumerate(kept, 1):
            total_bytes += path.stat().st_size
            if path != newest and (
                place > self._max_files or total_bytes > self._max_bytes
            ):
                path.unlink()


def digest(lines: Sequence[bytes]) -> str:
    """Return SHA-256 over the lines, each with its line feed."""
    return hashlib.sha256(b"\n".join(lines) + b"\n").hexdigest()


def kept(directory: Path) -> frozenset[int]:
    """Return the decisions whose evidence is there; raises EvidenceError."""
    folder = directory / FOLDER
    try:
        return frozenset(number for number, _ in _numbered(folder))
    except OSError as error:
        hint = "; use sudo" if isinstance(error, PermissionError) else ""
        msg = f"evidence {folder}: {error.strerror}{hint}"
        raise EvidenceError(msg) from error


def find(directory: Path, decision: int) -> Path:
    """Return where a decision's evidence is; raises EvidenceError with what there is."""
    there = sorted(kept(directory))
    if decision in there:
        return directory / FOLDER / f"{decision}{SUFFIX}"
    others = f"there is of: {', '.join(map(str, there))}" if there else "none is kept"
    msg = f"no evidence of {decision} in {directory / FOLDER}; {others}"
    raise EvidenceError(msg)


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    if not folder.exists():
        return []
    return [
        (int(number), path)
        for path in folder.iterdir()
        if path.name.endswith(SUFFIX)
        and (number := path.name.removesuffix(SUFFIX)).isdecimal()
    ]
