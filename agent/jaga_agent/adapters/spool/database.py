"""The spool's file on the card: one SQLite database in WAL mode, and what it takes.

Made for an SD card. Pages of 1 KiB: a batch of three heartbeats dirties one or two. The
write-ahead log is made in its full length beforehand and not cut, so that a commit
overwrites blocks which the file system has, and `fdatasync` waits for no metadata.
`synchronous = FULL`: what is committed survives power loss.

It decides nothing; the functions raise sqlite3.Error and OSError as they come.
"""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from jaga_agent.adapters.spool import migration
from jaga_agent.adapters.spool.coverage import Boot
from jaga_agent.adapters.spool.crc import crc_of, crc_of_boot
from jaga_agent.errors import SpoolError
from jaga_agent.wire.evidence import BootMark

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

SCHEMA_VERSION: Final = 2
PAGE_BYTES: Final = 1024
LOG_FRAMES: Final = 1000
"""Of the write-ahead log between checkpoints: some hours of batches."""
LOG_BYTES: Final = 1_500_000
"""The log's file: room for those frames, and a long transaction's on top."""
BOOT_GAP: Final = 1 << 20
"""Tokens left out before a new boot: more than a power cut can have taken with it."""
_BUSY_S: Final = 1.0
_ASIDE_KEPT: Final = 3

_SCHEMA = f"""
CREATE TABLE records (
    token INTEGER PRIMARY KEY,
    leaf INTEGER NOT NULL,
    payload BLOB NOT NULL,
    crc INTEGER NOT NULL
) STRICT;
CREATE TABLE boots (
    name BLOB PRIMARY KEY,
    base INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    highest INTEGER NOT NULL,
    mark BLOB
) STRICT;
CREATE TABLE hours (first INTEGER PRIMARY KEY) STRICT;
CREATE TABLE state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    spool_id BLOB NOT NULL,
    incarnation INTEGER NOT NULL,
    last_token INTEGER NOT NULL,
    dropped INTEGER NOT NULL,
    store BLOB NOT NULL,
    revision INTEGER NOT NULL
) STRICT;
PRAGMA user_version = {SCHEMA_VERSION};
"""

_CORRUPT: Final = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    # A table is missing, a column is of another type: the file is not the one we made.
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_CONSTRAINT,
)
_CARD: Final = (
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY),
    # Somebody looks into the file, or an agent that was killed still waits for the card.
    sqlite3.SQLITE_BUSY,
)
_CARD_ERRNO: Final = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT)
_MARK: Final = msgspec.msgpack.Decoder(BootMark)
_BOOTS: Final = "SELECT name, base, crc, highest, mark FROM boots ORDER BY base"
_NOT_WRITTEN: Final = (
    "a boot's name is not what was written",
    "a boot's mark is not what was written",
)

Row = tuple[int, int, bytes]
"""token, leaf, payload."""


@dataclass(slots=True)
class State:
    """What the database says of itself."""

    spool_id: bytes
    incarnation: int
    last_token: int
    dropped: int
    store: bytes
    revision: int


def is_corrupt(error: Exception) -> bool:
    """Return whether the file is not what was written."""
    return _code(error) in _CORRUPT


def is_card(error: Exception, path: Path) -> bool:
    """Return whether the card is full, fails or is busy, which may pass."""
    if isinstance(error, OSError):
        return error.errno in _CARD_ERRNO
    if _code(error) == sqlite3.SQLITE_CANTOPEN:
        # SQLite says no more of a file that it cannot create.
        try:
            card = os.statvfs(path.parent)
        except OSError:
            return False
        return bool(card.f_flag & os.ST_RDONLY) or card.f_bavail == 0
    return _code(error) in _CARD


def is_full(error: Exception) -> bool:
    """Return whether there is merely no room: what is there can be read."""
    return _code(error) == sqlite3.SQLITE_FULL


def _code(error: Exception) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def damaged(why: str) -> sqlite3.DatabaseError:
    """Return the error of a file that SQLite itself found nothing wrong with."""
    error = sqlite3.DatabaseError(why)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


