"""Checksums of what the card keeps: SQLite has none for what lies in its pages."""

from __future__ import annotations

import zlib


def crc_of(token: int, leaf: int, payload: bytes) -> int:
    """Return the CRC-32 of a record, with what it is filed under."""
    return zlib.crc32(payload, zlib.crc32(b"%d %d" % (token, leaf)))


def crc_of_boot(name: bytes, base: int) -> int:
    """Return the CRC-32 of a boot's name, with where its tokens begin."""
    return zlib.crc32(name, zlib.crc32(b"%d" % base))
