"""`jaga-agent decisions`: the chain as a table, and whether it is whole. Pure."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

from jaga_agent.words import Words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jaga_agent.adapters.chain import Kept
    from jaga_agent.adapters.chain.entry import Entry

WIDTH: Final = 80
MOVE_KINDS: Final = ("decision",)


def table(entries: Sequence[Entry]) -> Iterator[str]:
    """Yield entries as lines for an 80-column terminal, as they are given."""
    yield f"{'id':>6}  {'date':<10} {'time':<8}  {'kind':<9} {'what':<28} {'cut':>9}"
    for entry in entries:
        at = Words.at(entry.wall_ms)
        unsure = "?" if entry.clock_age_s < 0 else " "
        gap = "" if entry.gap_ms is None else f"{entry.gap_ms} ms"
        line = (
            f"{entry.id:>6}  {at:%Y-%m-%d} {at:%H:%M:%S}{unsure} "
            f"{entry.kind:<9.9} {_what(entry):<28.28} {gap:>9}"
        )
        yield line.rstrip()
        if entry.reason:
            yield from textwrap.wrap(
                entry.reason, WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8
            )


def _what(entry: Entry) -> str:
    if entry.kind in MOVE_KINDS:
        return f"{entry.rule}: {entry.old or 'nothing'} → {entry.uplink}"
    if entry.of is not None:
        return f"of {entry.of}: {entry.uplink}" if entry.uplink else f"of {entry.of}"
    about = entry.uplink or entry.target or ""
    if entry.new is not None:
        return f"{about}: {entry.old} → {entry.new}"
    return about


def verdict(kept: Kept) -> str:
    """Return one line: the chain is whole, or where and why it is not."""
    if kept.fault is not None:
        fault = kept.fault
        which = "" if fault.id is None else f", entry {fault.id}"
        return f"{kept.fault_file}:{fault.line}{which}: {fault.why}"
    if not kept.entries:
        return "the chain is whole; it has no entry yet"
    first, last = kept.entries[0], kept.entries[-1]
    torn = (
        f"; {kept.torn_bytes} bytes of an unfinished entry follow"
        if kept.torn_bytes
        else ""
    )
    return (
        f"the chain is whole: {len(kept.entries)} entries, {first.id} to {last.id}, "
        f"last hash {last.hash[:16]}{torn}"
    )
