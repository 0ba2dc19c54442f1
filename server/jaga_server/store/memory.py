"""What a restarted collector knows at once, read from the database."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from jaga_server.core.model import SiteState

if TYPE_CHECKING:
    import sqlite3

log = logging.getLogger(__name__)

_STATE = msgspec.msgpack.Decoder(SiteState)


@dataclass(frozen=True, slots=True)
class Memory:
    """What a restarted collector knows at once."""

    states: dict[str, SiteState]
    heard_ms: int
    last_message_ms: int | None


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
