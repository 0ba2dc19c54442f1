"""What time it is on a Pi without a clock: which UTC is held, from whom, how exactly.

Pure: readings in, the held time out. The Pi's wall clock is nobody's word here. What is
held is UTC at the instant when CLOCK_BOOTTIME was 0; that stays true through every step
of the wall clock until the next boot, so UTC is that plus boot time, always.

Rules, in the order in which they are asked:

* A reading agrees with what is held if their uncertainties overlap. Then the more exact
  of the two offsets is held, in the name of the more trusted source: UTC moves only to
  become more exact.
* A reading that contradicts is believed at once from a more trusted source, and from
  the kernel while it calls itself synchronised (it has set its own clock then).
* From the same source it is believed when a second one, `AGAIN_NS` later, agrees with it
  and nobody has confirmed what was held in between.
* From a less trusted source it is not heard, unless the source held has been silent for
  `CURRENT_NS`; then as from the same source.
* A reading of before the floor (the card's issue date) is not heard at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final

from jaga_agent.core.clock_sample import DRIFT_RATIO
from jaga_agent.core.reason import Reason, because

if TYPE_CHECKING:
    from jaga_agent.core.clock_sample import ClockSample
    from jaga_agent.core.stamps import Stamp

_SECOND_NS: Final = 1_000_000_000

CURRENT_NS: Final = 3600 * _SECOND_NS
"""For how long a source counts after its last word: timesyncd asks every 2048 s at the
least (timesyncd.conf(5), PollIntervalMaxSec), a check runs every 1800 s."""
AGAIN_NS: Final = 30 * _SECOND_NS
"""How far apart two readings are that overturn what is held."""
FLOOR_SLACK_S: Final = 86_400
"""A technician's computer may run ahead by so much when it issues a card."""
STEP_NS: Final = 50_000_000
"""The wall clock stepped if it moved by more against boot time. Slewing, however fast,
turns both clocks (timekeeping_adjust in the kernel), so only a setting parts them; below
that it is the noise of reading two clocks on a busy Pi."""

KERNEL_LIMIT_US: Final = 16_000_000
"""NTP_PHASE_LIMIT (linux/timex.h): what maxerror is set to by every setting of the clock
that is not NTP's (ntp_clear), and where it ends when no daemon speaks any more."""
KERNEL_GROWTH_RATIO: Final = 500e-6
"""MAXFREQ (linux/timex.h): by which maxerror grows since a daemon spoke last."""
NTP_LEAST_NS: Final = 100_000_000
"""Of a synchronised kernel. timesyncd tells it a maxerror of 0 whatever the server's root
distance and the round trip were; through a modem those are some 100 ms."""
MODEM_NS: Final = 60 * _SECOND_NS
"""Network time of a modem (NITZ): whole seconds, set when the phone registered, by an
operator who promises nothing (3GPP TS 22.042 leaves the accuracy to the network)."""
AGREES_NS: Final = 60 * _SECOND_NS
"""A wall clock that is right within a minute may judge certificates."""


class Source(Enum):
    """Who says what time it is; the words of the wire's `clock` events."""

    UNKNOWN = "unknown"
    NTP = "ntp"
    REFLECTOR = "reflector"
    HTTP_DATE = "http-date"
    MODEM = "modem"


_TRUST: Final = {
    Source.NTP: 4,
    Source.REFLECTOR: 3,
    Source.HTTP_DATE: 2,
    Source.MODEM: 1,
    Source.UNKNOWN: 0,
}


@dataclass(frozen=True, slots=True)
class NtpState:
    """What the kernel says of its own clock (adjtimex(2))."""

    maxerror_us: int
    esterror_us: int
    offset_ns: int
    """What is still to be slewed."""

    @property
    def is_synchronised(self) -> bool:
        """Whether a daemon has set it, and nobody else since.

        By maxerror and not by STA_UNSYNC, as systemd's timedated does: chronyd without
        rtcsync and timesyncd with a clock in local time keep STA_UNSYNC set for ever.
        A step by hand (clock_settime) sets both.
        """
        return self.maxerror_us < KERNEL_LIMIT_US

    @property
    def told_ago_ns(self) -> int:
        """For how long the daemon has been silent, at most."""
        return round(self.maxerror_us * 1000 / KERNEL_GROWTH_RATIO)

    @property
    def uncertainty_ns(self) -> int:
        error_ns = max(self.maxerror_us, self.esterror_us) * 1000
        return error_ns + abs(self.offset_ns) + NTP_LEAST_NS


