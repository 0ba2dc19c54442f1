"""One batch: decode, store, fold into what is known. Decides what becomes of a message.

A batch is one transaction. What can never be stored is buried in the dead letters in
that same transaction, so that acknowledging the whole batch is right.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jaga_agent.wire.messages import Event, Heartbeat, Status
from jaga_server.core import district, model
from jaga_server.ingest import received as inbox
from jaga_server.ingest.received import Received, RejectedError

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from jaga_server.core.district import Moment
    from jaga_server.store.sqlite import Store

UNLISTED = 1000
"""Sites that are on no list and yet taken in; a broker without ACLs must not fill us."""


@dataclass(slots=True)
class Outcome:
    """What a batch came to. Nothing of it counts before the commit."""

    states: dict[str, model.SiteState] = field(default_factory=dict)
    """Only of sites that this batch touched."""
    events: list[model.Transition] = field(default_factory=list)
    stored: Counter[str] = field(default_factory=Counter)
    rejected: list[tuple[Received, RejectedError]] = field(default_factory=list)
    duplicate: int = 0
    unknown_site: int = 0
    last_message_ms: int | None = None


def write(
    batch: Sequence[Received],
    store: Store,
    *,
    known: Mapping[str, model.SiteState],
    listed: Container[str],
    moment: Moment,
    thresholds: model.Thresholds,
) -> Outcome:
    """Store the batch in one transaction and return what it came to.

    Raises StoreError (try again) or UnstorableError (some message in it never fits);
    either way nothing is stored.
    """
    folding = _Folding(store, known, listed, moment)
    outcome = folding.outcome
    with store.transaction():
        for message in batch:
            try:
                folding.take(message)
            except RejectedError as refusal:
                outcome.rejected.append((message, refusal))
                store.bury(
                    message.arrival_ms, message.topic, refusal.reason, message.payload
                )
        outcome.last_message_ms = batch[-1].arrival_ms
        outcome.states = {
            site: district.judge(state, moment, thresholds)
            for site, state in outcome.states.items()
        }
        store.save_states(outcome.states)
        store.save_hearing(moment.heard, outcome.last_message_ms)
    return outcome


class _Folding:
    """A batch half done; thrown away if its transaction fails."""

    def __init__(
        self,
        store: Store,
        known: Mapping[str, model.SiteState],
        listed: Container[str],
        moment: Moment,
    ) -> None:
        self.outcome = Outcome()
        self._store = store
        self._known = known
        self._listed = listed
        self._moment = moment
        self._unlisted = sum(site not in listed for site in known)

    def take(self, message: Received) -> None:
        """Store one message; raises RejectedError."""
        outcome = self.outcome
        topic, wire = inbox.open_envelope(message)
        site = topic.site
        before = outcome.states.get(site) or self._known.get(site)
        if before is None:
            self._admit(site)
            before = model.SiteState()
        after = self._fold(before, site, wire, message)
        if after is None:
            outcome.duplicate += 1
            return
        outcome.states[site] = after
        outcome.stored[topic.leaf] += 1
        outcome.unknown_site += site not in self._listed

    def _admit(self, site: str) -> None:
        """Let a new site in, unless there are too many that nobody has listed."""
        if site in self._listed:
            return
        if self._unlisted >= UNLISTED:
            raise RejectedError(inbox.TOO_MANY_UNLISTED, f"{UNLISTED} already", site)
        self._unlisted += 1

    def _fold(
        self,
        before: model.SiteState,
        site: str,
        wire: inbox.Message,
        message: Received,
    ) -> model.SiteState | None:
        """Return the site's state after a message; None: a repeat."""
        moment, arrival_ms = self._moment, message.arrival_ms
        match wire:
            case Status():
                told = inbox.report(site, wire, message)
                return district.report(before, told, moment)
            case Heartbeat():
                t_ms = self._store.add(site, "heartbeat", wire, arrival_ms)
                if t_ms is None:
                    return None
                beat = inbox.beat(site, wire, t_ms, arrival_ms)
                return district.heartbeat(before, beat, moment)
            case Event():
                t_ms = self._store.add(site, "event", wire, arrival_ms)
                if t_ms is None:
                    return None
                event = inbox.transition(site, wire, t_ms, arrival_ms)
                self.outcome.events.append(event)
                return district.transition(before, event, moment)
