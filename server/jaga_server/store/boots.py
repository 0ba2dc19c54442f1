"""The boots of the sites: their numbers, dates and coverage, cached and written back.

Inside a transaction of the `Store` that owns it, whose cache it is: after a transaction
that failed, or another process's, the cache is dropped.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaga_server.core.coverage import Coverage
from jaga_server.core.dating import Offset
from jaga_server.store import held, rows

if TYPE_CHECKING:
    import sqlite3

log = logging.getLogger(__name__)

BOOTS_CACHED = 20_000
TOUCHED_MS = 60_000
"""A boot's last arrival is kept to this: not every heartbeat writes its row anew."""


@dataclass(slots=True)
class Boot:
    """One boot, as this transaction leaves it."""

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


class Boots:
    """Numbers for names, and what is settled of each boot."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._sites: dict[str, int] = {}
        self._boots: dict[tuple[int, bytes], Boot] = {}
        self._latest: dict[int, tuple[int | None, int]] = {}
        """Site → its boot that was touched last, and when."""
        self._dirty: dict[int, Boot] = {}
        self._touched: dict[str, bool] = {}

    def begin(self) -> None:
        """Take that a transaction begins."""
        self._touched = {}

    def drop(self) -> None:
        """Forget all that the tables may say otherwise by now."""
        self._sites.clear()
        self._boots.clear()
        self._latest.clear()
        self._dirty.clear()

    def touched(self) -> dict[str, bool]:
        """Return the sites that this transaction has records of.

        True: the site must hear of it soon: a boot is new.
        """
        self.flush()
        return self._touched

    def flush(self) -> None:
        """Write the coverage of the boots that this transaction has records of."""
        for boot in self._dirty.values():
            self._touched[boot.site] = boot.new or self._touched.get(boot.site, False)
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

    def date(self, boot: Boot, start: Offset | None) -> None:
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

    def site_no(self, site: str) -> int:
        """Return a site's number; it gets one if it has none."""
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

    def take(self, site: str, boot: bytes, arrival_ms: int) -> Boot:
        """Return a boot of which something came; it is made if it is new."""
        site_no = self.site_no(site)
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
        self._touch(known, arrival_ms)
        self._dirty[known.number] = known
        return known

    def _touch(self, boot: Boot, arrival_ms: int) -> None:
        """Keep when a boot was touched; the one touched last has the highest time.

        One history may be of many boots, and a watermark has room for a few: those that
        are sent again must come to the front.
        """
        last, last_ms = self._latest.get(boot.site_no, (None, 0))
        if last == boot.number and arrival_ms - boot.touched_ms < TOUCHED_MS:
            return
        touched_ms = max(arrival_ms, last_ms + 1)
        if touched_ms != boot.touched_ms:
            self._db.execute(
                "UPDATE boot SET touched_ms = ? WHERE boot_no = ?",
                (touched_ms, boot.number),
            )
        boot.touched_ms = touched_ms
        self._latest[boot.site_no] = (boot.number, touched_ms)

    def _read_boot(self, site: str, site_no: int, boot: bytes, arrival_ms: int) -> Boot:
        """Return a boot as the tables have it; its row is made if there is none."""
        if site_no not in self._latest:
            latest = self._db.execute(
                "SELECT boot_no, max(touched_ms) FROM boot WHERE site_no = ?",
                (site_no,),
            ).fetchone()
            self._latest[site_no] = (latest[0], latest[1] or 0)
        row = self._db.execute(
            "SELECT boot_no, offset_ms, offset_age_s, touched_ms FROM boot"
            " WHERE site_no = ? AND boot = ?",
            (site_no, boot),
        ).fetchone()
        if row is not None:
            number, start_ms, age_s, touched_ms = row
            offset = None if start_ms is None else Offset(start_ms, age_s)
            covered = held.load(self._db, number)
            return Boot(
                number, site_no, site, offset, touched_ms, covered, covered, new=False
            )
        number = self._db.execute(
            "INSERT INTO boot (site_no, boot, first_arrival_ms, touched_ms)"
            " VALUES (?,?,?,?) RETURNING boot_no",
            (site_no, boot, arrival_ms, arrival_ms),
        ).fetchone()[0]
        none = Coverage()
        return Boot(number, site_no, site, None, arrival_ms, none, none, new=True)
