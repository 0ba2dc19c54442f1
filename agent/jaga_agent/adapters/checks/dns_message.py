"""DNS messages (RFC 1035): one question for IPv4 addresses, and its answer. Pure.

EDNS is not asked for, so an answer has at most 512 bytes: the addresses of one name
fit, and there is no need to ask again over TCP. Should a server cut an answer all the
same (TC), the addresses before the cut are as good as any.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final

ANSWER_BYTES: Final = 512
"""RFC 1035 (4.2.1); what is longer was not asked for."""

_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHIH")
_QUESTION = struct.Struct("!HH")
_TYPE_A = 1
_TYPE_CNAME = 5
_CLASS_IN = 1
_RESPONSE = 0x8000
_RECURSION_DESIRED = 0x0100
_RCODE = 0x000F
_POINTER = 0xC0
_NAME_BYTES = 255
# Longer chains of aliases are loops or mischief; real ones have two or three links.
_ALIASES = 16

_RCODES = {
    1: "calls our question malformed",
    2: "has failed (SERVFAIL)",
    3: "says there is no such name (NXDOMAIN)",
    4: "does not know such questions",
    5: "refuses to answer",
}

# What a public server cannot truly answer with: nobody is reached there through a
# provider (RFC 6890; 224.0.0.0/3 is multicast and reserved). Modems without service
# and portals answer with their own private address.
_NOT_PUBLIC = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/3",
    )
)


class DnsMessageError(Exception):
    """The datagram is no answer to our question."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server says."""

    rcode: int
    addresses: tuple[str, ...]
    """Of the name asked for, its aliases followed; in the server's order."""

    @property
    def fault(self) -> str | None:
        """Why this cannot be used, as what the server does; None if it can."""
        if self.rcode:
            return _RCODES.get(self.rcode, f"answers with error {self.rcode}")
        if not self.addresses:
            return "knows no IPv4 address"
        for address in self.addresses:
            if any(ipaddress.IPv4Address(address) in net for net in _NOT_PUBLIC):
                return f"says {address}, which cannot be true"
        return None


def question(identifier: int, name: str) -> bytes:
    """Return the datagram that asks for a name's IPv4 addresses."""
    return (
        _HEADER.pack(identifier, _RECURSION_DESIRED, 1, 0, 0, 0)
        + b"".join(
            bytes([len(label)]) + label.encode("ascii") for label in name.split(".")
        )
        + b"\0"
        + _QUESTION.pack(_TYPE_A, _CLASS_IN)
    )


def answer(packet: bytes, identifier: int, name: str) -> Answer:
    """Return what a datagram answers to our question; raises DnsMessageError."""
    try:
        return _answer(packet, identifier, name)
    except (struct.error, IndexError) as error:
        msg = "the message is cut short"
        raise DnsMessageError(msg) from error


def _answer(packet: bytes, identifier: int, name: str) -> Answer:
    found, flags, questions, records, _, _ = _HEADER.unpack_from(packet)
    if found != identifier or not flags & _RESPONSE or questions != 1:
        msg = "not an answer to our question"
        raise DnsMessageError(msg)
    asked, at = _name(packet, _HEADER.size)
    if asked != name or _QUESTION.unpack_from(packet, at) != (_TYPE_A, _CLASS_IN):
        msg = "an answer to another question"
        raise DnsMessageError(msg)
    at += _QUESTION.size
    addresses: dict[str, list[str]] = {}
    aliases: dict[str, str] = {}
    for _ in range(records):
        if at == len(packet):
            # Cut at a record's end (TC).
            break
        owner, at = _name(packet, at)
        kind, klass, _, length = _RECORD.unpack_from(packet, at)
        at += _RECORD.size
        content = packet[at : at + length]
        if len(content) < length:
            msg = "the message is cut short"
            raise DnsMessageError(msg)
        if klass == _CLASS_IN and kind == _TYPE_A and length == 4:
            addresses.setdefault(owner, []).append(str(ipaddress.IPv4Address(content)))
        elif klass == _CLASS_IN and kind == _TYPE_CNAME:
            aliases[owner], _ = _name(packet, at)
        at += length
    for _ in range(_ALIASES):
        if name in addresses or name not in aliases:
            break
        name = aliases[name]
    return Answer(flags & _RCODE, tuple(addresses.get(name, ())))


def _name(packet: bytes, at: int) -> tuple[str, int]:
    """Return the name that begins at `at`, in small letters, and where it ends.

    A pointer must lead backwards from where the name read so far began (RFC 1035,
    4.1.4: "a prior occurrence"): so a loop cannot be written.
    """
    labels: list[str] = []
    size = 1
    began = at
    end: int | None = None
    while length := packet[at]:
        if length & _POINTER == _POINTER:
            to = (length & ~_POINTER) << 8 | packet[at + 1]
            if end is None:
                end = at + 2
            if to >= began:
                msg = "a name points forwards"
                raise DnsMessageError(msg)
            at = began = to
            continue
        if length & _POINTER:
            msg = "a label of an unknown kind"
            raise DnsMessageError(msg)
        label = packet[at + 1 : at + 1 + length]
        size += 1 + length
        if len(label) < length or size > _NAME_BYTES:
            msg = "a name is cut short or too long"
            raise DnsMessageError(msg)
        # Bytes that are not ASCII are in no name of ours: any letters will do.
        labels.append(label.decode("latin-1").lower())
        at += 1 + length
    return ".".join(labels), (at + 1 if end is None else end)
