"""A boot's coverage as rows: read, and written as the difference. Inside a transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaga_server.core.coverage import Coverage

if TYPE_CHECKING:
    import sqlite3

    from jaga_server.core.coverage import Spans


def load(db: sqlite3.Connection, boot_no: int) -> Coverage:
    """Return what is settled of a boot."""
    held, lost = (
        tuple(
            (first, last)
            for first, last in db.execute(
                f"SELECT first, last FROM {table} WHERE boot_no = ? ORDER BY first",  # noqa: S608 (two names of ours)
                (boot_no,),
            )
        )
        for table in ("coverage", "lost")
    )
    return Coverage(held, lost)


def save(
    db: sqlite3.Connection,
    boot_no: int,
    before: Coverage,
    after: Coverage,
    booked_ms: int,
) -> None:
    """Write what changed from `before`, which the tables hold."""
    if after.held != before.held:
        _clear(db, "coverage", boot_no, before.held, after.held)
        db.executemany(
            "INSERT INTO coverage VALUES (?,?,?)"
            " ON CONFLICT (boot_no, first) DO UPDATE SET last = excluded.last",
            [
                (boot_no, first, last)
                for first, last in sorted(set(after.held) - set(before.held))
            ],
        )
    if after.lost != before.lost:
        _clear(db, "lost", boot_no, before.lost, after.lost)
        db.executemany(
            "INSERT INTO lost VALUES (?,?,?,?)"
            " ON CONFLICT (boot_no, first) DO UPDATE SET last = excluded.last",
            [
                (boot_no, first, last, booked_ms)
                for first, last in sorted(set(after.lost) - set(before.lost))
            ],
        )


def _clear(
    db: sqlite3.Connection, table: str, boot_no: int, before: Spans, after: Spans
) -> None:
    """Remove the spans that begin where none begins any more."""
    kept = {first for first, _ in after}
    db.executemany(
        f"DELETE FROM {table} WHERE boot_no = ? AND first = ?",  # noqa: S608 (two names of ours)
        [(boot_no, first) for first, _ in before if first not in kept],
    )
