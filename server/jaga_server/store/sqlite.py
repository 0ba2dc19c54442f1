"""The collector's database: SQLite in WAL mode, synchronous=FULL. The writer's half.

One thread owns a `Store`. What is committed survives a power cut; that is what makes it
right to acknowledge to the broker. Reading is `store.reader`.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from jaga_agent.wire.evidence import CODE_OF
from jaga_server.core import dating
from jaga_server.core.coverage import Coverage
from jaga_server.core.dating import Offset
from jaga_server.errors import StoreError, StoreReplacedError
from jaga_server.store import held, orders, rows
from jaga_server.store.memory import Memory, remember
from jaga_server.store.opening import connect

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from jaga_agent.wire.orders import Order, Reply
    from jaga_server.core.dating import Dated
    from jaga_server.core.model import SiteState
    from jaga_server.store.rows import Record

log = logging.getLogger(__name__)

DEAD_LETTERS = 1000
DEAD_LETTER_BYTES = 4096
BOOTS_CACHED = 20_000
TOUCHED_MS = 60_000
"""A boot's last arrival is kept to this: not every heartbeat writes its row anew."""


class UnstorableError(ValueError):
    """A value that no retry will ever get into the database."""


class ConflictError(ValueError):
    """A record of that number is stored, and is another one."""


@dataclass(slots=True)
class _Boot:
    number: int
    site_no: int
    site: str
    offset: Offset | None
    touched_ms: int
    committed: Coverage
    """What the tables hold."""
    coverage: Coverage
    """… and what they will hold after this transaction."""
    new: bool
    """Its row is of this transaction."""
    booked_ms: int = 0


