"""Reads what a proof needs: digests, payloads, and whether the rows agree with them.

Cannot write. Works beside a running collector, in one read transaction.
"""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from jaga_agent.wire.base import MalformedMessage, encode
from jaga_agent.wire.evidence import (
    LEAF_OF,
    Digest,
    HistoryItem,
    RecordCode,
    hash_of,
    open_item,
)
from jaga_server.core.digests import Finding, Kind, Record
from jaga_server.errors import StoreError
from jaga_server.store.agreement import TABLES, Agreement, Boot
from jaga_server.store.opening import migrations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jaga_server.core.digests import Period, SeqRange

ORPHANS: Final = 100
"""Rows without a record that are told of each table at most."""

_MINUTES: Final = """
    WITH RECURSIVE span(n) AS (
        VALUES (:from_ms / 60000) UNION ALL
        SELECT n + 1 FROM span WHERE n < :to_ms / 60000
    )
    SELECT found.boot_no, found.seq, found.t_ms
    FROM span CROSS JOIN {table} found ON found.minute = n
"""
_ORPHANS: Final = """
    {source} WHERE found.site_no = :site_no
        AND found.t_ms BETWEEN :from_ms AND :to_ms AND NOT EXISTS (
            SELECT 1 FROM record WHERE record.boot_no = found.boot_no
            AND record.seq = found.seq AND record.t_ms = found.t_ms AND leaf = :leaf)
    LIMIT :limit
"""


@dataclass(frozen=True, slots=True)
class StoredDigest:
    """One digest as it came."""

    t_ms: int
    arrival_ms: int
    digest: Digest
    hash: bytes
    is_canonical: bool
    """Whether its payload is spelled as a site spells it: what is signed is the meaning,
    and only one spelling of it was sent."""


