"""The writer's thread: batches in, commits, then acknowledgements. Owns the database.

Nothing is acknowledged before its commit. A database that refuses (locked, disk full) is
asked again with full jitter for as long as it takes, and meanwhile nothing is
acknowledged, so the broker keeps what we cannot.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING

import tenacity

from jaga_server.adapters import clock
from jaga_server.core import district
from jaga_server.core.district import Moment
from jaga_server.core.hearing import Hearing
from jaga_server.core.model import SiteState
from jaga_server.errors import StoreError, StoreReplacedError
from jaga_server.ingest import batch as batches
from jaga_server.ingest import received as inbox
from jaga_server.ingest.batch import Outcome
from jaga_server.ingest.inbox import Inbox
from jaga_server.ingest.update import Update
from jaga_server.store.sqlite import UnstorableError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from jaga_server.core.model import LastResort, Thresholds, Transition
    from jaga_server.ingest.counters import Counters
    from jaga_server.ingest.received import Received, Token
    from jaga_server.ingest.watermarks import Watermarks
    from jaga_server.store.sqlite import Store

log = logging.getLogger(__name__)

BATCH = 500
BATCH_BYTES = 256 * 1024
"""A batch ends with the message that exceeds it: five full histories, 10,000 records."""
BATCH_WAIT_S = 0.05
TICK_S = 1.0
"""How often silence is judged."""
HEARD_KEPT_MS = 5000
"""A killed collector loses at most this much of the hearing clock."""
RETRY_CAP_S = 10.0
TOLD = 5000


class Writer:
    """Takes messages from `inbox` until it is told to stop."""

    def __init__(
        self,
        store: Store,
        *,
        listed: Container[str],
        thresholds: Thresholds,
        counters: Counters,
        acknowledge: Callable[[Sequence[Token]], None],
        publish: Callable[[Update], None],
        commit_seconds: Callable[[float], None],
        watermarks: Watermarks,
        inbox: queue.Queue[Received] | None = None,
    ) -> None:
        """`acknowledge` and `publish` are called on the writer's thread."""
        self.inbox = Inbox() if inbox is None else inbox
        self._watermarks = watermarks
        self._store = store
        self._listed = listed
        self._thresholds = thresholds
        self._counters = counters
        self._acknowledge = acknowledge
        self._publish = publish
        self._commit_seconds = commit_seconds
        memory = store.remember()
        self._hearing = Hearing(memory.heard_ms)
        self._heard_kept = memory.heard_ms
        self._last_message_ms = memory.last_message_ms
        now_ms = clock.wall_ms()
        self.states: dict[str, SiteState] = {
            site: state
            for site, state in memory.states.items()
            if site in listed
            or (state.last_heard_ms or 0) > now_ms - district.RECENT_UNLISTED_MS
        }
        self._sights: dict[str, LastResort] = {}
        self._sights_lock = threading.Lock()
        self._connected = threading.Event()
        self._connection = 0
        self._stopping = threading.Event()
        self._abandon = threading.Event()
        self._told: set[tuple[str | None, str]] = set()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="writer", daemon=True)

    # Called from other threads.

    def start(self) -> None:
        self._thread.start()

    def known(self) -> Update:
        """Return all that the database knew; for before the start only."""
        return self._update(self.states, [])

    def hear(self, *, connected: bool) -> None:
        """Tell whether the collector is connected and subscribed."""
        if connected:
            self._connection += 1
            self._connected.set()
        else:
            self._connected.clear()

    def see(self, site: str, sight: LastResort) -> None:
        """Take a last-resort heartbeat; only a site's newest is kept, once a tick."""
        with self._sights_lock:
            self._sights[site] = sight

    def stop(self, timeout_s: float) -> bool:
        """Write what is in hand, then end; True if all of it was written in time."""
        self._stopping.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._abandon.set()
            self._thread.join(RETRY_CAP_S)
            return False
        return self.failure is None

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    # The thread.

    def _main(self) -> None:
        try:
            self._run()
        except StoreReplacedError as error:
            self.failure = error
            log.error("writer ends: %s", error)  # noqa: TRY400 (expected: one line, no traceback)
        except BaseException as error:
            # A fault of ours, not of the database: the process must end and be
            # started anew rather than serve a page that no longer changes.
            self.failure = error
            log.exception("writer failed")

    def _run(self) -> None:
        last_tick_s = clock.monotonic_s()
        while not self._abandon.is_set():
            batch = self._take(last_tick_s + TICK_S)
            if batch:
                self._write(batch)
            elif self._stopping.is_set():
                break
            if clock.monotonic_s() >= last_tick_s + TICK_S:
                last_tick_s = clock.monotonic_s()
                self._tick()
        self._tick()

    def _take(self, deadline_s: float) -> list[Received]:
        """Return up to BATCH messages: those that come within BATCH_WAIT_S."""
        batch: list[Received] = []
        wait_s = (
            0.0
            if self._stopping.is_set()
            else min(BATCH_WAIT_S * 4, max(0.0, deadline_s - clock.monotonic_s()))
        )
        try:
            batch.append(
                self.inbox.get(timeout=wait_s) if wait_s else self.inbox.get_nowait()
            )
            end_s = clock.monotonic_s() + BATCH_WAIT_S
            weight = len(batch[0].payload)
            while len(batch) < BATCH and weight < BATCH_BYTES:
                left_s = end_s - clock.monotonic_s()
                if left_s <= 0 or self._stopping.is_set():
                    batch.append(self.inbox.get_nowait())
                else:
                    batch.append(self.inbox.get(timeout=left_s))
                weight += len(batch[-1].payload)
        except queue.Empty:
            pass
        return batch

    def _moment(self) -> Moment:
        now_ms = round(clock.monotonic_s() * 1000)
        if self._connected.is_set():
            self._hearing = self._hearing.start(now_ms)
        else:
            self._hearing = self._hearing.stop(now_ms)
        return Moment(clock.wall_ms(), self._hearing.read(now_ms))

    def _write(self, batch: Sequence[Received], *, apart: bool = False) -> None:
        moment = self._moment()
        started_s = clock.monotonic_s()
        try:
            outcome = self._persist(lambda: self._attempt(batch, moment, apart=apart))
        except UnstorableError as error:
            if len(batch) > 1:
                # One of them can never be stored: alone, it harms no other.
                for message in batch:
                    self._write([message])
                return
            if not apart:
                # Nor does one record in a history harm the others in it.
                self._write(batch, apart=True)
                return
            detail = str(error)
            outcome = self._persist(lambda: self._bury(batch[0], detail))
        if outcome is None:
            return
        self._commit_seconds(clock.monotonic_s() - started_s)
        self._count(outcome)
        self.states.update(outcome.states)
        self._last_message_ms = outcome.last_message_ms or self._last_message_ms
        self._watermarks.touch(outcome.touched)
        self._acknowledge([m.token for m in batch if m.token is not None])
        self._publish(self._update(outcome.states, outcome.events))

    def _attempt(
        self, batch: Sequence[Received], moment: Moment, *, apart: bool
    ) -> Outcome:
        return batches.write(
            batch,
            self._store,
            known=self.states,
            listed=self._listed,
            moment=moment,
            thresholds=self._thresholds,
            apart=apart,
        )

    def _bury(self, message: Received, detail: str) -> Outcome:
        with self._store.transaction():
            self._store.bury(
                message.arrival_ms, message.topic, inbox.UNSTORABLE, message.payload
            )
        refusal = inbox.RejectedError(inbox.UNSTORABLE, detail, message.topic[:200])
        return Outcome(
            rejected=[(message, refusal)], last_message_ms=message.arrival_ms
        )

    def _persist(self, attempt: Callable[[], Outcome]) -> Outcome | None:
        """Return what `attempt` returns, however often it takes; None: told to stop."""
        refused = 0

        def complain(retry: tenacity.RetryCallState) -> None:
            nonlocal refused
            refused += 1
            self._counters.retries += 1
            if refused == 1 and retry.outcome is not None:
                log.warning(
                    "batch not stored, trying again; nothing is acknowledged until it"
                    " is: %s",
                    retry.outcome.exception(),
                )

        try:
            outcome: Outcome = tenacity.Retrying(
                retry=tenacity.retry_if_exception_type(StoreError),
                wait=tenacity.wait_random_exponential(multiplier=0.1, max=RETRY_CAP_S),
                stop=tenacity.stop_when_event_set(self._abandon),
                sleep=tenacity.sleep_using_event(self._abandon),
                before_sleep=complain,
                reraise=True,
            )(attempt)
        except StoreError as error:
            log.error(  # noqa: TRY400 (expected: one line, no traceback)
                "stopped with messages not stored; the broker keeps them: %s", error
            )
            return None
        if refused:
            log.info("database writes again refusals=%d", refused)
        return outcome

    def _count(self, outcome: Outcome) -> None:
        counters = self._counters
        counters.batches += 1
        counters.stored.update(outcome.stored)
        counters.duplicate += outcome.duplicate
        counters.unknown_site += outcome.unknown_site
        counters.history_items.update(outcome.items)
        counters.history_duplicate += outcome.items_duplicate
        counters.lost += outcome.lost
        for _, refusal in outcome.rejected:
            counters.rejected[refusal.reason] += 1
        for _, refusal in outcome.items_rejected:
            counters.history_rejected[refusal.reason] += 1
        for message, refusal in (*outcome.rejected, *outcome.items_rejected):
            fault = (refusal.site, refusal.reason)
            # Once for each site and reason: a site that says it every 10 s is one fault.
            if fault in self._told or len(self._told) >= TOLD:
                continue
            self._told.add(fault)
            log.warning(
                "message refused topic=%s reason=%r detail=%r; it is kept in dead_letter"
                " and more of the same are only counted",
                message.topic[:200],
                refusal.reason,
                str(refusal)[:200],
            )

    def _update(
        self, states: dict[str, SiteState], events: Sequence[Transition]
    ) -> Update:
        return Update(
            dict(states),
            tuple(events),
            connected=self._connected.is_set(),
            last_message_ms=self._last_message_ms,
        )

    def _tick(self) -> None:
        """Judge silence; keep what changed and, now and then, the hearing clock."""
        moment = self._moment()
        with self._sights_lock:
            sights, self._sights = self._sights, {}
        told = {
            site: district.sighted(self.states.get(site, SiteState()), sight)
            for site, sight in sights.items()
        }
        changed = told | district.due({**self.states, **told}, moment, self._thresholds)
        if changed or moment.heard - self._heard_kept >= HEARD_KEPT_MS:
            try:
                with self._store.transaction():
                    self._store.save_states(changed)
                    self._store.save_hearing(moment.heard, self._last_message_ms)
            except StoreError as error:
                # The next tick finds the same; the next batch tells the operator.
                with self._sights_lock:
                    self._sights = sights | self._sights
                log.debug("tick not kept reason=%s", error)
                changed = {}
            else:
                self._heard_kept = moment.heard
        self.states.update(changed)
        self._publish(self._update(changed, []))
        if self._connected.is_set():
            self._watermarks.tell(
                self._connection, round(clock.monotonic_s() * 1000), clock.wall_ms()
            )
