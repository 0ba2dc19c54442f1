"""Do a record's rows say what its payload says? Every column, by the writer's own code.

What the rows should be is written by `store.rows` into a database in memory: a proof must
not have an idea of its own of how a payload is stored.
"""

from __future__ import annotations

import itertools
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from jaga_agent.wire.base import MalformedMessage
from jaga_agent.wire.evidence import LEAF_OF, HistoryItem, RecordCode, open_item
from jaga_server.store import rows
from jaga_server.store.opening import migrations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TABLES: Final = {
    "heartbeat": ("sample", "host_sample"),
    "event": ("event",),
    "histogram": ("histogram",),
    "digest": ("digest",),
}
"""Where a record of each leaf has its rows."""
SHOWN: Final = 4
"""Differences told of one record; more are counted."""
_KEY: Final = {
    "sample": "minute = :t_ms / 60000 AND site_no = :site_no AND t_ms = :t_ms AND",
    "host_sample": "minute = :t_ms / 60000 AND site_no = :site_no AND t_ms = :t_ms AND",
    "event": "t_ms = :t_ms AND",
    "histogram": "site_no = :site_no AND t_ms = :t_ms AND",
    "digest": "",
}
"""What finds a record's rows by one seek, beside its boot and number."""


@dataclass(frozen=True, slots=True)
class Boot:
    """A boot of the database."""

    number: int
    site_no: int
    boot: bytes
    start_ms: int | None
    """Unix time of its start; None: its records are dated by their arrival."""


class Agreement:
    """Compares; one for each reading of a database."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """`db` gives `sqlite3.Row`s; it stays its owner's."""
        self._db = db
        self._scratch = sqlite3.connect(":memory:", isolation_level=None)
        self._scratch.row_factory = sqlite3.Row
        for _, sql in migrations():
            self._scratch.executescript(sql)

    def close(self) -> None:
        """Let the memory go."""
        self._scratch.close()

    def faults(self, boot: Boot, row: sqlite3.Row, payload: bytes) -> tuple[str, ...]:
        """Return what differs, the first few of it, for a row of `record` and `payload`."""
        return _shortened(self._all(boot, row, payload))

    def _all(self, boot: Boot, row: sqlite3.Row, payload: bytes) -> list[str]:
        """Return every difference between a record's rows and its payload."""
        if row["kind"] not in LEAF_OF:
            return [f"kind {row['kind']} is none"]
        kind = RecordCode(row["kind"])
        try:
            message = open_item(HistoryItem(kind, payload))
        except MalformedMessage as error:
            return [f"no {LEAF_OF[kind]}: {error}"]
        identity = {
            "leaf": LEAF_OF[kind],
            "seq": message.seq,
            "at_ms": message.at_ms,
            "wall_ms": message.wall_ms,
            "clock_age_s": message.clock_age_s,
        }
        faults = [
            f"record.{name} is {row[name]}, sent was {sent}"
            for name, sent in identity.items()
            if row[name] != sent
        ]
        if message.boot != boot.boot:
            faults.append(f"boot is {boot.boot.hex()}, sent was {message.boot.hex()}")
        dated_ms = row["arrival_ms"]
        if boot.start_ms is not None:
            dated_ms = min(boot.start_ms + message.at_ms, dated_ms)
        if row["t_ms"] != dated_ms:
            faults.append(
                f"record.t_ms is {row['t_ms']}, its boot's start says {dated_ms}"
            )
        return faults + self._differences(boot, row, message)

    def _differences(
        self, boot: Boot, row: sqlite3.Row, message: rows.Record
    ) -> list[str]:
        leaf = row["leaf"]
        key = {
            "t_ms": row["t_ms"],
            "site_no": boot.site_no,
            "boot_no": boot.number,
            "seq": row["seq"],
        }
        self._scratch.execute("BEGIN")
        try:
            try:
                rows.insert(
                    self._scratch, boot.number, boot.site_no, message, row["t_ms"]
                )
            except sqlite3.Error as error:
                return [f"this payload could never be stored: {error}"]
            faults: list[str] = []
            for table in TABLES.get(leaf, ()):
                wanted = self._scratch.execute(f"SELECT * FROM {table}")  # noqa: S608 (a name of ours)
                here = self._db.execute(
                    f"SELECT * FROM {table} WHERE {_KEY[table]}"  # noqa: S608 (a name of ours)
                    " boot_no = :boot_no AND seq = :seq",
                    key,
                )
                faults += _differences(table, wanted, here)
            return faults
        finally:
            self._scratch.execute("ROLLBACK")


def _shortened(faults: list[str]) -> tuple[str, ...]:
    """Return the first few, and how many more there are."""
    more = len(faults) - SHOWN
    return tuple(faults[:SHOWN]) + ((f"{more} more",) if more > 0 else ())


def _differences(
    table: str, wanted: Iterable[sqlite3.Row], here: Iterable[sqlite3.Row]
) -> Iterator[str]:
    """Yield what differs between the rows that should be and those that are."""
    by_uplink = [
        {str(row["uplink"]) if "uplink" in row.keys() else "": row for row in each}  # noqa: SIM118 a Row is no mapping
        for each in (wanted, here)
    ]
    should, are = by_uplink
    for name in dict.fromkeys(itertools.chain(should, are)):
        where = f"{table} {name}".rstrip()
        if name not in are:
            yield f"{where}: its row is not here"
        elif name not in should:
            yield f"{where}: a row that was not sent"
        else:
            for column in should[name].keys():  # noqa: SIM118 a Row is no mapping
                sent, is_now = should[name][column], are[name][column]
                if sent != is_now:
                    yield f"{where} {column} is {_shown(is_now)}, sent was {_shown(sent)}"


def _shown(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bytes():
            return value[:8].hex() + ("…" if len(value) > 8 else "")
        case _:
            text = str(value)
            return text[:60] + ("…" if len(text) > 60 else "")
