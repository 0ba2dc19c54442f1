"""Reading what is on the card, beside the thread that writes it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from jaga_agent.adapters.spool.database import select

if TYPE_CHECKING:
    import sqlite3

    from jaga_agent.adapters.spool.database import Database, Row


class Reader:
    """A connection that can be taken away and given back in mid-run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None

    def use(self, database: Database | None) -> None:
        """Read from this file from now on; None: from none. Raises sqlite3.Error."""
        db = None if database is None else database.reader()
        with self._lock:
            old, self._db = self._db, db
        if old is not None:
            old.close()

    def select(self, first: int, last: int, limit: int) -> list[Row] | None:
        """Return records as `database.select`; None: there is no file now.

        Raises sqlite3.Error.
        """
        with self._lock:
            return None if self._db is None else select(self._db, first, last, limit)

    def close(self) -> None:
        """End it. Last of all connections, so that SQLite leaves the log."""
        self.use(None)
