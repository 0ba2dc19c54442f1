"""Files of earlier versions, made into one of this: records are kept.

Version 1 had (token, seq, leaf, payload) of what the broker had not acknowledged, and the
name of the newest boot alone; an earlier boot's name is in its records.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import msgspec

from jaga_agent.adapters.spool.crc import crc_of, crc_of_boot
from jaga_agent.wire.base import BOOT_BYTES
from jaga_agent.wire.evidence import CODE_OF

if TYPE_CHECKING:
    import sqlite3

_ARRAY: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])


def execute_each(db: sqlite3.Connection, script: str) -> None:
    """Run a script's statements in the transaction there is (executescript ends it)."""
    for statement in script.split(";"):
        if statement.strip():
            db.execute(statement)


def from_version_1(db: sqlite3.Connection, schema: str) -> int:
    """Change the file, within a transaction; return how many records were left out."""
    db.execute("ALTER TABLE records RENAME TO old_records")
    db.execute("ALTER TABLE state RENAME TO old_state")
    execute_each(db, schema)
    row = db.execute(
        "SELECT spool_id, boot, last_seq, last_token, dropped FROM old_state"
    ).fetchone()
    spool_id, newest, last_seq, last_token, dropped = row or (
        *(secrets.token_bytes(16), b"", 0, 0, 0),
    )
    newest_base = last_token - last_seq
    db.execute(
        "INSERT INTO state VALUES (1, ?, 0, ?, ?, x'', 0)",
        (spool_id, last_token, dropped),
    )
    # Within a boot token and seq rose together, so their difference names the boot.
    names: dict[int, bytes] = {}
    highest: dict[int, int] = {}
    if len(newest) == BOOT_BYTES:
        names[newest_base], highest[newest_base] = newest, last_seq
    unnamed = 0
    for token, seq, leaf, payload in db.execute(
        "SELECT token, seq, leaf, payload FROM old_records ORDER BY token"
    ):
        name = names.setdefault(token - seq, _boot_in(payload))
        if len(name) != BOOT_BYTES or leaf not in CODE_OF:
            unnamed += 1
            continue
        highest[token - seq] = max(highest.get(token - seq, 0), seq)
        code = int(CODE_OF[leaf])
        db.execute(
            "INSERT INTO records VALUES (?, ?, ?, ?)",
            (token, code, payload, crc_of(token, code, payload)),
        )
    for base, seq in highest.items():
        db.execute(
            "INSERT OR IGNORE INTO boots VALUES (?, ?, ?, ?, NULL)",
            (names[base], base, crc_of_boot(names[base], base), seq),
        )
    db.execute("DROP TABLE old_records")
    db.execute("DROP TABLE old_state")
    return unnamed


def _boot_in(payload: bytes) -> bytes:
    """Return the boot that a record names: its first field; b"" if it names none."""
    try:
        first = _ARRAY.decode(payload)[0]
        return msgspec.msgpack.decode(first, type=bytes)
    except (msgspec.DecodeError, IndexError):
        return b""