class Store:
    """The database, open for writing."""

    def __init__(self, path: Path) -> None:
        """Open or create it and bring it up to date; raises StoreError."""
        self.path = path
        self._sites: dict[str, int] = {}
        self._boots: dict[tuple[int, bytes], _Boot] = {}
        self._dirty: dict[int, _Boot] = {}
        self._touched: dict[str, bool] = {}
        self._seen_version: int | None = None
        self._db = connect(path)
        self._file = _file(path)
        self.identity: bytes = self._db.execute(
            "SELECT store FROM collector"
        ).fetchone()[0]
        """Names this database to the sites, STORE_BYTES long."""

    def close(self) -> None:
        """Close the file; what was committed is in it."""
        self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all that is written inside, or nothing.

        Raises StoreError where a retry may help (locked, disk full, I/O, damaged),
        UnstorableError where it never will, and StoreReplacedError when the file is
        another one by now.
        """
        if _file(self.path) != self._file:
            # What is committed from here on would be in a file without a name.
            message = (
                f"store {self.path}: the file was replaced while the collector runs;"
                " stop the collector first, then replace it"
            )
            raise StoreReplacedError(message)
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._touched = {}
            self._refresh()
            yield
            self._flush()
            self._db.execute("COMMIT")
        except BaseException as error:
            self._forget()
            # DatabaseError itself: damaged. A person may mend that, so nothing is
            # given up for it.
            if isinstance(error, sqlite3.OperationalError) or (
                type(error) is sqlite3.DatabaseError
            ):
                message = f"store {self.path}: {error}"
                raise StoreError(message) from error
            if isinstance(error, (sqlite3.Error, OverflowError, UnicodeEncodeError)):
                raise UnstorableError(str(error)) from error
            raise

    @contextlib.contextmanager
    def part(self) -> Iterator[None]:
        """Keep a part of a transaction apart: undone alone if it can never be stored.

        Raises UnstorableError then; the transaction goes on.
        """
        self._flush()
        self._db.execute("SAVEPOINT part")
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError) as error:
            self._db.execute("ROLLBACK TO part")
            self._drop_caches()
            raise UnstorableError(str(error)) from error
        finally:
            if self._db.in_transaction:
                self._db.execute("RELEASE part")

    def _refresh(self) -> None:
        """Forget what another process may have changed since our last transaction."""
        version: int = self._db.execute("PRAGMA data_version").fetchone()[0]
        if version != self._seen_version:
            self._drop_caches()
            self._seen_version = version

    def _drop_caches(self) -> None:
        self._sites.clear()
        self._boots.clear()
        self._dirty.clear()

    def _forget(self) -> None:
        """Undo, and drop the caches that may name rows that were undone."""
        self._drop_caches()
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def touched(self) -> dict[str, bool]:
        """Return the sites that this transaction has records of.

        True: the site must hear of it soon: its gaps are others now, or a boot is new.
        """
        self._flush()
        return self._touched

    def _flush(self) -> None:
        """Write the coverage of the boots that this transaction has records of."""
        for boot in self._dirty.values():
            pressing = boot.new or boot.coverage.gaps != boot.committed.gaps
            self._touched[boot.site] = pressing or self._touched.get(boot.site, False)
            if boot.coverage is not boot.committed:
                held.save(
                    self._db,
                    boot.number,
                    boot.committed,
                    boot.coverage,
                    boot.booked_ms,
                )
                boot.committed = boot.coverage
            boot.new = False
        self._dirty.clear()

    def add(
        self, site: str, leaf: str, record: Record, payload: bytes, arrival_ms: int
    ) -> Dated | None:
        """Store a record; return when it was made, or None if it is a repeat.

        Raises ConflictError if another record of that number is stored.
        """
        boot = self._boot(site, record.boot, arrival_ms)
        # A repeat too: what the coverage has given up (core.coverage) it learns again.
        boot.coverage = boot.coverage.stored(record.seq)
        told = dating.offset(
            record.at_ms, record.wall_ms, record.clock_age_s, arrival_ms
        )
        dated = dating.event_time(
            record.at_ms, dating.better(boot.offset, told), arrival_ms
        )
        added = self._db.execute(
            "INSERT OR IGNORE INTO record VALUES (?,?,?,?,?,?,?,?)",
            (
                boot.number,
                record.seq,
                leaf,
                dated.t_ms,
                arrival_ms,
                record.at_ms,
                record.wall_ms,
                record.clock_age_s,
            ),
        )
        if added.rowcount == 0:
            self._compare(boot.number, record.seq, payload)
            return None
        self._db.execute(
            "INSERT INTO payload VALUES (?,?,?,?)",
            (boot.number, record.seq, CODE_OF[leaf], payload),
        )
        rows.insert(self._db, boot.number, boot.site_no, record, dated.t_ms)
        self._date(boot, dating.better(boot.offset, told))
        return dated

    def _compare(self, boot_no: int, seq: int, payload: bytes) -> None:
        """Raise ConflictError unless the stored record is this one."""
        stored = self._db.execute(
            "SELECT payload FROM payload WHERE boot_no = ? AND seq = ?", (boot_no, seq)
        ).fetchone()
        if stored is not None and stored[0] != payload:
            message = f"record {seq} of that boot is stored, and has other bytes"
            raise ConflictError(message)

    def _date(self, boot: _Boot, start: Offset | None) -> None:
        """Take what a boot is dated by from now on; date it anew where that is news."""
        before, boot.offset = boot.offset, start
        if start is None or start == before:
            return
        self._db.execute(
            "UPDATE boot SET offset_ms = ?, offset_age_s = ? WHERE boot_no = ?",
            (start.start_ms, start.age_s, boot.number),
        )
        if before is None or before.start_ms != start.start_ms:
            moved = rows.redate(self._db, boot.number, boot.site_no, start.start_ms)
            if moved:
                log.info(
                    "boot dated site=%s start_ms=%d confirmation_age_s=%d records=%d",
                    boot.site,
                    start.start_ms,
                    start.age_s,
                    moved,
                )

    def lose(
        self, site: str, boot: bytes, first: int, last: int, arrival_ms: int
    ) -> int:
        """Book first…last (from 1) as lost but what is stored; return how many are new."""
        known = self._boot(site, boot, arrival_ms)
        before = known.coverage
        known.coverage = before.declared_lost(first, last)
        known.booked_ms = arrival_ms
        return known.coverage.lost_count - before.lost_count

    def log_command(
        self, site: str, order: Order, payload: bytes, arrival_ms: int
    ) -> bool:
        """Log what an operator ordered; False: that very message came before."""
        number = self._site_no(site)
        return orders.command(self._db, number, order, payload, arrival_ms) == 1

    def log_reply(
        self, site: str, told: Reply, payload: bytes, arrival_ms: int
    ) -> bool:
        """Log what a site answered; False: that very message came before."""
        number = self._site_no(site)
        return orders.reply(self._db, number, told, payload, arrival_ms) == 1

    def _site_no(self, site: str) -> int:
        number = self._sites.get(site)
        if number is None:
            self._db.execute("INSERT OR IGNORE INTO site (site) VALUES (?)", (site,))
            number = int(
                self._db.execute(
                    "SELECT site_no FROM site WHERE site = ?", (site,)
                ).fetchone()[0]
            )
            self._sites[site] = number
        return number

    def _boot(self, site: str, boot: bytes, arrival_ms: int) -> _Boot:
        site_no = self._site_no(site)
        known = self._boots.get((site_no, boot))
        if known is None:
            if len(self._boots) >= BOOTS_CACHED:
                self._boots = {
                    key: each
                    for key, each in self._boots.items()
                    if each.number in self._dirty
                }
            known = self._read_boot(site, site_no, boot, arrival_ms)
            self._boots[site_no, boot] = known
        elif arrival_ms - known.touched_ms >= TOUCHED_MS:
            self._db.execute(
                "UPDATE boot SET touched_ms = ? WHERE boot_no = ?",
                (arrival_ms, known.number),
            )
            known.touched_ms = arrival_ms
        self._dirty[known.number] = known
        return known

    def _read_boot(
        self, site: str, site_no: int, boot: bytes, arrival_ms: int
    ) -> _Boot:
        """Return a boot as the tables have it; its row is made if there is none."""
        row = self._db.execute(
            "UPDATE boot SET touched_ms = max(touched_ms, ?)"
            " WHERE site_no = ? AND boot = ?"
            " RETURNING boot_no, offset_ms, offset_age_s, touched_ms",
            (arrival_ms, site_no, boot),
        ).fetchone()
        if row is not None:
            number, start_ms, age_s, touched_ms = row
            offset = None if start_ms is None else Offset(start_ms, age_s)
            covered = held.load(self._db, number)
            return _Boot(
                number, site_no, site, offset, touched_ms, covered, covered, new=False
            )
        number = self._db.execute(
            "INSERT INTO boot (site_no, boot, first_arrival_ms, touched_ms)"
            " VALUES (?,?,?,?) RETURNING boot_no",
            (site_no, boot, arrival_ms, arrival_ms),
        ).fetchone()[0]
        none = Coverage()
        return _Boot(number, site_no, site, None, arrival_ms, none, none, new=True)

    def save_states(self, states: Mapping[str, SiteState]) -> None:
        """Keep what is known of these sites now."""
        self._db.executemany(
            "INSERT INTO site_state VALUES (?,?)"
            " ON CONFLICT (site_no) DO UPDATE SET state = excluded.state",
            [
                (self._site_no(site), msgspec.msgpack.encode(state))
                for site, state in states.items()
            ],
        )

    def save_hearing(self, heard_ms: int, last_message_ms: int | None) -> None:
        """Keep the hearing clock's reading."""
        self._db.execute(
            "UPDATE collector SET heard_ms = ?, last_message_ms = ?",
            (heard_ms, last_message_ms),
        )

    def bury(self, arrival_ms: int, topic: str, reason: str, payload: bytes) -> None:
        """Keep a payload that can never be stored; the oldest of many go."""
        self._db.execute(
            "INSERT INTO dead_letter (arrival_ms, topic, reason, payload)"
            " VALUES (?,?,?,?)",
            (arrival_ms, topic, reason, payload[:DEAD_LETTER_BYTES]),
        )
        self._db.execute(
            "DELETE FROM dead_letter WHERE id <= (SELECT max(id) FROM dead_letter) - ?",
            (DEAD_LETTERS,),
        )

    def next_revisions(self, count: int, wall_ms: int) -> range:
        """Return so many revisions for watermarks, higher than any before.

        They follow the wall clock, so that a database that was set back to a backup does
        not give out again what it gave out since.
        """
        (last,) = self._db.execute("SELECT revision FROM collector").fetchone()
        first = max(wall_ms, last + 1)
        self._db.execute("UPDATE collector SET revision = ?", (first + count - 1,))
        return range(first, first + count)

    def recent_boots(self, site: str, limit: int) -> list[tuple[bytes, Coverage]]:
        """Return at most `limit` boots of a site and what is settled, touched last first."""
        found = self._db.execute(
            "SELECT boot, boot_no FROM boot JOIN site USING (site_no) WHERE site = ?"
            " ORDER BY touched_ms DESC, boot_no DESC LIMIT ?",
            (site, limit),
        ).fetchall()
        return [(boot, held.load(self._db, number)) for boot, number in found]

    def sites_touched(self, since_ms: int) -> list[str]:
        """Return the sites of which records came since then, the last first."""
        return [
            site
            for (site,) in self._db.execute(
                "SELECT site FROM boot JOIN site USING (site_no) WHERE touched_ms >= ?"
                " GROUP BY site_no ORDER BY max(touched_ms) DESC",
                (since_ms,),
            )
        ]

    def remember(self) -> Memory:
        """Return what was known when the collector last ran."""
        return remember(self._db)


def _file(path: Path) -> tuple[int, int] | None:
    """Return which file has that name now; None: none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