@dataclass(frozen=True, slots=True)
class Reading:
    """One source's word on the time."""

    source: Source
    boot_ns: int
    """When it was taken, CLOCK_BOOTTIME."""
    epoch_ns: int
    """What UTC was when CLOCK_BOOTTIME was 0, in nanoseconds since 1970."""
    uncertainty_ns: int
    """UTC is within so much of it, either way, at `boot_ns`."""
    told_ns: int
    """When its source knew that last, CLOCK_BOOTTIME: `boot_ns` but for NTP."""


@dataclass(frozen=True, slots=True)
class Held:
    """The best known UTC."""

    epoch_ns: int
    uncertainty_ns: int
    """At `at_ns`; it grows by `DRIFT_RATIO` from there."""
    at_ns: int
    source: Source
    """The most trusted source that says so and is not out of date."""
    told_ns: int
    """When that source said so last."""
    confirmed_ns: int
    """When any source said so last."""

    def uncertainty_at_ns(self, boot_ns: int) -> int:
        """Return by how much UTC may be off at an instant."""
        aged_ns = max(0, boot_ns - self.at_ns)
        return self.uncertainty_ns + round(aged_ns * DRIFT_RATIO)

    def utc_ns(self, boot_ns: int) -> int:
        """Return UTC at an instant of boot time, in nanoseconds since 1970."""
        return self.epoch_ns + boot_ns

    def age_s(self, boot_ns: int) -> int:
        """Return whole seconds since it was last confirmed."""
        return max(0, boot_ns - self.confirmed_ns) // _SECOND_NS


@dataclass(frozen=True, slots=True)
class Timekeeping:
    """The state: what is held, and what the wall clock did."""

    held: Held | None = None
    rival: Reading | None = None
    """Contradicts what is held; believed if it is said again."""
    wall_epoch_ns: int | None = None
    """The wall clock minus boot time when it was last looked at."""


def of_ntp(stamp: Stamp, ntp: NtpState) -> Reading | None:
    """Return the wall clock as a reading, if the kernel vouches for it."""
    if not ntp.is_synchronised:
        return None
    return Reading(
        Source.NTP,
        stamp.boot_ns,
        stamp.wall_ns - stamp.boot_ns,
        ntp.uncertainty_ns,
        max(0, stamp.boot_ns - ntp.told_ago_ns),
    )


def of_sample(sample: ClockSample) -> Reading | None:
    """Return an exchange with the reflector as a reading, if that knows the time."""
    if not sample.synchronised:
        return None
    return Reading(
        Source.REFLECTOR,
        sample.boot_ns,
        sample.epoch_ns,
        sample.delay_ns // 2 + sample.error_ns,
        sample.boot_ns,
    )


def of_http_date(date_s: int, *, sent_ns: int, received_ns: int) -> Reading:
    """Return what a Date says (RFC 9110, 6.6.1) of an answer to a request.

    It was written between the two instants of CLOCK_BOOTTIME, its fraction of a second
    cut off.
    """
    earliest_ns = date_s * _SECOND_NS - received_ns
    latest_ns = (date_s + 1) * _SECOND_NS - sent_ns
    return Reading(
        Source.HTTP_DATE,
        received_ns,
        (earliest_ns + latest_ns) // 2,
        (latest_ns - earliest_ns + 1) // 2,
        received_ns,
    )


def of_modem(utc_s: int, *, boot_ns: int) -> Reading:
    """Return a modem's network time, asked for at an instant of CLOCK_BOOTTIME."""
    return Reading(
        Source.MODEM, boot_ns, utc_s * _SECOND_NS - boot_ns, MODEM_NS, boot_ns
    )


def hear(keeping: Timekeeping, reading: Reading, *, floor_s: int) -> Timekeeping:
    """Return the state after a reading; the rules are above."""
    now_ns = reading.boot_ns
    utc_s = (reading.epoch_ns + now_ns) // _SECOND_NS
    if utc_s < floor_s - FLOOR_SLACK_S:
        return keeping
    held = keeping.held
    if held is None:
        return replace(keeping, held=_whole(reading), rival=None)
    if _agree(held, reading):
        return replace(keeping, held=_confirmed(held, reading), rival=None)
    if _overturns(keeping, held, reading):
        return replace(keeping, held=_whole(reading), rival=None)
    if _counts(held, reading):
        rival = keeping.rival
        if rival is None or not _agree(_whole(rival), reading):
            return replace(keeping, rival=reading)
    return keeping


def _overturns(keeping: Timekeeping, held: Held, reading: Reading) -> bool:
    """Return whether a reading that contradicts is believed."""
    if _TRUST[reading.source] > _TRUST[held.source]:
        return True
    if reading.source is held.source is Source.NTP:
        return True
    rival = keeping.rival
    return (
        rival is not None
        and _counts(held, reading)
        and _agree(_whole(rival), reading)
        and reading.boot_ns - rival.boot_ns >= AGAIN_NS
    )


