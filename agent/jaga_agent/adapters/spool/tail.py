"""The spool's tail: the records that are not yet on the card, in a file in RAM.

What is written here is the kernel's: SIGKILL does not take it, power loss does. It also
holds how far this boot has counted, so that the card need not be told of each number.
It knows nothing of the database.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MAGIC: Final = b"JAGATL\x00\x01"
"""The last byte is the format's version."""

_HEADER: Final = struct.Struct("<8s16sQ8sQQQ")
_CRC: Final = struct.Struct("<I")
_FRAME: Final = struct.Struct("<II")
_BODY: Final = struct.Struct("<8sQQB")
_HEADER_BYTES: Final = _HEADER.size + _CRC.size
_FRAME_BYTES: Final = _FRAME.size + _CRC.size
_CONNECTION: Final = 255
"""In place of a record's kind: its number counts a connection."""


@dataclass(frozen=True, slots=True)
class Header:
    """Whose tail it is, and how far all was counted when it was written."""

    spool_id: bytes
    incarnation: int
    boot: bytes
    base: int
    """token = base + seq; only true in the spool of this id."""
    last_seq: int
    last_connection: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One record."""

    boot: bytes
    """Not always the header's: what an earlier tail held is carried on."""
    base: int
    """token = base + seq, in the spool that the header names."""
    seq: int
    leaf: int
    payload: bytes

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return _FRAME_BYTES + _BODY.size + len(self.payload)


@dataclass(frozen=True, slots=True)
class Found:
    """What a tail file held."""

    header: Header
    """As of its end: numbers counted by the entries included."""
    entries: tuple[Entry, ...]
    intact: bool
    """Nothing between the first and the last whole entry is damaged. A last entry cut
    short is no damage: the kill came within its write, and nobody had been told of it."""


def read(path: Path) -> Found | None:
    """Return what is there; None: no file, or not even its header is whole.

    Raises OSError.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    header = _header(content)
    if header is None:
        return None
    entries: list[Entry] = []
    place, intact = _HEADER_BYTES, True
    while len(content) - place >= _FRAME_BYTES:
        size, body_crc = _FRAME.unpack_from(content, place)
        frame_crc = zlib.crc32(content[place : place + _FRAME.size])
        start = place + _FRAME_BYTES
        if _CRC.unpack_from(content, place + _FRAME.size) != (frame_crc,):
            intact = False
            break
        if start + size > len(content):
            break
        body = content[start : start + size]
        if zlib.crc32(body) != body_crc:
            intact = False
            break
        if size < _BODY.size:
            intact = False
            break
        boot, base, number, kind = _BODY.unpack_from(body)
        if kind == _CONNECTION:
            header = replace(header, last_connection=number)
        else:
            if boot == header.boot:
                header = replace(header, last_seq=max(header.last_seq, number))
            entries.append(Entry(boot, base, number, kind, body[_BODY.size :]))
        place = start + size
    return Found(header, tuple(entries), intact)


def _header(content: bytes) -> Header | None:
    if len(content) < _HEADER_BYTES:
        return None
    packed = content[: _HEADER.size]
    magic, *fields = _HEADER.unpack(packed)
    if magic != MAGIC or _CRC.unpack_from(content, _HEADER.size) != (
        zlib.crc32(packed),
    ):
        return None
    return Header(*fields)


class Tail:
    """The file being written. Raises OSError, and is then as if nothing was asked."""

    def __init__(self, path: Path) -> None:
        """`rewrite` is to be called first: it begins anew, in place of what is there."""
        self._path = path
        self._file: int | None = None
        self._size = 0

    def append(self, entry: Entry) -> None:
        """Put one record at the end."""
        self._write(_framed(_packed(entry)))

    def count_connection(self, number: int) -> None:
        """Remember the number of the newest connection."""
        self._write(_framed(_BODY.pack(bytes(8), 0, number, _CONNECTION)))

    def rewrite(self, header: Header, entries: Iterable[Entry]) -> None:
        """Hold these and nothing else: the old file or the new, never half of one."""
        packed = _HEADER.pack(
            MAGIC,
            header.spool_id,
            header.incarnation,
            header.boot,
            header.base,
            header.last_seq,
            header.last_connection,
        )
        content = b"".join(
            (
                packed,
                _CRC.pack(zlib.crc32(packed)),
                *(_framed(_packed(e)) for e in entries),
            )
        )
        new = self._path.with_name(self._path.name + ".new")
        file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(file, content)
            new.replace(self._path)
        except OSError:
            os.close(file)
            new.unlink(missing_ok=True)
            raise
        self.close()
        self._file, self._size = file, len(content)

    def abandon(self) -> None:
        """Remove the file: it cannot vouch for this boot's numbers any more."""
        self.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave the file as it is."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, framed: bytes) -> None:
        if self._file is None:
            raise OSError(0, "the tail is abandoned", str(self._path))
        try:
            _write_all(self._file, framed)
        except OSError:
            # Half an entry must not stand before whole ones.
            os.ftruncate(self._file, self._size)
            os.lseek(self._file, self._size, os.SEEK_SET)
            raise
        self._size += len(framed)


def _packed(entry: Entry) -> bytes:
    head = _BODY.pack(entry.boot, entry.base, entry.seq, entry.leaf)
    return head + entry.payload


def _framed(body: bytes) -> bytes:
    frame = _FRAME.pack(len(body), zlib.crc32(body))
    return frame + _CRC.pack(zlib.crc32(frame)) + body


def _write_all(file: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file, rest) :]
