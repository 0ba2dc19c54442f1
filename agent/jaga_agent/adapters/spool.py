"""The spool: what the broker has not acknowledged yet, in SQLite.

It survives SIGKILL: a record is in the kernel's hands when `append` returns. It may
lose the last seconds at a power cut (synchronous=NORMAL), but never its consistency:
numbering is committed together with the records, and a boot's name dies with the boot.

It keeps payloads as they are and knows nothing of what is in them, except that events
outlive heartbeats when it is full.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from jaga_agent.errors import SpoolError
from jaga_agent.ports import SpooledRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jaga_agent.wire.evidence import LostRange, Watermark

_log = logging.getLogger(__name__)

SCHEMA_VERSION: Final = 1
BOOT_ID_PATH: Final = Path("/proc/sys/kernel/random/boot_id")
EXPENDABLE: Final = "heartbeat"
"""The leaf whose oldest records go first when the spool is full."""

# 1 KiB pages: one heartbeat dirties two or three of them, and an SD card wears by what
# is written.
_SCHEMA = f"""
PRAGMA page_size = 1024;
PRAGMA journal_mode = WAL;
BEGIN IMMEDIATE;
CREATE TABLE records (
    token INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL,
    leaf TEXT NOT NULL,
    payload BLOB NOT NULL
) STRICT;
CREATE TABLE state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    spool_id BLOB NOT NULL,
    boot BLOB NOT NULL,
    last_seq INTEGER NOT NULL,
    last_token INTEGER NOT NULL,
    last_connection INTEGER NOT NULL,
    dropped INTEGER NOT NULL
) STRICT;
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""

_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_CORRUPT_KEPT = 3
_CHECKPOINT_EVERY = 200
"""Commits between checkpoints: nearly 1 MB of write-ahead log."""
# How long an append may wait for another connection: only a checkpoint that ends holds
# a lock, and only for a moment. The event loop stands still meanwhile.
_BUSY_S = 1.0
_DROP_RATIO = 0.01
"""Share dropped at once when full, so that the search for the oldest is amortised."""

T = TypeVar("T")


