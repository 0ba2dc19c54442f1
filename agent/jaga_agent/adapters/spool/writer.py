"""The thread that puts the spool's records on the card, and alone writes there.

What it may not do: hold the lock while it waits for the card. Whatever the card does
(full, failing, damaged, slow), the event loop goes on with what is in RAM.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from functools import partial
from typing import TYPE_CHECKING, Final

from jaga_agent.adapters.spool.database import LOG_BYTES, damaged, is_corrupt, is_full
from jaga_agent.adapters.spool.memory import BATCH, WORTH
from jaga_agent.adapters.spool.opening import load, replace_damaged
from jaga_agent.errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jaga_agent.adapters.spool.database import Database, State
    from jaga_agent.adapters.spool.gate import Gate
    from jaga_agent.adapters.spool.memory import Fresh, Memory
    from jaga_agent.adapters.spool.opening import Loaded

_log = logging.getLogger(__name__)

RETRY_S: Final = 30.0
MARKS_S: Final = 300.0
"""Watermarks are saved no more often: losing one only means sending again."""
HOUR_S: Final = 3600.0
HOURS_KEPT: Final = 7 * 24
"""Covered records are kept for as many hours of running: a Pi has no other clock."""
_LOG_SHARE_BYTES: Final = LOG_BYTES + 500_000
"""Of the bound: a burst makes the log longer than it was made."""
_DROPPED_AT_ONCE: Final = 500
_ROW_BYTES: Final = 32
"""What a row takes beyond its payload, generously."""
_SPARE_BYTES: Final = 16 * 1024
"""Pages that a transaction may touch beyond its rows."""


class Writer:
    """Owns the database."""

    def __init__(
        self,
        path: Path,
        memory: Memory,
        gate: Gate,
        loaded: Loaded | None,
        *,
        max_bytes: int,
        retry_s: float,
        now: Callable[[], float],
    ) -> None:
        self._path = path
        self._memory = memory
        self._gate = gate
        self._retry_s = retry_s
        self._now = now
        self._max_bytes = max(max_bytes - _LOG_SHARE_BYTES, max_bytes // 2)
        self._database: Database | None = None
        self._state: State | None = None
        self._hours: list[int] = []
        self._hour_at = self._marks_at = now()
        self._dropped_up_to = dict.fromkeys(WORTH, 0)
        self._overflowing = False
        if loaded is not None:
            self._take(loaded)
        self._unchecked = True
        memory.failing = loaded is None
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float) -> bool:
        """Write the rest and end; return whether that was done in time."""
        with self._memory.changed:
            self._memory.closing = True
            self._memory.changed.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _take(self, loaded: Loaded) -> None:
        self._database, self._state = loaded.database, loaded.state
        self._hours = loaded.hours
        self._gate.open(loaded.database)

    def _run(self) -> None:
        self._try(self._check_file)
        while True:
            self._wait()
            closing = self._memory.closing
            self._try(partial(self._round, closing=closing))
            if closing:
                break
        with self._gate.turn():
            self._gate.open(None)
            if self._database is not None:
                self._database.close()

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (sqlite3.Error, OSError, SpoolError) as error:
            self._failed(error)

    def _check_file(self) -> None:
        """Look at the whole file: at the start, and when a read went wrong."""
        if self._database is not None:
            with self._gate.turn():
                self._database.check()
        self._unchecked = False

    def _wait(self) -> None:
        """Return when there is something to do."""
        memory = self._memory
        with memory.changed:
            if memory.failing and not memory.closing:
                memory.changed.wait_for(
                    lambda: memory.closing or memory.flushing, self._retry_s
                )
                memory.flushing = False
                return
            while not (
                memory.closing
                or memory.urgent
                or memory.suspect
                or memory.flushing
                or memory.marks_urgent
            ):
                due = memory.due()
                wait_s = None if due is None else due - self._now()
                if wait_s is not None and wait_s <= 0:
                    break
                memory.changed.wait(wait_s)
            memory.flushing = False

    def _round(self, *, closing: bool) -> None:
        if self._database is None:
            self._open()
        if self._database is None or self._state is None:
            return
        memory = self._memory
        if memory.suspect:
            memory.suspect = False
            self._check_file()
        while True:
            with memory.changed:
                batch = memory.batch()
                memory.urgent &= bool(batch)
                unreadable = sorted(memory.unreadable)
            marks = memory.marks_dirty and (
                closing
                or memory.marks_urgent
                or self._now() - self._marks_at >= MARKS_S
            )
            if not batch and not marks and not unreadable:
                break
            with self._gate.turn():
                self._commit(
                    self._database, self._state, batch, unreadable, marks=marks
                )
            if len(batch) < BATCH:
                break
        if memory.failing:
            memory.failing = False
            _log.warning("the spool %s takes records again", self._path)

    def _commit(
        self,
        database: Database,
        state: State,
        batch: list[Fresh],
        unreadable: list[int],
        *,
        marks: bool,
    ) -> None:
        memory = self._memory
        forgotten: list[bytes] = []
        database.begin()
        try:
            gone = self._make_room(database, batch)
            for token in unreadable:
                database.delete(token, token, but=0)
            database.insert(fresh.row for fresh in batch)
            gone += self._turn_the_hour(database, batch)
            if marks:
                with memory.changed:
                    coverage = memory.coverage
                    forgotten = coverage.forget_done(memory.header.boot)
                    boots = coverage.boots
                    state.store, state.revision = coverage.store, coverage.revision
                    state.dropped = memory.dropped
                    state.last_token = memory.last_token
                    memory.marks_dirty = memory.marks_urgent = False
                database.save_boots(boots, forgotten)
                database.save_state(state)
            database.commit()
        except BaseException:
            # To be saved again, if need be at once: the next try is `_wait`'s to time.
            memory.marks_dirty |= marks
            memory.marks_urgent |= marks
            database.roll_back()
            raise
        if marks:
            self._marks_at = self._now()
        with memory.changed:
            memory.unreadable.difference_update(unreadable)
            memory.pace = memory.pace.spent(self._now())
            before = memory.dropped
            memory.committed(batch, gone)
            dropped = memory.dropped - before
        if dropped and not self._overflowing:
            # Loud once, quiet for the rest of a long outage.
            _log.warning(
                "the spool is full: the oldest records that the collector lacks go,"
                " %d of them now",
                dropped,
            )
        if gone:
            self._overflowing = dropped > 0

    def _make_room(self, database: Database, batch: list[Fresh]) -> list[int]:
        """Delete until the batch fits; return the tokens deleted."""
        needed = _SPARE_BYTES + sum(
            len(fresh.entry.payload) + _ROW_BYTES for fresh in batch
        )
        gone: list[int] = []
        while database.used_bytes() + needed > self._max_bytes:
            tokens = self._drop_some(database, after=gone[-1] if gone else 0)
            if not tokens:
                break
            gone += tokens
        return gone

    def _drop_some(self, database: Database, *, after: int) -> list[int]:
        memory = self._memory
        with memory.changed:
            head = memory.head.token if memory.head else 0
            covered = memory.oldest_covered(_DROPPED_AT_ONCE, after=after)
        gone = [
            token
            for first, last in covered
            for token in database.delete(first, last, but=head)
        ]
        if gone:
            return gone
        for leaves in WORTH:
            gone = database.delete_oldest(
                leaves, _DROPPED_AT_ONCE, after=self._dropped_up_to[leaves], but=head
            )
            if gone:
                self._dropped_up_to[leaves] = gone[-1]
                return gone
        return []

    def _turn_the_hour(self, database: Database, batch: list[Fresh]) -> list[int]:
        """Each hour of running: let go of what is covered and a week old."""
        if not batch or self._now() - self._hour_at < HOUR_S:
            return []
        self._hour_at = self._now()
        self._hours = [*self._hours, batch[0].token][-HOURS_KEPT - 1 :]
        database.begin_hour(batch[0].token, keep=HOURS_KEPT + 1)
        if len(self._hours) <= HOURS_KEPT:
            return []
        memory = self._memory
        with memory.changed:
            head = memory.head.token if memory.head else 0
            old = [
                (first, min(last, self._hours[0] - 1))
                for first, last in memory.coverage.covered_kept()
                if first < self._hours[0]
            ]
        return [
            token
            for first, last in old
            for token in database.delete(first, last, but=head)
        ]

    def _open(self) -> None:
        """Take up the file again, or for the first time."""
        self._take_over(load(self._path))

    def _take_over(self, loaded: Loaded) -> None:
        with self._memory.changed:
            fits = self._memory.merge(loaded.boots, loaded.kept, loaded.head)
        if not fits:
            loaded.database.close()
            msg = "it holds other records under this boot's tokens"
            raise damaged(msg)
        with self._memory.changed:
            boots = self._memory.coverage.boots
        with self._gate.turn():
            self._take(loaded)
            loaded.database.begin()
            loaded.database.save_boots(boots, ())
            loaded.database.commit()

    def _failed(self, error: Exception) -> None:
        """Go on without the file; a damaged one is replaced at once."""
        if not is_full(error):
            with self._gate.turn():
                self._gate.open(None)
                if self._database is not None:
                    self._database.close()
                    self._database = None
        if is_corrupt(error):
            try:
                self._take_over(replace_damaged(self._path, error))
            except (sqlite3.Error, OSError, SpoolError) as again:
                error = again
            else:
                return
        if not self._memory.failing:
            _log.error(
                "cannot write the spool %s (%s); records are kept in RAM until the card"
                " takes them: see its free space",
                self._path,
                error,
            )
        self._memory.failing = True