class Evidence:
    """One site's part of the database, read-only; `with` holds one state of it."""

    def __init__(self, path: Path, site: str) -> None:
        """Check that the database and the site are there; raises StoreError."""
        self._path = path
        if not path.is_file():
            message = f"store {path}: there is no such file; name the collector's"
            raise StoreError(message)
        self._db = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro",
            uri=True,
            timeout=5,
            isolation_level=None,
        )
        self._db.row_factory = sqlite3.Row
        self._agreement = Agreement(self._db)
        try:
            with self._errors():
                self._open(site)
        except StoreError:
            self.close()
            raise

    def _open(self, site: str) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        newest = migrations()[-1][0]
        if version != newest:
            message = (
                f"store {self._path}: version {version}, this collector knows {newest};"
                " run `jaga-collector run` of the same version first"
            )
            raise StoreError(message)
        self._db.execute("BEGIN")
        found = self._db.execute(
            "SELECT site_no FROM site WHERE site = ?", (site,)
        ).fetchone()
        if found is None:
            message = (
                f"store {self._path}: nothing of a site {site!r} is in it;"
                " `jaga-collector sites` lists those that are"
            )
            raise StoreError(message)
        self._site_no: int = found[0]
        self._boots = {
            row["boot"]: Boot(
                row["boot_no"], self._site_no, row["boot"], row["offset_ms"]
            )
            for row in self._db.execute(
                "SELECT boot_no, boot, offset_ms FROM boot WHERE site_no = ?"
                " ORDER BY boot_no",
                (self._site_no,),
            )
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the database go."""
        self._db.close()
        self._agreement.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            message = f"store {self._path}: {error}"
            raise StoreError(message) from error

    def digests(self) -> list[StoredDigest]:
        """Return every digest of the site that can be read, as they came."""
        found = []
        with self._errors():
            for row in self._db.execute(
                "SELECT payload, t_ms, arrival_ms FROM payload"
                " JOIN record USING (boot_no, seq) JOIN boot USING (boot_no)"
                " WHERE site_no = ? AND kind = ? ORDER BY boot_no, seq",
                (self._site_no, RecordCode.DIGEST),
            ):
                # What cannot be read is no digest: `records` tells of it.
                with contextlib.suppress(MalformedMessage):
                    digest = _digest(row["payload"])
                    found.append(
                        StoredDigest(
                            row["t_ms"],
                            row["arrival_ms"],
                            digest,
                            hash_of(RecordCode.DIGEST, row["payload"]),
                            encode(digest) == row["payload"],
                        )
                    )
        return found

    def inside(self, period: Period) -> dict[bytes, list[int]]:
        """Return the numbers of the records of a period, rising, by boot."""
        with self._errors():
            return {
                boot.boot: [
                    row[0]
                    for row in self._db.execute(
                        "SELECT seq FROM record WHERE boot_no = ?"
                        " AND t_ms BETWEEN ? AND ? ORDER BY seq",
                        (boot.number, period.from_ms, period.to_ms),
                    )
                ]
                for boot in self._boots.values()
            }

    def lost(self) -> dict[bytes, list[SeqRange]]:
        """Return what the site has said that it will never send, by boot."""
        return self._ranges("SELECT first, last FROM lost WHERE boot_no = ?")

    def settled(self) -> dict[bytes, int]:
        """Return the highest number that was ever stored or booked, by boot."""
        found = self._ranges("SELECT first, last FROM coverage WHERE boot_no = ?")
        return {
            boot: max(last for _, last in spans)
            for boot, spans in found.items()
            if spans
        }

    def _ranges(self, sql: str) -> dict[bytes, list[SeqRange]]:
        with self._errors():
            return {
                boot.boot: [
                    (row[0], row[1]) for row in self._db.execute(sql, (boot.number,))
                ]
                for boot in self._boots.values()
            }

    def records(self, boot: bytes, first: int, last: int) -> list[Record]:
        """Return the records first…last of a boot, each held against its payload."""
        of_boot = self._boots.get(boot)
        if of_boot is None:
            return []
        with self._errors():
            return [
                self._record(of_boot, row)
                for row in self._db.execute(
                    "SELECT seq, leaf, t_ms, arrival_ms, at_ms, wall_ms, clock_age_s,"
                    " kind, payload FROM record LEFT JOIN payload USING (boot_no, seq)"
                    " WHERE boot_no = ? AND seq BETWEEN ? AND ? ORDER BY seq",
                    (of_boot.number, first, last),
                )
            ]

    def payloads(
        self, boot: bytes, first: int, last: int
    ) -> list[tuple[int, RecordCode, bytes, int]]:
        """Return number, kind, payload and event time of a boot's records first…last."""
        of_boot = self._boots.get(boot)
        if of_boot is None:
            return []
        with self._errors():
            return [
                (row["seq"], RecordCode(row["kind"]), row["payload"], row["t_ms"])
                for row in self._db.execute(
                    "SELECT seq, kind, payload, t_ms FROM payload"
                    " JOIN record USING (boot_no, seq)"
                    " WHERE boot_no = ? AND seq BETWEEN ? AND ? ORDER BY seq",
                    (of_boot.number, first, last),
                )
                if row["kind"] in LEAF_OF
            ]

    def _record(self, boot: Boot, row: sqlite3.Row) -> Record:
        payload: bytes | None = row["payload"]
        return Record(
            boot.boot,
            row["seq"],
            row["leaf"],
            row["t_ms"],
            row["arrival_ms"],
            None if payload is None else _hashed(row["kind"], payload),
            () if payload is None else self._agreement.faults(boot, row, payload),
        )

    def unfounded(self, period: Period) -> list[Finding]:
        """Name the period's rows that belong to no record, and boots dated by nothing."""
        found = []
        names = {boot.number: boot.boot for boot in self._boots.values()}
        with self._errors():
            for leaf, tables in TABLES.items():
                for table in tables:
                    found += [
                        Finding(
                            Kind.FORGED,
                            names.get(row["boot_no"]),
                            row["seq"],
                            row["seq"],
                            row["t_ms"],
                            row["t_ms"],
                            f"a row of {table} that is no record's",
                        )
                        for row in self._orphans(leaf, table, period)
                    ]
            found += [f for boot in self._boots.values() if (f := self._misdated(boot))]
        return found

    def _orphans(self, leaf: str, table: str, period: Period) -> list[sqlite3.Row]:
        if table == "digest":
            sql = (
                "SELECT boot_no, seq, NULL AS t_ms FROM digest found WHERE site_no ="
                " :site_no AND NOT EXISTS (SELECT 1 FROM record WHERE record.boot_no ="
                " found.boot_no AND record.seq = found.seq AND leaf = :leaf) LIMIT :limit"
            )
        else:
            source = (
                _MINUTES.format(table=table)
                if table in {"sample", "host_sample"}
                else f"SELECT found.boot_no, found.seq, found.t_ms FROM {table} found"  # noqa: S608 (a name of ours)
            )
            sql = _ORPHANS.format(source=source)
        values = {
            "leaf": leaf,
            "site_no": self._site_no,
            "from_ms": period.from_ms,
            "to_ms": period.to_ms,
            "limit": ORPHANS,
        }
        return self._db.execute(sql, values).fetchall()

    def _misdated(self, boot: Boot) -> Finding | None:
        """Return a finding if no record tells the start that a boot is dated by."""
        if boot.start_ms is None:
            return None
        for row in self._db.execute(
            "SELECT kind, payload FROM record JOIN payload USING (boot_no, seq)"
            " WHERE boot_no = ? AND clock_age_s >= 0 AND wall_ms - at_ms = ?",
            (boot.number, boot.start_ms),
        ):
            with contextlib.suppress(MalformedMessage, ValueError):
                told = open_item(HistoryItem(RecordCode(row["kind"]), row["payload"]))
                if told.clock_age_s >= 0 and told.wall_ms - told.at_ms == boot.start_ms:
                    return None
        detail = "no record tells the start that all of this boot is dated by"
        return Finding(Kind.ALTERED, boot.boot, None, None, None, None, detail)


def _digest(payload: bytes) -> Digest:
    message = open_item(HistoryItem(RecordCode.DIGEST, payload))
    assert isinstance(message, Digest)  # noqa: S101 the kind says so; for the type
    return message


def _hashed(kind: int, payload: bytes) -> bytes:
    """Return the hash of a record; of an impossible kind one that no root has."""
    return hash_of(RecordCode(kind), payload) if kind in LEAF_OF else bytes(32)
