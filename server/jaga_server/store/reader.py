"""Reads the database for the page and the terminal; cannot write.

Several readers work at once beside the writer (WAL). Connections are few, read-only, and
used by one thread at a time. Every read is short: a long one would keep the WAL growing.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from jaga_agent.wire.messages import ModeCode
from jaga_server.core import coverage
from jaga_server.core.model import Mode, Transition
from jaga_server.core.series import Sample
from jaga_server.errors import StoreError
from jaga_server.store import held
from jaga_server.store.memory import Memory, remember
from jaga_server.store.opening import migrations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jaga_server.core.coverage import Coverage

CONNECTIONS = 4
MODES = {code.value: Mode[code.name] for code in ModeCode}

_EVENTS = (
    "SELECT site, boot, event.seq, event.t_ms, arrival_ms, kind, rule, uplink, old, new,"
    " reason, detected_ms, switched_ms, evidence, offset_ms IS NOT NULL FROM event"
    " JOIN site USING (site_no) JOIN boot USING (boot_no)"
    " JOIN record ON record.boot_no = event.boot_no AND record.seq = event.seq"
)
_SAMPLES = """
    WITH RECURSIVE span(n) AS (
        VALUES (:from_ms / 60000) UNION ALL
        SELECT n + 1 FROM span WHERE n < :to_ms / 60000
    )
    SELECT t_ms, uplink, mode, sent, lost, rtt_min_us, rtt_mean_us, rtt_max_us, active,
        offset_ms IS NOT NULL
    FROM span CROSS JOIN sample ON minute = n CROSS JOIN boot USING (boot_no)
    WHERE sample.site_no = (SELECT site_no FROM site WHERE site = :site)
        AND t_ms BETWEEN :from_ms AND :to_ms
    ORDER BY t_ms