class Database:
    """An open file, for one thread at a time: see `Gate`."""

    def __init__(self, path: Path) -> None:
        """Open or make it; an older version's file is made into one of this."""
        self._path = path
        self.unnamed = 0
        """Records of an older version's file that named no boot and were left out."""
        self._db = sqlite3.connect(
            path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare()
            # Not before: SQLite deletes the log of a file that is empty.
            _make_log(path.with_name(path.name + "-wal"))
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        run = self._db.execute
        # Without an index of the log in a file beside it, which the kernel would write
        # to the card each half minute. Nobody else can read the file meanwhile.
        run("PRAGMA locking_mode = EXCLUSIVE")
        (version,) = run("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            msg = (
                f"the spool {self._path} is of version {version}, made by a newer"
                f" jaga-agent; this one knows {SCHEMA_VERSION}: install the newer one"
                " again, or move the file away"
            )
            raise SpoolError(msg)
        run(f"PRAGMA page_size = {PAGE_BYTES}")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run(f"PRAGMA wal_autocheckpoint = {LOG_FRAMES}")
        # Debian's SQLite would overwrite what is deleted: writes for nothing.
        run("PRAGMA secure_delete = OFF")
        run("PRAGMA cache_size = -1024")
        if version == SCHEMA_VERSION:
            return
        run("BEGIN IMMEDIATE")
        try:
            if version == 1:
                self.unnamed = migration.from_version_1(self._db, _SCHEMA)
            else:
                migration.execute_each(self._db, _SCHEMA)
                run(
                    "INSERT INTO state VALUES (1, ?, 0, 0, 0, x'', 0)",
                    (secrets.token_bytes(16),),
                )
            run("COMMIT")
        except BaseException:
            self.roll_back()
            raise

    def state(self) -> State:
        row = self._db.execute(
            "SELECT spool_id, incarnation, last_token, dropped, store, revision"
            " FROM state"
        ).fetchone()
        if row is None:
            msg = "no state"
            raise damaged(msg)
        return State(*row)

    def boots(self) -> list[Boot]:
        """Return the boots known, oldest first."""
        return [_boot(row) for row in self._db.execute(_BOOTS).fetchall()]

    def hours(self) -> list[int]:
        return [n for (n,) in self._db.execute("SELECT first FROM hours ORDER BY 1")]

    def tokens(self) -> Iterator[tuple[int, int]]:
        """Yield the token and leaf of each record: a walk over the whole file."""
        yield from self._db.execute("SELECT token, leaf FROM records ORDER BY token")

    def select(self, first: int, last: int, limit: int) -> list[Row]:
        """Return at most `limit` records of first…last that are what was written."""
        return [
            (token, leaf, payload)
            for token, leaf, payload, crc in self._db.execute(
                "SELECT token, leaf, payload, crc FROM records"
                " WHERE token BETWEEN ? AND ? ORDER BY token LIMIT ?",
                (first, last, limit),
            ).fetchall()
            if is_whole(token, leaf, payload, crc)
        ]

    def check(self) -> None:
        """Raise a corruption's error if the file is not sound: reads all of it."""
        # What is in RAM may be sounder than what is on the card.
        self._db.execute("PRAGMA shrink_memory")
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise damaged(verdict)

    def begin(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self._db.execute("COMMIT")

    def roll_back(self) -> None:
        """End a transaction without effect, if there is one."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def insert(self, rows: Iterable[Row]) -> None:
        """Put records in; one that is there stays as it is."""
        self._db.executemany(
            "INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?)",
            ((t, leaf, payload, crc_of(t, leaf, payload)) for t, leaf, payload in rows),
        )

    def delete(self, first: int, last: int, *, but: int) -> list[int]:
        """Delete the records first…last but one; return their tokens."""
        return [
            token
            for (token,) in self._db.execute(
                "DELETE FROM records WHERE token BETWEEN ? AND ? AND token <> ?"
                " RETURNING token",
                (first, last, but),
            ).fetchall()
        ]

    def delete_oldest(
        self, leaves: Sequence[int], limit: int, *, after: int, but: int
    ) -> list[int]:
        """Delete the oldest records of these kinds above a token; return their tokens."""
        marks = ",".join("?" * len(leaves))
        return sorted(
            token
            for (token,) in self._db.execute(
                "DELETE FROM records WHERE token IN (SELECT token FROM records"  # noqa: S608 (question marks alone)
                f" WHERE leaf IN ({marks}) AND token > ? AND token <> ?"
                " ORDER BY token LIMIT ?) RETURNING token",
                (*leaves, after, but, limit),
            ).fetchall()
        )

    def save_boots(self, boots: Iterable[Boot], forgotten: Iterable[bytes]) -> None:
        self._db.executemany(
            "INSERT INTO boots VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE"
            " SET highest = excluded.highest, mark = excluded.mark",
            (
                (
                    boot.name,
                    boot.base,
                    crc_of_boot(boot.name, boot.base),
                    boot.highest,
                    None if boot.mark is None else msgspec.msgpack.encode(boot.mark),
                )
                for boot in boots
            ),
        )
        self._db.executemany(
            "DELETE FROM boots WHERE name = ?", ((name,) for name in forgotten)
        )

    def save_state(self, state: State) -> None:
        self._db.execute(
            "UPDATE state SET spool_id = ?, incarnation = ?, last_token = ?,"
            " dropped = ?, store = ?, revision = ?",
            (
                state.spool_id,
                state.incarnation,
                state.last_token,
                state.dropped,
                state.store,
                state.revision,
            ),
        )

    def begin_hour(self, first: int, *, keep: int) -> None:
        """Note that an hour begins at this token; forget all but the newest ones."""
        self._db.execute("INSERT OR IGNORE INTO hours VALUES (?)", (first,))
        self._db.execute(
            "DELETE FROM hours WHERE first NOT IN"
            " (SELECT first FROM hours ORDER BY first DESC LIMIT ?)",
            (keep,),
        )

    def used_bytes(self) -> int:
        """Return the size of the pages in use; a file never shrinks, but re-uses."""
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
        return int(pages - free) * PAGE_BYTES

    def close(self) -> None:
        self._db.close()


def is_whole(token: int, leaf: int, payload: object, crc: int) -> bool:
    """Return whether a record is what was written."""
    return isinstance(payload, bytes) and crc == crc_of(token, leaf, payload)


def boots_left(db: sqlite3.Connection) -> list[Boot]:
    """Return those boots of a damaged file that are whole."""
    boots: list[Boot] = []
    rows = db.execute(_BOOTS)
    while True:
        try:
            row = rows.fetchone()
            if row is None:
                return boots
            boots.append(_boot(row))
        except sqlite3.OperationalError:
            return boots
        except sqlite3.DatabaseError as error:
            if str(error) not in _NOT_WRITTEN:
                return boots


def _boot(row: tuple[bytes, int, int, int, bytes | None]) -> Boot:
    name, base, crc, highest, packed = row
    if crc != crc_of_boot(name, base):
        raise damaged(_NOT_WRITTEN[0])
    try:
        mark = None if packed is None else _MARK.decode(packed)
    except msgspec.DecodeError as error:
        raise damaged(_NOT_WRITTEN[1]) from error
    return Boot(name, base, highest, mark)


def set_aside(path: Path) -> Path:
    """Rename the files to the first free `.corrupt-<n>`, or over the last."""
    for n in range(1, _ASIDE_KEPT + 1):
        aside = path.with_name(f"{path.name}.corrupt-{n}")
        if not aside.exists():
            break
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        target = aside.with_name(aside.name + suffix)
        target.unlink(missing_ok=True)
        if part.exists():
            part.replace(target)
    return aside


def _make_log(path: Path) -> None:
    """Let the write-ahead log have its full length: zeros, which SQLite takes for none.

    Written, not merely allocated: turning allocated blocks into written ones is metadata
    again.
    """
    missing = LOG_BYTES - (path.stat().st_size if path.exists() else 0)
    if missing <= 0:
        return
    with path.open("ab") as log:
        log.write(bytes(missing))
        os.fsync(log.fileno())