def _counts(held: Held, reading: Reading) -> bool:
    """Return whether a source that is not more trusted may contradict at all."""
    return (
        _TRUST[reading.source] == _TRUST[held.source]
        or reading.boot_ns - held.told_ns > CURRENT_NS
    )


def see_wall(
    keeping: Timekeeping, stamp: Stamp, ntp: NtpState | None, *, floor_s: int
) -> tuple[Timekeeping, int]:
    """Return the state after a look at the wall clock, and by how far that stepped, in ns.

    0 if it did not. `ntp` None: the kernel does not say.
    """
    epoch_ns = stamp.wall_ns - stamp.boot_ns
    before_ns = keeping.wall_epoch_ns
    step_ns = 0 if before_ns is None else epoch_ns - before_ns
    if abs(step_ns) <= STEP_NS:
        step_ns = 0
    if step_ns or before_ns is None:
        # Otherwise many small steps would never be one.
        keeping = replace(keeping, wall_epoch_ns=epoch_ns)
    reading = None if ntp is None else of_ntp(stamp, ntp)
    if reading is not None:
        keeping = hear(keeping, reading, floor_s=floor_s)
    return keeping, step_ns


def changed(
    before: Timekeeping, after: Timekeeping, *, step_ns: int = 0
) -> Reason | None:
    """Return what is to be told of a change; None: nothing."""
    old, new = before.held, after.held
    step_ms = abs(step_ns) / 1e6
    if new is None:
        return because("clock.stepped.unknown", step_ms=step_ms) if step_ns else None
    name = new.source.value
    within_ms = new.uncertainty_ns / 1e6
    if old is None:
        off_ns = new.epoch_ns - (after.wall_epoch_ns or 0)
        return because(
            "clock.first", source=name, within_ms=within_ms, off_ms=abs(off_ns) / 1e6
        )
    moved_ns = abs(new.epoch_ns - old.epoch_ns)
    if moved_ns > old.uncertainty_at_ns(new.at_ns) + new.uncertainty_ns:
        return because(
            "clock.corrected", source=name, moved_ms=moved_ns / 1e6, within_ms=within_ms
        )
    if new.source is not old.source:
        return because(
            "clock.source", source=name, before=old.source.value, within_ms=within_ms
        )
    if step_ns:
        return because("clock.stepped", step_ms=step_ms, source=name)
    return None


# ---- certificates' dates


@dataclass(frozen=True, slots=True)
class CertificateTime:
    """The instant by which a certificate's dates are judged instead of the wall clock."""

    utc_s: int
    is_exact: bool
    """False: it is later than that, nobody knows by how much. A certificate that has
    expired by then is refused; one that begins after it is not."""


def certificate_time(
    keeping: Timekeeping, stamp: Stamp, *, floor_s: int
) -> CertificateTime | None:
    """Return what to judge certificates by; None: the wall clock, it is right."""
    wall_s = stamp.wall_ns // _SECOND_NS
    held = keeping.held
    if held is None:
        return CertificateTime(max(floor_s, wall_s), is_exact=False)
    utc_ns = held.utc_ns(stamp.boot_ns)
    off_ns = abs(stamp.wall_ns - utc_ns)
    if off_ns <= AGREES_NS + held.uncertainty_at_ns(stamp.boot_ns):
        return None
    return CertificateTime(max(floor_s, utc_ns // _SECOND_NS), is_exact=True)


def _whole(reading: Reading) -> Held:
    return Held(
        reading.epoch_ns,
        reading.uncertainty_ns,
        reading.boot_ns,
        reading.source,
        reading.told_ns,
        reading.told_ns,
    )


def _agree(held: Held, reading: Reading) -> bool:
    room_ns = held.uncertainty_at_ns(reading.boot_ns) + reading.uncertainty_ns
    return abs(held.epoch_ns - reading.epoch_ns) <= room_ns


def _confirmed(held: Held, reading: Reading) -> Held:
    now_ns = reading.boot_ns
    trust, trusted = _TRUST[reading.source], _TRUST[held.source]
    confirmed_ns = max(held.confirmed_ns, reading.told_ns)
    if trust >= trusted or now_ns - held.told_ns > CURRENT_NS:
        held = replace(held, source=reading.source, told_ns=reading.told_ns)
    if reading.uncertainty_ns <= held.uncertainty_at_ns(now_ns):
        held = replace(
            held,
            epoch_ns=reading.epoch_ns,
            uncertainty_ns=reading.uncertainty_ns,
            at_ns=now_ns,
        )
    return replace(held, confirmed_ns=confirmed_ns)
