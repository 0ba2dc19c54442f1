"""The collector's database: SQLite in WAL mode, synchronous=FULL. The writer's half.

One thread owns a `Store`. What is committed survives a power cut; that is what makes it
right to acknowledge to the broker. Reading is `store.reader`.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

import msgspec

from jaga_agent.wire.messages import Event, Heartbeat
from jaga_server.core import dating
from jaga_server.core.model import SiteState
from jaga_server.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

APPLICATION_ID = 0x4A414741
"""SQLite's `application_id` of our files: "JAGA"."""
BUSY_S = 5.0
DEAD_LETTERS = 1000
DEAD_LETTER_BYTES = 4096
BOOTS_CACHED = 20_000

_STATE = msgspec.msgpack.Decoder(SiteState)


class UnstorableError(ValueError):
    """A value that no retry will ever get into the database."""


@dataclass(slots=True)
class _Boot:
    number: int
    site_no: int
    offset_ms: int | None


@dataclass(frozen=True, slots=True)
class Memory:
    """What a restarted collector knows at once."""

    states: dict[str, SiteState]
    heard_ms: int
    last_message_ms: int | None


def migrations() -> list[tuple[int, str]]:
    """Return (number, SQL) of every migration, in order."""
    folder = resources.files("jaga_server.store") / "migrations"
    return sorted(
        (int(item.name.split("_")[0]), item.read_text(encoding="utf-8"))
        for item in folder.iterdir()
        if item.name.endswith(".sql")
    )


