"""What time it is: the sources' readings in, the best known UTC out, as `ports.TrueClock`.

It stands in the place of the Pi's own clock for everything that dates; measuring stays
on the kernel's clocks. The rules are `core.timekeeping`'s.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jaga_agent import tls
from jaga_agent.core import timekeeping
from jaga_agent.core.timekeeping import Source, Timekeeping
from jaga_agent.errors import ClockError
from jaga_agent.report import ClockChange

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaga_agent.config import Config
    from jaga_agent.core.clock_sample import ClockSample
    from jaga_agent.core.model import Instant
    from jaga_agent.core.reason import Reason
    from jaga_agent.core.stamps import Stamp
    from jaga_agent.core.timekeeping import CertificateTime, Reading
    from jaga_agent.ports import KeptTime, KernelClock

_log = logging.getLogger(__name__)

LOOK_S: Final = 2.0
"""How often the wall clock and the kernel's word on it are looked at."""
SAVE_S: Final = 60.0
TELL_S: Final = 60.0
"""At most one step is told in so long; what came between is told with the next."""
FLOOR_S: Final = 1_735_689_600
"""2025: no site ran before."""


def floor_s(config: Config) -> int:
    """Return an instant that is certainly past, in Unix seconds: the card's issue date.

    That is when the site's certificate was issued; without one the authority's; else
    `FLOOR_S`. A file that cannot be read is told of by whoever needs it.
    """
    for name in (config.mqtt.cert, config.mqtt.ca):
        if name is None:
            continue
        try:
            return max(FLOOR_S, tls.issued_s(Path(name)))
        except (OSError, ValueError) as error:
            _log.debug("%s: it is no witness of the time", error)
    return FLOOR_S


class Timekeeper:
    """The held time; fed on the event loop, read from any thread."""

    def __init__(
        self,
        clock: KernelClock,
        *,
        kept: KeptTime | None = None,
        saves: bool = True,
        floor_s: int = 0,
    ) -> None:
        """Take up what was held before in this boot; raises nothing.

        No UTC of before `floor_s` (Unix seconds) is believed. Whoever only reads what
        the agent keeps does not save.
        """
        self._clock = clock
        self._kept = kept if saves else None
        self._floor_s = floor_s
        self._state = Timekeeping()
        self._saved_at: float | None = None
        self._step_told_at: float | None = None
        self._untold_step_ns = 0
        self._listener: Callable[[Reason, ClockChange], None] | None = None
        self._untold: list[tuple[Reason, ClockChange]] = []
        if kept is not None:
            try:
                self._state = replace(self._state, held=kept.load())
            except ClockError as error:
                _log.warning("%s", error)
        self.look()

    # ---- what it says

    def now(self) -> Instant:
        """Return seconds since boot (CLOCK_BOOTTIME)."""
        return self._clock.now()

    def stamp(self) -> Stamp:
        """Return this moment on both of the kernel's clocks, to measure with."""
        return self._clock.stamp()

    def wall_ms(self) -> int:
        """Return the best known UTC in Unix milliseconds; the Pi's own if none is."""
        stamp, held = self._clock.stamp(), self._state.held
        wall_ns = stamp.wall_ns if held is None else held.utc_ns(stamp.boot_ns)
        return max(0, wall_ns // 1_000_000)

    def age_s(self) -> int:
        """Return seconds since that UTC was confirmed, -1 if never in this boot."""
        held = self._state.held
        return -1 if held is None else held.age_s(self._clock.stamp().boot_ns)

    def certificate_time(self) -> CertificateTime | None:
        """Return what to judge certificates' dates by; None: the Pi's clock is right."""
        return timekeeping.certificate_time(
            self._state, self._clock.stamp(), floor_s=self._floor_s
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the clock's part of the status answer."""
        stamp, held = self._clock.stamp(), self._state.held
        if held is None:
            return {
                "source": Source.UNKNOWN.value,
                "age_s": -1,
                "uncertainty_ms": None,
                "offset_ms": None,
            }
        return {
            "source": held.source.value,
            "age_s": held.age_s(stamp.boot_ns),
            "uncertainty_ms": held.uncertainty_at_ns(stamp.boot_ns) / 1e6,
            "offset_ms": (held.utc_ns(stamp.boot_ns) - stamp.wall_ns) / 1e6,
        }

    # ---- what it is told

    def begin(self, listener: Callable[[Reason, ClockChange], None]) -> None:
        """Tell `listener` each time the source changes or the wall clock stepped.

        What happened before is told now.
        """
        self._listener = listener
        for told in self._untold:
            listener(*told)
        self._untold.clear()

    def echoed(self, sample: ClockSample) -> None:
        """Take an exchange with the collector's reflector."""
        reading = timekeeping.of_sample(sample)
        if reading is not None:
            self.hear(reading)

    def hear(self, reading: Reading) -> None:
        """Take what a source says."""
        before = self._state
        self._state = timekeeping.hear(before, reading, floor_s=self._floor_s)
        self._follow(before)

    def look(self) -> None:
        """Look at the wall clock and the kernel's word on it."""
        before = self._state
        self._state, step_ns = timekeeping.see_wall(
            before, self._clock.stamp(), self._clock.ntp(), floor_s=self._floor_s
        )
        self._follow(before, step_ns)

    async def work(self) -> None:
        """Look now and then, for as long as the agent runs."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def close(self) -> None:
        """Keep what is held for the agent's next run."""
        self._save()

    # ---- what follows

    def _follow(self, before: Timekeeping, step_ns: int = 0) -> None:
        after = self._state
        if after.held is None and not step_ns and not self._untold_step_ns:
            return
        now = self._clock.now()
        self._untold_step_ns += step_ns
        told_at = self._step_told_at
        is_early = told_at is not None and now - told_at < TELL_S
        why = timekeeping.changed(
            before, after, step_ns=0 if is_early else self._untold_step_ns
        )
        if why is not None:
            if self._untold_step_ns:
                self._step_told_at = now
            self._tell(before, why)
            self._untold_step_ns = 0
        if after.held is not None and (
            why is not None or self._saved_at is None or now - self._saved_at >= SAVE_S
        ):
            self._save()

    def _tell(self, before: Timekeeping, why: Reason) -> None:
        stamp, held = self._clock.stamp(), self._state.held
        old = Source.UNKNOWN if before.held is None else before.held.source
        change = ClockChange(
            old.value,
            Source.UNKNOWN.value if held is None else held.source.value,
            None
            if held is None
            else (held.utc_ns(stamp.boot_ns) - stamp.wall_ns) / 1e6,
            None if held is None else held.uncertainty_at_ns(stamp.boot_ns) / 1e6,
            self._untold_step_ns / 1e6,
        )
        _log.warning("clock: %s", why)
        if self._listener is None:
            self._untold.append((why, change))
        else:
            self._listener(why, change)

    def _save(self) -> None:
        held = self._state.held
        if self._kept is None or held is None:
            return
        is_first = self._saved_at is None
        self._saved_at = self._clock.now()
        try:
            self._kept.save(held)
        except ClockError as error:
            # Told once: without the file a restart asks the sources again, no more.
            log = _log.warning if is_first else _log.debug
            log("%s", error)
