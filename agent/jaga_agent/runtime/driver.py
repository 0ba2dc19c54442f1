"""Drives the core: hands it events, keeps its state, its timer and its journal.

It decides nothing, and carries nothing out: it calls back with each action.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from jaga_agent.core.engine import next_deadline, step
from jaga_agent.core.events import Tick
from jaga_agent.core.state import State
from jaga_agent.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaga_agent.adapters.journal import Journal
    from jaga_agent.core.actions import Action
    from jaga_agent.core.events import Event
    from jaga_agent.core.model import Instant, Policy, UplinkName
    from jaga_agent.ports import Clock
    from jaga_agent.runtime.troubles import Troubles

_log = logging.getLogger(__name__)

LATE_LOOP_S: Final = 1.0
"""A loop this late is told: verdicts rest on its punctuality."""


class Driver:
    """The one door to the core; used on the event loop only."""

    state: State

    def __init__(
        self,
        policy: Policy,
        *,
        clock: Clock,
        journal: Journal | None,
        troubles: Troubles,
        carry_out: Callable[[Action], None],
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._journal = journal
        self._troubles = troubles
        self._carry_out = carry_out
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        """What the timer is set for."""
        self._stopping = False
        self.state = State.initial(policy)
        self.before: Callable[[], None] = lambda: None
        """Called ahead of each event of this moment: whoever holds evidence back feeds
        it now, so that nothing is judged without it."""

    def begin(self, adopted: UplinkName | None) -> None:
        """Start from what carries the site already; None: nothing does."""
        self.state = State.initial(self._policy, adopted)

    def feed(self, event: Event, at: Instant | None = None) -> None:
        """Hand one event to the core and have done what it asks.

        `at`: when it was seen, if not now; not before the last event fed.
        """
        if at is None:
            self.before()
        now = self._clock.now() if at is None else at
        before = self.state
        self.state, actions = step(before, event, now)
        if self._journal is not None and (self.state is not before or actions):
            try:
                self._journal.record(before, event, now, actions)
            except JournalError as error:
                self._troubles.tell("journal", str(error))
        for action in actions:
            self._carry_out(action)
        if not self._stopping:
            self._set_timer()

    def stop(self) -> None:
        """Set no timer any more."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        now = self._clock.now()
        deadline = next_deadline(self.state, now)
        if self._timer is not None:
            if deadline == self._due:
                return  # Most events change no deadline.
            self._timer.cancel()
        self._due = deadline
        wait_s = max(0.0, deadline - now)
        self._timer = asyncio.get_running_loop().call_later(
            wait_s, self._tick, now + wait_s
        )

    def _tick(self, due: float) -> None:
        self._timer = None
        late_s = self._clock.now() - due
        if late_s > LATE_LOOP_S:
            _log.warning("the event loop was %.1f s late: the Pi is overloaded", late_s)
        self.feed(Tick())