class SqliteSpool:
    """One file (with its -wal and -shm), one writer, as `ports.Spool`."""

    def __init__(
        self,
        path: Path,
        *,
        boot_id: str | None = None,
        max_records: int = 100_000,
        max_bytes: int = 32 * 1024 * 1024,
    ) -> None:
        """Open or create the spool; raises SpoolError.

        `boot_id` is the kernel's (random/boot_id). `max_bytes` bounds the payloads; the
        file is up to twice as large.
        """
        self._path = path
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._commits = 0
        self._last_seq = self._last_token = self._last_connection = 0
        self._records = self._bytes = 0
        self._overflowing = False
        try:
            kernel = boot_id or BOOT_ID_PATH.read_text(encoding="ascii").strip()
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = (
                f"cannot prepare the spool {path}: {error.strerror} ({error.filename})"
            )
            raise SpoolError(msg) from error
        self._db = self._open_or_set_aside()
        try:
            self._adopt(kernel)
        except sqlite3.Error as error:
            self._db.close()
            raise _failed(self._path, error, "read") from error
        self._checkpointer = _Checkpointer(path)

    @property
    def boot(self) -> bytes:
        """8 bytes: BLAKE2b over the kernel's boot id and this spool's random id."""
        return self._boot

    @property
    def dropped(self) -> int:
        """How many records were dropped because the spool was full, since it was made."""
        return self._dropped

    def next_seq(self) -> int:
        """Return the number the next appended record must carry."""
        return self._last_seq + 1

    def next_connection(self) -> int:
        """Count one more connection of this boot and return its number, from 1."""
        number = self._last_connection + 1
        self._commit(
            lambda: self._db.execute("UPDATE state SET last_connection = ?", (number,))
        )
        self._last_connection = number
        return number

    def append(self, seq: int, leaf: str, payload: bytes) -> SpooledRecord:
        """Keep one record; it has survived SIGKILL when this returns."""
        if seq != self.next_seq():
            msg = f"the spool expects seq {self.next_seq()}, not {seq}"
            raise SpoolError(msg)
        token = self._last_token + 1

        def insert() -> tuple[int, int]:
            gone = self._make_room(len(payload))
            self._db.execute(
                "INSERT INTO records VALUES (?, ?, ?, ?)", (token, seq, leaf, payload)
            )
            self._db.execute(
                "UPDATE state SET last_seq = ?, last_token = ?, dropped = dropped + ?",
                (seq, token, gone[0]),
            )
            return gone

        records, size = self._commit(insert)
        self._last_seq, self._last_token = seq, token
        self._records += 1 - records
        self._bytes += len(payload) - size
        if records:
            self._dropped += records
            # Loud once, quiet for the rest of a long outage.
            level = logging.DEBUG if self._overflowing else logging.WARNING
            _log.log(level, "spool full: dropped the %d oldest records", records)
            self._overflowing = True
        return SpooledRecord(token, self._boot, seq, leaf, bytes(payload))

    def cover(self, mark: Watermark) -> None:
        """Forget what the collector has."""
        gone: list[tuple[int]] = []
        for one in mark.boots:
            gone += [
                (record.token,)
                for record in self.select(one.boot, 0, one.highest)
                if record.seq <= one.through
                or not any(first <= record.seq <= last for first, last in one.gaps)
            ]
        self._commit(
            lambda: self._db.executemany("DELETE FROM records WHERE token = ?", gone)
        )
        self._records, self._bytes = self._db.execute(
            "SELECT count(*), coalesce(sum(length(payload)), 0) FROM records"
        ).fetchone()

    def pending(self, limit: int, *, after: int = 0) -> Sequence[SpooledRecord]:
        """Return at most `limit` kept records above the token `after`, oldest first."""
        try:
            rows = self._db.execute(
                "SELECT token, seq, leaf, payload FROM records WHERE token > ?"
                " ORDER BY token LIMIT ?",
                (after, limit),
            ).fetchall()
        except sqlite3.Error as error:
            raise _failed(self._path, error, "read") from error
        return [
            SpooledRecord(token, self._boot_of(payload), seq, leaf, payload)
            for token, seq, leaf, payload in rows
        ]

    def _boot_of(self, payload: bytes) -> bytes:
        match = re.match(rb"[\x90-\x9f]\xc4\x08(.{8})", payload, re.DOTALL)
        return match[1] if match else self._boot

    def select(self, boot: bytes, first: int, last: int) -> Sequence[SpooledRecord]:
        """Return what is kept of a boot's records first…last."""
        return [
            record
            for record in self.pending(self._max_records)
            if record.boot == boot and first <= record.seq <= last
        ]

    def lost(self) -> Sequence[LostRange]:
        return []

    def last_digest(self) -> SpooledRecord | None:
        return None

    def boots(self) -> Sequence[tuple[bytes, int]]:
        return [(self._boot, self._last_seq)]

    def depth(self) -> int:
        """Return how many records wait."""
        return self._records

    def close(self) -> None:
        """Close the file. What was kept stays."""
        self._checkpointer.close()
        self._db.close()

    def _commit(self, work: Callable[[], T]) -> T:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                result = work()
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise _failed(self._path, error, "write") from error
        self._commits += 1
        if self._commits % _CHECKPOINT_EVERY == 0:
            self._checkpointer.wake()
        return result

    def _make_room(self, size: int) -> tuple[int, int]:
        """Delete the oldest until one more fits; return how many records and bytes."""
        records = self._records + 1 - self._max_records
        room = self._bytes + size - self._max_bytes
        if records <= 0 and room <= 0:
            return 0, 0
        batch = max(records, int(self._max_records * _DROP_RATIO), 1)
        gone = freed = 0
        for condition in ("leaf = ?", "leaf <> ?"):
            while gone < records or freed < room:
                rows = self._db.execute(
                    "DELETE FROM records WHERE token IN (SELECT token FROM records"  # noqa: S608 (one of the two literals above)
                    f" WHERE {condition} ORDER BY token LIMIT ?)"
                    " RETURNING length(payload)",
                    (EXPENDABLE, batch),
                ).fetchall()
                if not rows:
                    break
                gone += len(rows)
                freed += sum(row[0] for row in rows)
        return gone, freed

    def _open_or_set_aside(self) -> sqlite3.Connection:
        try:
            return _open(self._path)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _CORRUPT:
                raise _failed(self._path, error, "open") from error
            aside = _set_aside(self._path)
            _log.error(
                "the spool %s was damaged (%s); it is kept as %s and a new one begins",
                self._path,
                error,
                aside,
            )
        try:
            return _open(self._path)
        except sqlite3.Error as error:
            raise _failed(self._path, error, "open") from error

    def _adopt(self, kernel_boot_id: str) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO state VALUES (1, ?, x'', 0, 0, 0, 0)",
            (secrets.token_bytes(16),),
        )
        row: tuple[bytes, bytes, int, int, int, int] = self._db.execute(
            "SELECT spool_id, boot, last_seq, last_token, last_connection, dropped"
            " FROM state"
        ).fetchone()
        spool_id, boot, seq, token, connection, self._dropped = row
        self._boot = hashlib.blake2b(
            kernel_boot_id.encode() + spool_id, digest_size=8
        ).digest()
        if boot != self._boot:
            seq = connection = 0
            self._db.execute(
                "UPDATE state SET boot = ?, last_seq = 0, last_connection = 0",
                (self._boot,),
            )
        self._last_seq = seq
        self._last_token = token
        self._last_connection = connection
        self._records, self._bytes = self._db.execute(
            "SELECT count(*), coalesce(sum(length(payload)), 0) FROM records"
        ).fetchone()


