"""The one database, and whose turn it is: the writing thread's, or the event loop's.

There is one connection (a second one would need an index in a file on the card). The
thread keeps its turn while it waits for the card; the event loop does not wait for that.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaga_agent.adapters.spool.database import Database, Row

READ_WAIT_S: Final = 0.02
"""A batch takes less on a sound card; the event loop may stand still for as long."""


class Gate:
    """Holds the database, if there is one now."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._database: Database | None = None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Let nobody else use the database meanwhile."""
        with self._turn:
            yield

    def open(self, database: Database | None) -> None:
        """Let this be read from now on; None: nothing. In one's turn."""
        self._database = database

    def select(self, first: int, last: int, limit: int) -> list[Row] | None:
        """Return records as `Database.select`; None: not now.

        Raises sqlite3.Error.
        """
        if not self._turn.acquire(timeout=READ_WAIT_S):
            return None
        try:
            if self._database is None:
                return None
            return self._database.select(first, last, limit)
        finally:
            self._turn.release()
