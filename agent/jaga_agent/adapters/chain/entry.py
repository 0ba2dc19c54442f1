"""One entry of the decision chain, its canonical form, and what makes a chain whole.

Canonical form: JSON in UTF-8, keys sorted, no spaces, fields that say nothing left out
(msgspec's `order="sorted"`). An entry's hash is SHA-256 over that form without `hash`;
a line of the file is that form with it. `jq -cjS 'del(.hash)' | sha256sum` gives the
same. Integers and texts only: a fraction might be written otherwise elsewhere.

Pure: values in, values out. It reads no file and decides nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

START: Final = "0" * 64
"""`prev` of a chain's first entry."""
BREAK: Final = "break"
"""Kind of the entry that says where the chain was damaged, or ids were left out."""
TURN: Final = "turn"
"""Kind of the entry that begins a new file; `of` is the full file's first id."""
STOPPED: Final = "stopped"
"""Kind of the entry with which a run ends in order."""

_CANONICAL = msgspec.json.Encoder(order="sorted")
_ANY = msgspec.json.Decoder()


class Judged(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the engine held of one uplink when it decided; preferred ones first."""

    uplink: str
    health: str
    rtt_ms: int | None = None
    reason: str = ""
    code: str | None = None
    values: dict[str, str] = {}


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """Which steps of the engine's journal an entry vouches for."""

    steps: int
    """Lines after the state's."""
    sha256: str
    """Over the state's line and the steps', each with its line feed."""


class Content(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What there is to say, before it has a place in the chain."""

    boot: str
    """Hexadecimal; names one boot, as on the wire."""
    at_ms: int
    """Milliseconds since boot."""
    wall_ms: int
    clock_age_s: int
    """Seconds since the wall clock was confirmed; -1: not since boot."""
    kind: str
    """started | stopped | decision | health | target | gap | sealed | break | turn …"""
    rule: str | None = None
    """Of a decision: first | failover | switchover | failback."""
    uplink: str | None = None
    """Whose it is; of a decision: the one that carries the site from now on."""
    old: str | None = None
    new: str | None = None
    """What changed; of a decision: the uplinks' names."""
    target: str | None = None
    reason: str = ""
    """As an English sentence."""
    code: str | None = None
    values: dict[str, str] = {}
    """The reason as code and values, where the engine gives it so."""
    detected_ms: int | None = None
    """From the old uplink's last sign of life to the decision."""
    switched_ms: int | None = None
    """From the decision until the kernel had the new route; None: it never had."""
    gap_ms: int | None = None
    """How long nothing came in for the site, as measured."""
    of: int | None = None
    """The entry that this one follows up."""
    targets: int | None = None
    """How many targets were asked."""
    hold_down_ms: int | None = None
    """Of a decision: how long the uplink that was left must stay up to come back."""
    hold_until_ms: int | None = None
    """Of a health: when it may take the site back, milliseconds since boot."""
    candidates: tuple[Judged, ...] = ()
    evidence: Proof | None = None


class Entry(Content, frozen=True, omit_defaults=True, kw_only=True):
    """One line of the chain."""

    id: int
    """Rises by one; more only at a break. Never used again."""
    prev: str
    """The hash of the entry before."""
    hash: str


@dataclass(frozen=True, slots=True)
class Fault:
    """The first thing wrong with a chain."""

    line: int
    """In its file, from 1."""
    id: int | None
    """What the line says its id is; None: it is no entry."""
    why: str


class NotAnEntryError(ValueError):
    """The line is no whole entry; the message says why."""


def linked(content: Content, *, id: int, prev: str) -> tuple[Entry, bytes]:  # noqa: A002 - its name in the chain
    """Return the entry in its place, and its line without the end."""
    said = {name: getattr(content, name) for name in content.__struct_fields__}
    unsigned = Entry(**said, id=id, prev=prev, hash="")
    row = _ANY.decode(_CANONICAL.encode(unsigned))
    del row["hash"]
    entry = msgspec.structs.replace(unsigned, hash=_hash(row))
    return entry, _CANONICAL.encode(entry)


def parsed(line: bytes) -> Entry:
    """Return a line's entry, whole in itself; raises NotAnEntryError."""
    try:
        row = _ANY.decode(line)
        entry = msgspec.convert(row, Entry)
    except (msgspec.MsgspecError, UnicodeError) as error:
        msg = f"not an entry ({error})"
        raise NotAnEntryError(msg) from error
    if _CANONICAL.encode(row) != line:
        msg = "not written as the agent writes it"
        raise NotAnEntryError(msg)
    del row["hash"]
    if _hash(row) != entry.hash:
        msg = "its content does not give its hash: it was changed"
        raise NotAnEntryError(msg)
    return entry


def verify(lines: Iterable[bytes], after: Entry | None = None) -> Fault | None:
    """Return the first fault of a chain, or None.

    `after`: the last entry of the file before; None: the lines are the oldest there are.
    """
    last = after
    for number, line in enumerate(lines, 1):
        try:
            entry = parsed(line)
        except NotAnEntryError as error:
            return Fault(number, _id(line), str(error))
        why = _oldest(entry) if last is None else _next(last, entry)
        if why is not None:
            return Fault(number, entry.id, why)
        last = entry
    return None


def _oldest(entry: Entry) -> str | None:
    """Return what is wrong with the oldest entry of all: its start is known or told."""
    if entry.kind == TURN or (
        entry.prev == START and (entry.id == 1 or entry.kind == BREAK)
    ):
        return None
    return "what stood before it is missing"


def _next(last: Entry, entry: Entry) -> str | None:
    if entry.prev != last.hash:
        return (
            f"it does not follow entry {last.id}: "
            "something between was removed, added or moved"
        )
    if entry.id != last.id + 1 and not (entry.kind == BREAK and entry.id > last.id):
        return f"its id does not follow {last.id}"
    return None


def _id(line: bytes) -> int | None:
    try:
        row = _ANY.decode(line)
    except (msgspec.MsgspecError, UnicodeError):
        return None
    number = row.get("id") if isinstance(row, dict) else None
    return number if isinstance(number, int) else None


def _hash(row: dict[str, Any]) -> str:
    return hashlib.sha256(_CANONICAL.encode(row)).hexdigest()
