"""The spool: the site's records, until the collector has them and some days beyond.

`append` puts a record into a tail file in RAM, which survives SIGKILL, and returns; a
thread puts it into SQLite on the card, where it survives power loss. The collector's
watermarks say what it has; what they do not cover is pending. docs/spool.md has the
figures, docs/decisions/spool.md the reasons.

It keeps payloads as they are and knows nothing of what is in them, except that heartbeats
go before histograms, and those before events and digests, when it is full.
"""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jaga_agent.adapters.spool.gate import Gate
from jaga_agent.adapters.spool.memory import Memory, record
from jaga_agent.adapters.spool.opening import open_spool
from jaga_agent.adapters.spool.tail import Entry
from jaga_agent.adapters.spool.writer import RETRY_S, Writer
from jaga_agent.errors import SpoolError
from jaga_agent.wire.evidence import CODE_OF

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from jaga_agent.core.ranges import Range
    from jaga_agent.ports import SpooledRecord
    from jaga_agent.wire.evidence import LostRange, Watermark

__all__ = ["TAIL_NAME", "SqliteSpool"]

_log = logging.getLogger(__name__)

BOOT_ID_PATH: Final = Path("/proc/sys/kernel/random/boot_id")
TAIL_NAME: Final = "spool.tail"
_CLOSE_S: Final = 10.0
"""A card that syncs for longer is left alone: the tail has what it lacks."""


