"""How records become rows, and how a boot's rows are dated anew. Inside a transaction.

Knows the tables; decides nothing, and neither begins nor ends a transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from jaga_agent.wire.evidence import Digest, Histogram
from jaga_agent.wire.messages import Event, Heartbeat

if TYPE_CHECKING:
    import sqlite3

Record = Heartbeat | Event | Histogram | Digest
"""What is numbered by (site, boot, seq)."""


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def insert(
    db: sqlite3.Connection, boot_no: int, site_no: int, record: Record, t_ms: int
) -> None:
    """Write what a record holds; `record` and `payload` have its identity already."""
    match record:
        case Heartbeat():
            _samples(db, boot_no, site_no, record, t_ms)
        case Event():
            _event(db, boot_no, site_no, record, t_ms)
        case Histogram():
            _histogram(db, boot_no, site_no, record, t_ms)
        case Digest():
            _digest(db, boot_no, site_no, record)


def _samples(
    db: sqlite3.Connection, boot_no: int, site_no: int, beat: Heartbeat, t_ms: int
) -> None:
    key = (t_ms // 60_000, site_no, t_ms, boot_no, beat.seq)
    db.executemany(
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
    db.execute(
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


def _event(
    db: sqlite3.Connection, boot_no: int, site_no: int, event: Event, t_ms: int
) -> None:
    db.execute(
        "INSERT INTO event VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (
            t_ms,
            boot_no,
            event.seq,
            site_no,
            event.kind,
            event.rule,
            event.uplink,
            event.old,
            event.new,
            event.reason,
            event.detected_ms,
            event.switched_ms,
            _json(event.evidence),
        ),
    )


def _histogram(
    db: sqlite3.Connection, boot_no: int, site_no: int, told: Histogram, t_ms: int
) -> None:
    db.executemany(
        "INSERT INTO histogram VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        [
            (
                *(site_no, t_ms, boot_no, told.seq, uplink.name),
                told.at_ms - told.begin_ms,
                uplink.sent,
                uplink.lost,
                uplink.not_sent,
                uplink.first,
                _json(uplink.counts),
                uplink.sum_us,
                uplink.rx_bytes,
                uplink.tx_bytes,
                *uplink.healths_ms,
            )
            for uplink in told.uplinks
        ],
    )


def _digest(db: sqlite3.Connection, boot_no: int, site_no: int, digest: Digest) -> None:
    db.execute(
        "INSERT INTO digest VALUES (?,?,?,?,?,?,?,?,?,?,?)",
        (
            boot_no,
            digest.seq,
            site_no,
            digest.of,
            digest.first,
            digest.last,
            _json(digest.missing),
            digest.root,
            digest.prev,
            digest.certificate,
            digest.signature,
        ),
    )


def redate(db: sqlite3.Connection, boot_no: int, site_no: int, start_ms: int) -> int:
    """Date every row of a boot by the Unix time of its start; return how many records moved.

    Not later than its arrival, as `core.dating.event_time` has it.
    """
    moved = db.execute(
        "SELECT leaf, seq, t_ms, min(? + at_ms, arrival_ms) AS new_ms FROM record"
        " WHERE boot_no = ? AND new_ms != t_ms",
        (start_ms, boot_no),
    ).fetchall()
    of_leaf: dict[str, list[tuple[int, int, int]]] = {}
    for leaf, seq, old_ms, new_ms in moved:
        of_leaf.setdefault(leaf, []).append((seq, old_ms, new_ms))
    db.executemany(
        "UPDATE record SET t_ms = ? WHERE boot_no = ? AND seq = ?",
        ((new, boot_no, seq) for _, seq, _, new in moved),
    )
    # The old time is part of each key: with it a row is found by one seek.
    for table in ("sample", "host_sample"):
        db.executemany(
            f"UPDATE {table} SET minute = ?, t_ms = ? WHERE minute = ? AND site_no = ?"  # noqa: S608 (two names of ours)
            " AND t_ms = ? AND boot_no = ? AND seq = ?",
            (
                (new // 60_000, new, old // 60_000, site_no, old, boot_no, seq)
                for seq, old, new in of_leaf.get("heartbeat", ())
            ),
        )
    db.executemany(
        "UPDATE event SET t_ms = ? WHERE t_ms = ? AND boot_no = ? AND seq = ?",
        ((new, old, boot_no, seq) for seq, old, new in of_leaf.get("event", ())),
    )
    db.executemany(
        "UPDATE histogram SET t_ms = ? WHERE site_no = ? AND t_ms = ?"
        " AND boot_no = ? AND seq = ?",
        (
            (new, site_no, old, boot_no, seq)
            for seq, old, new in of_leaf.get("histogram", ())
        ),
    )
    return len(moved)
