"""`jaga-agent explain`: one entry of the decision chain in plain words. Pure.

For a technician on the phone: what happened and since when, why, what else there was
to choose, how long the site was cut, and what comes next. What a reason's code has no
words for is said in the engine's own English.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

from jaga_agent.core.reason import ORDERED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from jaga_agent.adapters.chain.entry import Entry, Judged
    from jaga_agent.words import Words

WIDTH: Final = 80
RULES: Final = ("first", "failover", "switchover", "failback")
FOLLOW_UPS: Final = ("gap", "sealed")
TOLD: Final = ("started", "stopped", "break", "turn")


def pick(entries: Sequence[Entry], number: int | None) -> Entry | None:
    """Return the entry to tell of: by id, or the last decision (or else the last).

    A follow-up leads to the decision that it belongs to.
    """
    if number is None:
        decisions = [entry for entry in entries if entry.kind == "decision"]
        return (decisions or [*entries])[-1] if entries else None
    by_id = {entry.id: entry for entry in entries}
    found = by_id.get(number)
    if found is not None and found.kind in FOLLOW_UPS and found.of is not None:
        return by_id.get(found.of, found)
    return found


def tell(
    entry: Entry, entries: Sequence[Entry], words: Words, *, kept: Collection[int]
) -> str:
    """Return the story of one entry as lines of at most 80 columns.

    `entries`: the chain. `kept`: the decisions whose evidence is there.
    """
    story = _Story(entry, [e for e in entries if e.id > entry.id], words)
    lines = list(story.decision(kept) if entry.kind == "decision" else story.other())
    return "\n".join([*story.head(), "", *lines])


class _Story:
    def __init__(self, entry: Entry, later: Sequence[Entry], words: Words) -> None:
        self._entry = entry
        self._later = later
        self._words = words
        self._say = words.say

    def head(self) -> Iterator[str]:
        entry = self._entry
        what = "decision" if entry.kind == "decision" else "other"
        yield self._say(
            "title",
            what=self._say(f"title.{what}"),
            id=entry.id,
            date=self._words.date(entry.wall_ms),
            clock=self._words.clock(entry.wall_ms),
        )
        if entry.clock_age_s < 0:
            yield f"({self._say('title.unconfirmed')})"

    # A decision

    def decision(self, kept: Collection[int]) -> Iterator[str]:
        yield from _wrapped(self._move())
        yield ""
        yield from self._labelled("why", self._why())
        carried_out = self._entry.switched_ms is not None
        if carried_out and self._entry.old is not None:
            yield from self._labelled("cut", self._cut())
        yield from self._labelled("next", self._next())
        yield from self._labelled("proof", self._proof(kept))
        if not self._entry.candidates:
            return
        yield ""
        yield self._say("label.uplinks")
        for place, candidate in enumerate(self._entry.candidates):
            yield from self._candidate(candidate, place)

    def _move(self) -> str:
        entry = self._entry
        rule = "ordered" if self._is_ordered else entry.rule
        rule = rule if rule in {*RULES, "ordered"} else "other"
        return self._say(
            f"move.{rule}", to=entry.uplink, old=entry.old, rule=entry.rule
        )

    def _why(self) -> str:
        entry = self._entry
        reason = self._reason(entry)
        moved = entry.rule in {"failover", "switchover"} and not self._is_ordered
        about = "old" if moved else "new"
        if entry.code is None:
            # The engine's own sentence names the uplink itself.
            said = f"{reason}."
        else:
            said = self._say(
                f"why.{about}", old=entry.old, to=entry.uplink, reason=reason
            )
        if entry.detected_ms is not None and entry.old is not None:
            clock = self._words.clock(entry.wall_ms - entry.detected_ms)
            said += " " + self._say("why.since", old=entry.old, clock=clock)
        return said

    def _cut(self) -> str:
        entry = self._entry
        parts = []
        gap_ms = self._gap_ms()
        if gap_ms is not None:
            gap = self._words.span(gap_ms / 1000)
            parts.append(self._say("cut.measured", gap=gap))
        elif entry.rule == "failover":
            parts.append(self._say("cut.unmeasured"))
        else:
            parts.append(self._say("cut.none", old=entry.old))
        for key, value_ms in (
            ("detected", entry.detected_ms),
            ("switched", entry.switched_ms),
        ):
            if value_ms is not None:
                span = self._words.span(value_ms / 1000)
                parts.append(self._say(f"cut.{key}", **{key: span}))
        return " ".join(parts)

    @property
    def _is_ordered(self) -> bool:
        return self._entry.code == ORDERED

    def _gap_ms(self) -> int | None:
        if self._entry.gap_ms is not None:
            return self._entry.gap_ms
        return next(
            (
                e.gap_ms
                for e in self._later
                if e.kind == "gap" and e.of == self._entry.id
            ),
            None,
        )

    def _next(self) -> str:
        """Tell what came of it: another move, a stop, a wait that runs; or what will."""
        entry = self._entry
        said = None
        for later in self._later:
            if later.kind == "decision" and later.switched_ms is not None:
                key = "back" if later.uplink == entry.old else "moved"
                return self._say(
                    f"next.{key}",
                    old=entry.old,
                    to=later.uplink,
                    id=later.id,
                    clock=self._words.clock(later.wall_ms),
                )
            if later.kind == "stopped":
                return self._say("next.stopped", clock=self._words.clock(later.wall_ms))
            if later.kind == "health" and later.uplink == entry.old:
                # Down again, it waits for as long as is said further down.
                said = self._until(later)
        if said is not None:
            return said
        if entry.switched_ms is None:
            return self._say("move.failed")
        if entry.hold_down_ms is not None:
            held = self._words.span(entry.hold_down_ms / 1000)
            return self._say("next.wait", old=entry.old, held=held)
        return self._say("next.stays", to=entry.uplink)

    def _until(self, health: Entry) -> str | None:
        if health.hold_until_ms is None:
            return None
        return self._say(
            "next.until",
            old=health.uplink,
            since=self._words.clock(health.wall_ms),
            clock=self._words.clock(_matures_ms(health, health.hold_until_ms)),
        )

    def _proof(self, kept: Collection[int]) -> str:
        entry = self._entry
        if entry.evidence is None:
            return self._say("proof.none")
        key = "kept" if entry.id in kept else "gone"
        return self._say(f"proof.{key}", steps=entry.evidence.steps, id=entry.id)

    def _candidate(self, candidate: Judged, place: int) -> Iterator[str]:
        state = self._say(f"health.{candidate.health}")
        if candidate.rtt_ms is not None and candidate.health in {"up", "degraded"}:
            state += f", {self._words.span(candidate.rtt_ms / 1000)}"
        mark = "▶" if candidate.uplink == self._entry.uplink else " "
        head = f"{mark} {candidate.uplink:<14.13}{state:<22}"
        yield from textwrap.wrap(
            self._fate(candidate, place),
            WIDTH,
            initial_indent=head,
            subsequent_indent=" " * len(head),
        )

    def _fate(self, candidate: Judged, place: int) -> str:
        """Say why a candidate was, or was not, chosen."""
        entry = self._entry
        if candidate.uplink == entry.uplink:
            rule = entry.rule if entry.rule in RULES else "other"
            if self._is_ordered:
                rule = "ordered"
            return self._say(f"chosen.{'failover' if rule == 'first' else rule}")
        reason = self._reason(candidate)
        if candidate.uplink == entry.old:
            if entry.rule == "failback" or self._is_ordered:
                return self._say(
                    "left.ordered" if self._is_ordered else "left.preferred"
                )
            if reason in self._why():
                return self._say("left.why")
            return self._say("left", reason=reason)
        if candidate.health != "up":
            return self._say("not.reason", reason=reason)
        names = [c.uplink for c in entry.candidates]
        later = entry.uplink in names and place > names.index(entry.uplink)
        return self._say("not.later" if later else "not.waiting")

    # Any other entry

    def other(self) -> Iterator[str]:
        entry = self._entry
        yield from _wrapped(self._fact())
        if entry.reason and entry.kind != "gap":
            yield from self._labelled("why", f"{self._reason(entry)}.")
        if entry.kind == "health" and entry.hold_until_ms is not None:
            clock = self._words.clock(_matures_ms(entry, entry.hold_until_ms))
            said = self._say("entry.health.until", clock=clock)
            yield from self._labelled("next", said)

    def _fact(self) -> str:
        entry = self._entry
        if entry.kind == "health":
            old, new = (self._say(f"health.{h}") for h in (entry.old, entry.new))
            return self._say("entry.health", uplink=entry.uplink, old=old, new=new)
        if entry.kind == "target":
            return self._say(f"entry.target.{entry.new}", target=entry.target)
        if entry.kind == "gap":
            gap = self._words.span((entry.gap_ms or 0) / 1000)
            return self._say("entry.gap", uplink=entry.uplink, gap=gap)
        if entry.kind == "sealed":
            return self._say("entry.sealed", of=entry.of)
        if entry.kind in TOLD:
            return self._say(f"entry.{entry.kind}")
        # Of the clock: who tells the time.
        teller = self._words.texts.get(f"source.{entry.new}")
        about = entry.uplink or entry.target or teller or "–"
        kind = self._words.texts.get(f"kind.{entry.kind}", entry.kind)
        return self._say("entry.other", kind=kind, uplink=about)

    # Words

    def _reason(self, of: Entry | Judged) -> str:
        said = self._words.reason(of.code, of.values, **self._context(of))
        return of.reason if said is None else said

    def _context(self, of: Entry | Judged) -> dict[str, str]:
        """Return what the entry adds to a reason: targets asked, witnesses' answers."""
        targets = self._entry.targets
        if targets is None:
            asked = self._say("asked.unknown")
        else:
            asked = self._say("asked.one" if targets == 1 else "asked.many", n=targets)
        if "witnesses" not in of.values:
            return {"asked": asked}
        rtts = {c.uplink: c.rtt_ms for c in self._entry.candidates}
        names = [name.strip() for name in of.values["witnesses"].split(",")]
        witnesses = [self._witness(name, rtts.get(name)) for name in names]
        return {"asked": asked, "witnesses": self._words.listed(witnesses)}

    def _witness(self, uplink: str, rtt_ms: int | None) -> str:
        if rtt_ms is None:
            return uplink
        rtt = self._words.span(rtt_ms / 1000)
        return self._say("witness", uplink=uplink, rtt=rtt)

    def _labelled(self, label: str, text: str) -> list[str]:
        head = f"{self._say(f'label.{label}')}:".ljust(8)
        return textwrap.wrap(
            text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head)
        )


def _matures_ms(entry: Entry, at_ms: int) -> int:
    """Return an instant of the entry's boot as its wall clock would show it."""
    return entry.wall_ms + at_ms - entry.at_ms


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH)