class SqliteSpool:
    """One SQLite file (with its -wal and -shm) and one tail file, as `ports.Spool`.

    Its methods are called on one thread, the event loop's.
    """

    def __init__(
        self,
        path: Path,
        *,
        run_directory: Path,
        now: Callable[[], float],
        boot_id: str | None = None,
        max_bytes: int = 64 * 1024 * 1024,
        max_tail_bytes: int = 4 * 1024 * 1024,
        retry_s: float = RETRY_S,
    ) -> None:
        """Open or create it; raises SpoolError about what somebody has to mend.

        `now` gives seconds since boot; `boot_id` is the kernel's (random/boot_id).
        `max_bytes` bounds the file with its log, `max_tail_bytes` the records in RAM
        while the card takes none; it is asked again each `retry_s`.
        """
        try:
            kernel = boot_id or BOOT_ID_PATH.read_text(encoding="ascii").strip()
            for directory in (path.parent, run_directory):
                directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = (
                f"cannot prepare the spool {path}: {error.strerror} ({error.filename})"
            )
            raise SpoolError(msg) from error
        tail_path = run_directory / TAIL_NAME
        opened = open_spool(path, tail_path, kernel)
        loaded = opened.loaded
        try:
            self._memory = Memory(
                coverage=opened.coverage,
                header=opened.header,
                entries=opened.entries,
                head=loaded.head if loaded else None,
                dropped=loaded.state.dropped if loaded else 0,
                tail_path=tail_path,
                max_tail_bytes=max_tail_bytes,
                now=now,
            )
        except OSError as error:
            if loaded:
                loaded.database.close()
            msg = (
                f"cannot write the spool's tail {tail_path}: {error.strerror};"
                " see state.run_directory"
            )
            raise SpoolError(msg) from error
        self._path = path
        self._gate = Gate()
        self._unreadable_told = False
        self._writer = Writer(
            path,
            self._memory,
            self._gate,
            loaded,
            max_bytes=max_bytes,
            retry_s=retry_s,
            now=now,
        )

    @property
    def boot(self) -> bytes:
        """8 bytes that name this boot of this spool."""
        return self._memory.header.boot

    @property
    def dropped(self) -> int:
        """How many records that the collector lacked had to go, since it was made."""
        return self._memory.dropped

    @property
    def durable_up_to(self) -> int:
        """All records up to this token that are kept survive power loss."""
        return self._memory.durable_up_to

    def next_seq(self) -> int:
        """Return the number the next appended record must carry."""
        return self._memory.last_seq + 1

    def next_connection(self) -> int:
        """Count one more connection of this boot and return its number, from 1."""
        with self._memory.changed:
            return self._memory.next_connection()

    def append(self, seq: int, leaf: str, payload: bytes) -> SpooledRecord:
        """Keep one record; it has survived SIGKILL when this returns."""
        if leaf not in CODE_OF:
            msg = f"the spool keeps {', '.join(CODE_OF)}, no {leaf}"
            raise SpoolError(msg)
        memory = self._memory
        with memory.changed:
            if seq != memory.last_seq + 1:
                msg = f"the spool expects seq {memory.last_seq + 1}, not {seq}"
                raise SpoolError(msg)
            header = memory.header
            entry = Entry(
                header.boot, header.base, seq, int(CODE_OF[leaf]), bytes(payload)
            )
            return memory.append(entry).record

    def cover(self, mark: Watermark) -> None:
        """Take what the collector says it has for good; it may go back."""
        with self._memory.changed:
            self._memory.cover(mark)

    def pending(self, limit: int, *, after: int = 0) -> Sequence[SpooledRecord]:
        """Return at most `limit` records not covered, above a token, oldest first.

        While the card is busy or cannot be read, those of them that are in RAM.
        """
        with self._memory.changed:
            ranges = list(_first(self._memory.coverage.pending(after), limit))
        records = self._get(ranges, limit)
        return self._fresh_pending(limit, after) if records is None else records

    def select(self, boot: bytes, first: int, last: int) -> Sequence[SpooledRecord]:
        """Return what is kept of a boot's records first…last, covered or not.

        Raises SpoolError while the card is busy or cannot be read: never a part.
        """
        with self._memory.changed:
            known = self._memory.coverage.named(boot)
            if known is None:
                return []
            last = min(last, known.highest)
            ranges = list(
                self._memory.coverage.kept.within(
                    known.base + max(first, 1), known.base + last
                )
            )
        records = self._get(ranges, max(last - first + 1, 0))
        if records is None:
            msg = "the card cannot be read just now; ask again"
            raise SpoolError(msg)
        return records

    def depth(self) -> int:
        """Return how many kept records are not covered."""
        with self._memory.changed:
            return self._memory.coverage.depth()

    def lost(self) -> Sequence[LostRange]:
        """Return what is gone and not covered: merged, oldest first, at most 64."""
        with self._memory.changed:
            return self._memory.coverage.lost()

    def last_digest(self) -> SpooledRecord | None:
        """Return the newest digest of any boot; it is kept whatever else must go."""
        with self._memory.changed:
            return self._memory.head

    def boots(self) -> Sequence[tuple[bytes, int]]:
        """Return the boots known, oldest first, each with its highest seq."""
        with self._memory.changed:
            return [(b.name, b.highest) for b in self._memory.coverage.boots]

    def flush(self, timeout_s: float) -> bool:
        """Put everything on the card now; return whether that was done in time."""
        memory = self._memory
        with memory.changed:
            memory.flushing = True
            memory.changed.notify_all()
            return memory.changed.wait_for(lambda: not memory.fresh, timeout_s)

    def close(self) -> None:
        """Put everything on the card, if it takes it; the tail keeps the rest."""
        if not self._writer.close(_CLOSE_S):
            _log.warning("the spool %s: the card still writes", self._path)
        self._memory.close()

    def _get(self, ranges: Iterable[Range], limit: int) -> list[SpooledRecord] | None:
        """Return the records of these tokens; None: not now."""
        memory = self._memory
        records: list[SpooledRecord] = []
        for first, last in ranges:
            with memory.changed:
                fresh = [
                    memory.fresh[token].record
                    for token in range(first, last + 1)
                    if token in memory.fresh
                ]
            # What is not on the card is younger than all that is.
            end = fresh[0].token - 1 if fresh else last
            if first <= end:
                read = self._read(first, end, limit - len(records))
                if read is None:
                    return None
                records += read
            records += fresh[: limit - len(records)]
            if len(records) >= limit:
                break
        return records

    def _fresh_pending(self, limit: int, after: int) -> list[SpooledRecord]:
        """Return what is pending in RAM: all there is while the card cannot be read."""
        memory = self._memory
        with memory.changed:
            return [
                fresh.record
                for token, fresh in memory.fresh.items()
                if token > after and not memory.coverage.is_covered(token)
            ][:limit]

    def _read(self, first: int, last: int, limit: int) -> list[SpooledRecord] | None:
        last = min(last, first + limit - 1)
        try:
            rows = self._gate.select(first, last, limit)
        except sqlite3.Error as error:
            self._suspect(error)
            return None
        if rows is None:
            return None
        memory = self._memory
        with memory.changed:
            missing = set(range(first, last + 1)).difference(row[0] for row in rows)
            self._miss(missing)
            boot = memory.coverage.boot_of(first)
        if boot is None:
            return []
        return [record(row[0], boot.name, row[0] - boot.base, row) for row in rows]

    def _miss(self, tokens: set[int]) -> None:
        """Take note of records that should be there: they are lost, and said to be."""
        tokens = {t for t in tokens if t in self._memory.coverage.kept}
        if not tokens:
            return
        if not self._unreadable_told:
            _log.error(
                "the spool %s: %d records are not what was written; they are lost",
                self._path,
                len(tokens),
            )
        self._unreadable_told = True
        self._memory.let_go(tokens)
        self._memory.unreadable |= tokens

    def _suspect(self, error: sqlite3.Error) -> None:
        _log.warning("cannot read the spool %s: %s", self._path, error)
        with self._memory.changed:
            self._memory.suspect = True
            self._memory.changed.notify_all()


def _first(ranges: Iterator[Range], limit: int) -> Iterator[Range]:
    """Yield ranges of at most `limit` numbers together."""
    for first, last in ranges:
        if limit <= 0:
            return
        last_here = min(last, first + limit - 1)
        yield first, last_here
        limit -= last_here - first + 1