def _failed(path: Path, error: sqlite3.Error, verb: str) -> SpoolError:
    return SpoolError(
        f"cannot {verb} the spool {path}: {error};"
        " see the free space and the permissions of its directory"
    )


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        _check_version(path, db)
        _check_integrity(db)
        db.execute("PRAGMA synchronous = NORMAL")
        # A checkpoint calls fsync, which takes a second on a bad SD card: not on the
        # event loop, see _Checkpointer.
        db.execute("PRAGMA wal_autocheckpoint = 0")
        # A burst may outrun the checkpoint; the log shrinks when it begins anew.
        db.execute("PRAGMA journal_size_limit = 1000000")
    except BaseException:
        db.close()
        raise
    return db


def _check_version(path: Path, db: sqlite3.Connection) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        msg = (
            f"the spool {path} is of version {version}, made by a newer jaga-agent;"
            f" this one knows {SCHEMA_VERSION}: install the newer one again, or"
            " move the file away"
        )
        raise SpoolError(msg)
    if version == 0:
        db.executescript(_SCHEMA)


def _check_integrity(db: sqlite3.Connection) -> None:
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        error = sqlite3.DatabaseError(verdict)
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


def _set_aside(path: Path) -> Path:
    """Rename the damaged files to the first free `.corrupt-<n>`, or over the last."""
    for n in range(1, _CORRUPT_KEPT + 1):
        aside = path.with_name(f"{path.name}.corrupt-{n}")
        if not aside.exists():
            break
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.replace(aside.with_name(aside.name + suffix))
    return aside


class _Checkpointer:
    """Moves the write-ahead log into the file, on a thread and connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(
            target=self._run, name="spool-checkpoint", daemon=True
        )
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def close(self) -> None:
        self._closing = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while self._wake.wait():
            self._wake.clear()
            if self._closing:
                return
            try:
                db = sqlite3.connect(self._path, timeout=_BUSY_S)
                try:
                    # PASSIVE never waits for the writer, nor makes it wait.
                    db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                finally:
                    db.close()
            except sqlite3.Error as error:
                _log.warning("checkpoint of the spool %s failed: %s", self._path, error)
