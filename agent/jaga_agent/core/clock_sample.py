"""How wrong the Pi's clock is, by the collector's. Pure; nobody's clock is set here.

As in NTP (RFC 5905, 8), with CLOCK_BOOTTIME in the place of the client's clock: a Pi's
wall clock may jump between two samples, its boot-time clock does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jaga_agent.core.stamps import Stamp

SAMPLES_KEPT: Final = 8
"""RFC 5905, 7.2: NSTAGE of the clock filter."""
DRIFT_RATIO: Final = 50e-6
"""By how much a Pi's clock may run wrong. RFC 5905, 7.2, says 15 ppm (PHI) of a host in
a room; a Pi has a bare crystal without compensation (of the ±20 to ±30 ppm kind over its
temperatures, and ageing) in a closed case under a tin roof."""


@dataclass(frozen=True, slots=True)
class ClockSample:
    """One exchange with the collector."""

    boot_ns: int
    """When the answer came, CLOCK_BOOTTIME."""
    epoch_ns: int
    """What UTC was when CLOCK_BOOTTIME was 0, by the collector's clock: theta of
    RFC 5905, ((T2 − T1) + (T3 − T4)) / 2."""
    delay_ns: int
    """Round trip without the collector's own time: (T4 − T1) − (T3 − T2)."""
    error_ns: int
    """How wrong the collector's clock may be, as it says itself."""
    synchronised: bool
    """Whether the collector's clock follows a source of UTC."""


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """The collector's clock minus the Pi's: what must be added to the Pi's."""

    offset_ns: int
    uncertainty_ns: int
    """Half the round trip (one way may be all of it), the collector's own error, and
    what the Pi's oscillator may have drifted since."""
    synchronised: bool
    age_ns: int


def sample(
    sent_boot_ns: int,
    received_boot_ns: int,
    *,
    receive_ns: int,
    hold_ns: int,
    error_s: float,
    synchronised: bool,
) -> ClockSample:
    """Return what one exchange says: T1, T4 on CLOCK_BOOTTIME, T2 and T3 − T2 there."""
    transmit_ns = receive_ns + hold_ns
    theta_ns = (receive_ns - sent_boot_ns + transmit_ns - received_boot_ns) // 2
    delay_ns = received_boot_ns - sent_boot_ns - hold_ns
    return ClockSample(
        received_boot_ns,
        theta_ns,
        max(0, delay_ns),
        round(error_s * 1e9),
        synchronised,
    )


def best(samples: Iterable[ClockSample]) -> ClockSample | None:
    """Return the sample of the shortest delay: the least room for asymmetry."""
    return min(samples, key=lambda each: each.delay_ns, default=None)


def offset(of: ClockSample, now: Stamp) -> ClockOffset:
    """Return how far the Pi's wall clock is off at `now`."""
    age_ns = max(0, now.boot_ns - of.boot_ns)
    return ClockOffset(
        of.epoch_ns + now.boot_ns - now.wall_ns,
        of.delay_ns // 2 + of.error_ns + round(age_ns * DRIFT_RATIO),
        of.synchronised,
        age_ns,
    )