class Store:
    """The database, open for writing."""

    def __init__(self, path: Path) -> None:
        """Open or create it and bring it up to date; raises StoreError."""
        self.path = path
        self._sites: dict[str, int] = {}
        self._boots: dict[tuple[int, bytes], _Boot] = {}
        try:
            self._db = sqlite3.connect(
                path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            message = f"store {path}: {error}; check [store] path and its permissions"
            raise StoreError(message) from error
        try:
            self._migrate()
        except sqlite3.Error as error:
            self._db.close()
            message = f"store {path}: {error}; check that file, or name another one"
            raise StoreError(message) from error
        except StoreError:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file; what was committed is in it."""
        self._db.close()

    def _migrate(self) -> None:
        version: int = self._db.execute("PRAGMA user_version").fetchone()[0]
        owner: int = self._db.execute("PRAGMA application_id").fetchone()[0]
        tables: int = self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[
            0
        ]
        if tables and owner != APPLICATION_ID:
            message = (
                f"store {self.path}: not a collector's database; name another file"
            )
            raise StoreError(message)
        steps = migrations()
        newest = steps[-1][0]
        if version > newest:
            message = (
                f"store {self.path}: written by a newer collector (version {version}, "
                f"this one knows {newest}); install that collector or name another file"
            )
            raise StoreError(message)
        self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        mode: str = self._db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            message = (
                f"store {self.path}: this file system has no WAL; use a local disk"
            )
            raise StoreError(message)
        self._db.execute("PRAGMA synchronous = FULL")
        for number, sql in steps:
            if number > version:
                self._db.executescript(
                    f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nCOMMIT;"
                )
                log.info("store migrated path=%s version=%d", self.path, number)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all that is written inside, or nothing.

        Raises StoreError where a retry may help (locked, disk full, I/O), and
        UnstorableError where it never will.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            self._forget()
            if isinstance(error, sqlite3.OperationalError):
                message = f"store {self.path}: {error}"
                raise StoreError(message) from error
            if isinstance(error, (sqlite3.Error, OverflowError, UnicodeEncodeError)):
                raise UnstorableError(str(error)) from error
            raise

    def _forget(self) -> None:
        """Undo, and drop the caches that may name rows that were undone."""
        self._sites.clear()
        self._boots.clear()
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def add(
        self, site: str, leaf: str, message: Heartbeat | Event, arrival_ms: int
    ) -> int | None:
        """Store a record; return its event time, or None if it is a repeat."""
        boot = self._boot(site, message.boot, arrival_ms)
        own = dating.offset_ms(
            message.at_ms, message.wall_ms, message.clock_age_s, arrival_ms
        )
        t_ms = dating.event_time(message.at_ms, boot.offset_ms, own, arrival_ms)
        added = self._db.execute(
            "INSERT OR IGNORE INTO record VALUES (?,?,?,?,?,?,?,?)",
            (
                boot.number,
                message.seq,
                leaf,
                t_ms,
                arrival_ms,
                message.at_ms,
                message.wall_ms,
                message.clock_age_s,
            ),
        )
        if added.rowcount == 0:
            return None
        if own is not None and boot.offset_ms is None:
            boot.offset_ms = own
            self._db.execute(
                "UPDATE boot SET offset_ms = ? WHERE boot_no = ?", (own, boot.number)
            )
        if isinstance(message, Heartbeat):
            self._add_samples(boot, message, t_ms)
        else:
            self._add_event(boot, message, t_ms)
        return t_ms

    def _add_samples(self, boot: _Boot, beat: Heartbeat, t_ms: int) -> None:
        key = (t_ms // 60_000, boot.site_no, t_ms, boot.number, beat.seq)
        self._db.executemany(
            "INSERT INTO sample VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            [
                (
                    *key,
                    uplink.name,
                    uplink.health.value,
                    uplink.name == beat.active,
                    beat.mode.value,
                    uplink.sent,
                    uplink.lost,
                    uplink.not_sent,
                    uplink.rtt_min_us,
                    uplink.rtt_mean_us,
                    uplink.rtt_max_us,
                    uplink.rx_bytes,
                    uplink.tx_bytes,
                    uplink.signal_dbm,
                )
                for uplink in beat.uplinks
            ],
        )
        host = beat.host
        self._db.execute(
            "INSERT INTO host_sample VALUES (?,?,?,?,?,?,?,?,?,?)",
            (
                *key,
                host.uptime_s,
                host.cpu_permille,
                host.memory_permille,
                host.disk_permille,
                host.temperature_decidegc,
            ),
        )

    def _add_event(self, boot: _Boot, event: Event, t_ms: int) -> None:
        self._db.execute(
            "INSERT INTO event VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                t_ms,
                boot.number,
                event.seq,
                boot.site_no,
                event.kind,
                event.rule,
                event.uplink,
                event.old,
                event.new,
                event.reason,
                event.detected_ms,
                event.switched_ms,
                msgspec.json.encode(event.evidence).decode(),
            ),
        )

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
                self._boots.clear()
            self._db.execute(
                "INSERT OR IGNORE INTO boot (site_no, boot, first_arrival_ms)"
                " VALUES (?,?,?)",
                (site_no, boot, arrival_ms),
            )
            number, offset_ms = self._db.execute(
                "SELECT boot_no, offset_ms FROM boot WHERE site_no = ? AND boot = ?",
                (site_no, boot),
            ).fetchone()
            known = self._boots[site_no, boot] = _Boot(number, site_no, offset_ms)
        return known

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

    def remember(self) -> Memory:
        """Return what was known when the collector last ran."""
        return remember(self._db)


def remember(db: sqlite3.Connection) -> Memory:
    """Return what the database knows of every site; raises sqlite3.Error."""
    states = {}
    for site, blob in db.execute(
        "SELECT site, state FROM site_state JOIN site USING (site_no)"
    ):
        try:
            states[site] = _STATE.decode(blob)
        except msgspec.MsgspecError as error:
            # It is only a shortcut: the site's next report builds it anew.
            log.warning("state unreadable site=%s reason=%s", site, error)
    heard_ms, last_message_ms = db.execute(
        "SELECT heard_ms, last_message_ms FROM collector"
    ).fetchone()
    return Memory(states, heard_ms, last_message_ms)
