"""The log of orders: what operators sent, what sites answered. Inside a transaction."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import sqlite3

    from jaga_agent.wire.orders import Order, Reply

_INSERT = (
    "INSERT INTO order_log (site_no, order_id, leaf, hash, first_ms, last_ms, times,"
    " operator, action, arguments, counter, issued_ms, expires_ms,"
    " code, detail, boot, at_ms, wall_ms, clock_age_s, content, payload)"
    " VALUES (?,?,?,?,?,?,1,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
    " ON CONFLICT (site_no, order_id, leaf, hash)"
    " DO UPDATE SET times = times + 1, last_ms = excluded.last_ms RETURNING times"
)


def command(
    db: sqlite3.Connection, site_no: int, order: Order, payload: bytes, arrival_ms: int
) -> int:
    """Log an order; return how often this very message has come by now."""
    key = _key(site_no, order.id, "command", payload, arrival_ms)
    facts = (
        order.operator,
        order.action,
        msgspec.json.encode(order.arguments).decode(),
        order.counter,
        order.issued_ms,
        order.expires_ms,
    )
    return _log(db, (*key, *facts, *[None] * 7, payload))


def reply(
    db: sqlite3.Connection, site_no: int, told: Reply, payload: bytes, arrival_ms: int
) -> int:
    """Log an answer; return how often this very message has come by now."""
    key = _key(site_no, told.order, "reply", payload, arrival_ms)
    facts = (
        int(told.code),
        told.detail,
        told.boot,
        told.at_ms,
        told.wall_ms,
        told.clock_age_s,
        told.content,
    )
    return _log(db, (*key, *[None] * 6, *facts, payload))


def _key(
    site_no: int, order_id: bytes, leaf: str, payload: bytes, arrival_ms: int
) -> tuple[object, ...]:
    hashed = hashlib.sha256(payload).digest()
    return (site_no, order_id, leaf, hashed, arrival_ms, arrival_ms)


def _log(db: sqlite3.Connection, values: tuple[object, ...]) -> int:
    times: int = db.execute(_INSERT, values).fetchone()[0]
    return times
