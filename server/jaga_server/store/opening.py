"""Opens the database's file: ours, in WAL mode, brought up to date; or says why not."""

from __future__ import annotations

import logging
import sqlite3
from importlib import resources
from typing import TYPE_CHECKING

from jaga_server.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

APPLICATION_ID = 0x4A414741
"""SQLite's `application_id` of our files: "JAGA"."""
BUSY_S = 5.0


def migrations() -> list[tuple[int, str]]:
    """Return (number, SQL) of every migration, in order."""
    folder = resources.files("jaga_server.store") / "migrations"
    return sorted(
        (int(item.name.split("_")[0]), item.read_text(encoding="utf-8"))
        for item in folder.iterdir()
        if item.name.endswith(".sql")
    )


def connect(path: Path) -> sqlite3.Connection:
    """Return the database open for writing, made if there is none; raises StoreError."""
    try:
        db = sqlite3.connect(
            path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        message = f"store {path}: {error}; check [store] path and its permissions"
        raise StoreError(message) from error
    try:
        _migrate(db, path)
    except sqlite3.Error as error:
        db.close()
        message = f"store {path}: {error}; check that file, or name another one"
        raise StoreError(message) from error
    except StoreError:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    owner: int = db.execute("PRAGMA application_id").fetchone()[0]
    tables: int = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if tables and owner != APPLICATION_ID:
        message = f"store {path}: not a collector's database; name another file"
        raise StoreError(message)
    steps = migrations()
    newest = steps[-1][0]
    if version > newest:
        message = (
            f"store {path}: written by a newer collector (version {version}, "
            f"this one knows {newest}); install that collector or name another file"
        )
        raise StoreError(message)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    mode: str = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        message = f"store {path}: this file system has no WAL; use a local disk"
        raise StoreError(message)
    db.execute("PRAGMA synchronous = FULL")
    for number, sql in steps:
        if number > version:
            db.executescript(
                f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nCOMMIT;"
            )
            log.info("store migrated path=%s version=%d", path, number)
