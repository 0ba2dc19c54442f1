"""One batch: decode, store, fold into what is known. Decides what becomes of a message.

A batch is one transaction. What can never be stored is buried in the dead letters in
that same transaction, so that acknowledging the whole batch is right. A history is one
message of many records: each stands or falls alone, and none of them tells of now.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jaga_agent.wire.evidence import LEAF_OF, History
from jaga_agent.wire.messages import Event, Heartbeat, Status
from jaga_agent.wire.orders import Command, Reply
from jaga_server.core import district, model
from jaga_server.ingest import received as inbox
from jaga_server.ingest.received import Received, RejectedError
from jaga_server.store.sqlite import ConflictError, UnstorableError

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from jaga_agent.wire.evidence import HistoryItem
    from jaga_server.core.dating import Dated
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
    items: Counter[str] = field(default_factory=Counter)
    """New records out of histories, by leaf."""
    items_duplicate: int = 0
    items_rejected: list[tuple[Received, RejectedError]] = field(default_factory=list)
    lost: int = 0
    """Records newly known to be lost."""
    touched: dict[str, bool] = field(default_factory=dict)
    """Sites to be told by a watermark; True: soon."""


def write(
    batch: Sequence[Received],
    store: Store,
    *,
    known: Mapping[str, model.SiteState],
    listed: Container[str],
    moment: Moment,
    thresholds: model.Thresholds,
    apart: bool = False,
) -> Outcome:
    """Store the batch in one transaction and return what it came to.

    `apart`: each item of a history in a part of its own, for one that never fits.
    Raises StoreError (try again) or UnstorableError (some message in it never fits);
    either way nothing is stored.
    """
    folding = _Folding(store, known, listed, moment, apart=apart)
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
        outcome.touched = folding.touched()
    return outcome


class _Folding:
    """A batch half done; thrown away if its transaction fails."""

    def __init__(
        self,
        store: Store,
        known: Mapping[str, model.SiteState],
        listed: Container[str],
        moment: Moment,
        *,
        apart: bool,
    ) -> None:
        self.outcome = Outcome()
        self._part = store.part if apart else contextlib.nullcontext
        self._waiting: set[str] = set()
        """Sites that sent a history: they want to know."""
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

    def touched(self) -> dict[str, bool]:
        """Return the sites that something came of; True: they are to hear of it soon."""
        return self._store.touched() | dict.fromkeys(self._waiting, True)

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
            case Heartbeat() | Event():
                return self._live(before, site, wire, message)
            case History():
                return self._history(before, site, wire, message)
            case Command():
                order = inbox.open_order(wire, site)
                new = self._store.log_command(site, order, message.payload, arrival_ms)
            case Reply():
                new = self._store.log_reply(site, wire, message.payload, arrival_ms)
        return before if new else None

    def _live(
        self,
        before: model.SiteState,
        site: str,
        wire: Heartbeat | Event,
        message: Received,
    ) -> model.SiteState | None:
        """Store a record that came by itself: it tells of now."""
        moment, arrival_ms = self._moment, message.arrival_ms
        leaf = "heartbeat" if isinstance(wire, Heartbeat) else "event"
        dated = self._add(site, leaf, wire, message.payload, arrival_ms)
        if dated is None:
            return None
        if isinstance(wire, Heartbeat):
            beat = inbox.beat(site, wire, dated.t_ms, arrival_ms)
            return district.heartbeat(before, beat, moment)
        event = inbox.transition(site, wire, dated, arrival_ms)
        self.outcome.events.append(event)
        return district.transition(before, event, moment)

    def _add(
        self,
        site: str,
        leaf: str,
        record: inbox.Record,
        payload: bytes,
        arrival_ms: int,
    ) -> Dated | None:
        """Store a record; return when it was made, None: a repeat. Raises RejectedError."""
        try:
            return self._store.add(site, leaf, record, payload, arrival_ms)
        except ConflictError as error:
            raise RejectedError(inbox.CONFLICT, str(error), site) from error

    def _history(
        self, state: model.SiteState, site: str, wire: History, message: Received
    ) -> model.SiteState:
        """Store what a history holds, and book what it says is lost."""
        outcome, arrival_ms = self.outcome, message.arrival_ms
        items = inbox.unpack(wire, site)
        self._waiting.add(site)
        for item in items:
            try:
                with self._part():
                    state = self._item(state, site, item, arrival_ms)
            except (RejectedError, UnstorableError) as error:
                refusal = (
                    error
                    if isinstance(error, RejectedError)
                    else RejectedError(inbox.UNSTORABLE, str(error), site)
                )
                outcome.items_rejected.append((message, refusal))
                self._store.bury(
                    arrival_ms, message.topic, refusal.reason, item.payload
                )
        for gone in wire.lost:
            if 1 <= gone.first <= gone.last:
                outcome.lost += self._store.lose(
                    site, gone.boot, gone.first, gone.last, arrival_ms
                )
            else:
                detail = f"lost from {gone.first} to {gone.last}"
                refusal = RejectedError(inbox.MALFORMED, detail, site)
                outcome.items_rejected.append((message, refusal))
        return state

    def _item(
        self, state: model.SiteState, site: str, item: HistoryItem, arrival_ms: int
    ) -> model.SiteState:
        """Store one record out of a history; raises RejectedError."""
        record = inbox.open_item(item, site)
        leaf = LEAF_OF[item.kind]
        dated = self._add(site, leaf, record, item.payload, arrival_ms)
        if dated is None:
            self.outcome.items_duplicate += 1
            return state
        self.outcome.items[leaf] += 1
        if isinstance(record, Heartbeat):
            return district.late(
                state, inbox.beat(site, record, dated.t_ms, arrival_ms)
            )
        return state