"""
# CROSS JOIN keeps SQLite to this order: one seek for each minute, not a scan.
_BOOTS = (
    "SELECT boot_no, site, boot, offset_ms, first_arrival_ms, touched_ms FROM boot"
    " JOIN site USING (site_no)"
)


@dataclass(frozen=True, slots=True)
class Tally:
    """What is stored of one boot."""

    heartbeats: int
    lost: int
    """Records that the site said it will never send."""
    missing: int
    """Numbers in gaps: neither stored nor said to be lost."""
    last_seq: int | None
    """The highest that is stored; None while nothing is."""


@dataclass(frozen=True, slots=True)
class BootHeld:
    """What the database holds of one boot."""

    site: str
    boot: bytes
    began_ms: int | None
    """Unix milliseconds; None: no record of it had a confirmed clock yet."""
    first_arrival_ms: int
    touched_ms: int
    """Last arrival, to the minute."""
    coverage: Coverage


class Reader:
    """A pool of read-only connections."""

    def __init__(self, path: Path) -> None:
        """Check that the database is there and known; raises StoreError."""
        self._path = path
        self._free: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        newest = migrations()[-1][0]
        if not path.is_file():
            message = f"store {path}: there is no such file; run the collector first"
            raise StoreError(message)
        with self._borrow() as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
        if version != newest:
            self.close()
            message = (
                f"store {path}: version {version}, this collector knows {newest}; "
                "run `jaga-collector run` of the same version first"
            )
            raise StoreError(message)

    def close(self) -> None:
        """Close the connections that are not in use."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._free.get_nowait().close()

    @contextlib.contextmanager
    def _borrow(self) -> Iterator[sqlite3.Connection]:
        db: sqlite3.Connection | None = None
        try:
            try:
                db = self._free.get_nowait()
            except queue.Empty:
                db = sqlite3.connect(
                    f"{self._path.resolve().as_uri()}?mode=ro",
                    uri=True,
                    timeout=5,
                    isolation_level=None,
                    check_same_thread=False,
                )
            yield db
        except sqlite3.Error as error:
            if db is not None:
                db.close()
            message = f"store {self._path}: {error}"
            raise StoreError(message) from error
        if self._free.qsize() >= CONNECTIONS:
            db.close()
        else:
            self._free.put(db)

    def remember(self) -> Memory:
        """Return what is known of every site; raises StoreError."""
        with self._borrow() as db:
            return remember(db)

    def events(self, limit: int, site: str | None = None) -> list[Transition]:
        """Return at most `limit` events, newest first; raises StoreError."""
        of_site = (
            " WHERE event.site_no = (SELECT site_no FROM site WHERE site = :site)"
            if site is not None
            else ""
        )
        sql = (
            f"{_EVENTS}{of_site}"
            " ORDER BY event.t_ms DESC, event.boot_no DESC, event.seq DESC LIMIT :limit"
        )
        with self._borrow() as db:
            rows = db.execute(sql, {"site": site, "limit": limit}).fetchall()
        return [
            Transition(*facts)
            for facts in (
                (
                    *row[:-2],
                    msgspec.json.decode(row[-2], type=dict[str, str]),
                    bool(row[-1]),
                )
                for row in rows
            )
        ]

    def samples(self, site: str, from_ms: int, to_ms: int) -> dict[str, list[Sample]]:
        """Return uplink → samples in order of time; raises StoreError."""
        found: dict[str, list[Sample]] = {}
        with self._borrow() as db:
            rows = db.execute(
                _SAMPLES, {"site": site, "from_ms": from_ms, "to_ms": to_ms}
            ).fetchall()
        for t_ms, name, mode, sent, lost, least, mean, most, active, by_clock in rows:
            found.setdefault(name, []).append(
                Sample(
                    t_ms,
                    name,
                    MODES[mode],
                    sent,
                    lost,
                    _ms(least),
                    _ms(mean),
                    _ms(most),
                    bool(active),
                    bool(by_clock),
                )
            )
        return found

    def tally(self, site: str, boot: bytes) -> Tally:
        """Return what is stored of a site's boot; raises StoreError."""
        with self._borrow() as db:
            found = db.execute(
                "SELECT boot_no FROM boot JOIN site USING (site_no)"
                " WHERE site = ? AND boot = ?",
                (site, boot),
            ).fetchone()
            if found is None:
                return Tally(0, 0, 0, None)
            highest, heartbeats = db.execute(
                "SELECT max(seq), coalesce(sum(leaf = 'heartbeat'), 0) FROM record"
                " WHERE boot_no = ?",
                found,
            ).fetchone()
            covered = held.load(db, found[0])
        missing = coverage.count(covered.gaps)
        return Tally(heartbeats, covered.lost_count, missing, highest)

    def boots(self, site: str, limit: int) -> list[BootHeld]:
        """Return at most `limit` boots of a site, touched last first; raises StoreError."""
        where = "WHERE site = :site ORDER BY touched_ms DESC, boot_no DESC LIMIT :limit"
        return self._boots(where, {"site": site, "limit": limit})

    def incomplete(self, site: str | None = None) -> list[BootHeld]:
        """Return the boots with gaps or losses, by site, oldest first; raises StoreError."""
        where = (
            "WHERE boot_no IN (SELECT boot_no FROM coverage GROUP BY boot_no"
            " HAVING count(*) > 1 OR min(first) > 1 UNION SELECT boot_no FROM lost)"
            " AND :site IN (site, '') ORDER BY site, first_arrival_ms, boot_no"
        )
        return self._boots(where, {"site": site or ""})

    def _boots(self, where: str, values: dict[str, object]) -> list[BootHeld]:
        with self._borrow() as db:
            # One snapshot: a span that grows meanwhile must not look like a gap.
            db.execute("BEGIN")
            try:
                rows = db.execute(f"{_BOOTS} {where}", values).fetchall()
                return [
                    BootHeld(site, boot, began, first, touched, held.load(db, number))
                    for number, site, boot, began, first, touched in rows
                ]
            finally:
                db.execute("COMMIT")


def _ms(us: int | None) -> float | None:
    return None if us is None else us / 1000
