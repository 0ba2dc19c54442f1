"""A whole district of simulated polling sites: what their agents would have measured.

No I/O, no clock: each site advances one heartbeat interval
when asked, and the same seed gives the same district. Records are the agent's own wire
structs, so a collector cannot tell these sites from real ones.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from jaga_agent.wire.messages import (
    Event,
    HealthCode,
    Heartbeat,
    HostBeat,
    ModeCode,
    Status,
    UplinkBeat,
    UplinkIdentity,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaga_server.core.model import Site

VERSION = "0.1.0+fleet"
PROBES_PER_S = 1.0
FAILBACK_AFTER_BEATS = 6
"""A preferred uplink must be up this long before it takes the site back."""


class Moment(NamedTuple):
    """When a record is made, as the agent stamps it."""

    at_ms: int
    """Milliseconds since boot."""
    wall_ms: int
    """Unix milliseconds."""


@dataclass(frozen=True, slots=True)
class ProviderModel:
    """How a provider's lines behave in this simulation. Chosen, not measured."""

    rtt_ms: float
    loss_ratio: float
    between_troubles_s: float
    """Mean time from one trouble's end to the next."""
    trouble_s: float
    """Mean length of a trouble."""
    outage_ratio: float
    """Share of the troubles that are a full outage rather than a weak spell."""
    signal_dbm: int | None


PROVIDERS = {
    "Telkomsel": ProviderModel(48, 0.004, 9_000, 150, 0.3, -88),
    "Indosat": ProviderModel(57, 0.006, 7_000, 180, 0.3, -94),
    "XL": ProviderModel(61, 0.006, 7_000, 180, 0.3, -95),
    "Telkom": ProviderModel(19, 0.0005, 20_000, 300, 0.7, None),
    "Starlink": ProviderModel(52, 0.008, 6_000, 60, 0.5, None),
}

WEAK_LOSS_RATIO = (0.12, 0.3)
WEAK_RTT_FACTOR = 2.5


@dataclass(frozen=True, slots=True)
class Weather:
    """The troubles that stand for the whole run, so that there is something to find."""

    weak: frozenset[tuple[str, str]]
    """(kecamatan, provider)."""
    weak_sites_ratio: float = 0.02
    dark_sites_ratio: float = 0.01


def weather(sites: Sequence[Site], seed: int) -> Weather:
    """Return the district's weather: XL is weak in one kecamatan that has it."""
    having = sorted({site.kecamatan for site in sites if "XL" in site.providers})
    if not having:
        return Weather(weak=frozenset())
    chosen = random.Random(f"{seed}/weather").choice(having)  # noqa: S311 - simulation
    return Weather(weak=frozenset({(chosen, "XL")}))


@dataclass(slots=True)
class _Line:
    identity: UplinkIdentity
    model: ProviderModel
    distance: float
    """Factor on the round trip: how far this site is from its provider's core."""
    lasting: HealthCode | None
    """A trouble that does not end."""
    health: HealthCode = HealthCode.UP
    beats_up: int = FAILBACK_AFTER_BEATS
    left_s: float = 0.0


@dataclass(slots=True)
class SimulatedSite:
    """One site's agent, advanced one heartbeat at a time."""

    listed: Site
    seed: int
    boot: bytes
    weather: Weather
    interval_s: float
    seq: int = 0
    active: str | None = None
    _lines: list[_Line] = field(init=False)
    _random: random.Random = field(init=False)
    _uptime_s: float = field(init=False)
    _clock_age_s: float = field(init=False)
    _temperature_c: float = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(f"{self.seed}/{self.listed.site}")  # noqa: S311
        chance = self._random
        self._uptime_s = chance.uniform(3_600, 40_000)
        self._clock_age_s = chance.uniform(0, 1_024)
        self._temperature_c = chance.gauss(58, 5)
        spread = chance.random()
        # At most one lasting private trouble, and never on the preferred uplink of a
        # site that has no other.
        troubled = chance.randrange(len(self.listed.providers))
        self._lines = []
        for place, provider in enumerate(self.listed.providers):
            lasting = None
            if (self.listed.kecamatan, provider) in self.weather.weak:
                lasting = HealthCode.DEGRADED
            elif place == troubled and len(self.listed.providers) > 1:
                if spread < self.weather.dark_sites_ratio:
                    lasting = HealthCode.DOWN
                elif spread < (
                    self.weather.dark_sites_ratio + self.weather.weak_sites_ratio
                ):
                    lasting = HealthCode.DEGRADED
            self._lines.append(
                _Line(
                    identity=UplinkIdentity(
                        name=provider.lower(),
                        provider=provider,
                        device=f"wan{place}",
                        preference=place + 1,
                    ),
                    model=PROVIDERS[provider],
                    distance=chance.uniform(0.85, 1.5),
                    lasting=lasting,
                    health=HealthCode.UP if lasting is None else lasting,
                )
            )

    def status(self, *, online: bool, connection: int) -> Status:
        """Return the site's presence; offline is also its last will."""
        return Status(
            online=online,
            boot=self.boot,
            connection=connection,
            version=VERSION,
            uplinks=tuple(line.identity for line in self._lines) if online else (),
        )

    def advance(self, now: Moment) -> tuple[Event | Heartbeat, ...]:
        """Live through one interval: events first, then the heartbeat."""
        self._uptime_s += self.interval_s
        # Time synchronisation confirms the clock about every 17 minutes.
        self._clock_age_s = (self._clock_age_s + self.interval_s) % 1_024
        events = [
            self._event(
                now,
                kind="health",
                uplink=line.identity.name,
                old=old,
                new=new,
                reason=reason,
            )
            for line in self._lines
            for old, new, reason in self._evolve(line)
        ]
        decision = self._decide(now)
        if decision is not None:
            events.append(decision)
        beats = tuple(self._measure(line) for line in self._lines)
        self.seq += 1
        heartbeat = Heartbeat(
            boot=self.boot,
            seq=self.seq,
            at_ms=now.at_ms,
            wall_ms=now.wall_ms,
            clock_age_s=int(self._clock_age_s),
            mode=ModeCode.POLLING_DAY,
            active=self.active,
            uplinks=beats,
            host=self._host(),
        )
        return (*events, heartbeat)

    def _event(
        self,
        now: Moment,
        *,
        kind: str,
        uplink: str,
        old: str | None,
        new: str,
        reason: str,
        rule: str | None = None,
        detected_ms: int | None = None,
        switched_ms: int | None = None,
    ) -> Event:
        self.seq += 1
        return Event(
            boot=self.boot,
            seq=self.seq,
            at_ms=now.at_ms,
            wall_ms=now.wall_ms,
            clock_age_s=int(self._clock_age_s),
            kind=kind,
            rule=rule,
            uplink=uplink,
            old=old,
            new=new,
            reason=reason,
            detected_ms=detected_ms,
            switched_ms=switched_ms,
            evidence={"simulated": "yes"},
        )

    def _evolve(self, line: _Line) -> list[tuple[str, str, str]]:
        """Move one line on by one interval; return (old, new, reason) if it turned."""
        before = line.health
        if line.lasting is None:
            if line.health is HealthCode.UP:
                line.beats_up += 1
                hazard = self.interval_s / line.model.between_troubles_s
                if self._random.random() < hazard:
                    dark = self._random.random() < line.model.outage_ratio
                    line.health = HealthCode.DOWN if dark else HealthCode.DEGRADED
                    line.left_s = self._random.expovariate(1 / line.model.trouble_s)
            else:
                line.left_s -= self.interval_s
                if line.left_s <= 0:
                    line.health = HealthCode.UP
                    line.beats_up = 0
        if line.health is before:
            return []
        reason = {
            HealthCode.UP: "probes answered again",
            HealthCode.DEGRADED: "loss above the threshold",
            HealthCode.DOWN: "silent to every target while another uplink answers",
            HealthCode.UNKNOWN: "no evidence",
        }[line.health]
        return [(before.name.lower(), line.health.name.lower(), reason)]

    def _decide(self, now: Moment) -> Event | None:
        """Keep a working uplink; else the best there is; go home after the hold-down."""
        current = next(
            (line for line in self._lines if line.identity.name == self.active), None
        )
        up = [line for line in self._lines if line.health is HealthCode.UP]
        weak = [line for line in self._lines if line.health is HealthCode.DEGRADED]
        usable = up + weak
        if not usable or usable[0] is current:
            return None
        best = usable[0]
        if current is None:
            rule, reason = "first", "the most preferred uplink that works"
        elif current.health is HealthCode.DOWN:
            rule, reason = "failover", f"{current.identity.name} is down"
        elif current.health is HealthCode.DEGRADED:
            if best.health is not HealthCode.UP:
                return None
            rule, reason = "switchover", f"{current.identity.name} is degraded"
        elif (
            best.identity.preference < current.identity.preference
            and best.beats_up >= FAILBACK_AFTER_BEATS
        ):
            rule, reason = "failback", f"{best.identity.name} held through hold-down"
        else:
            return None
        old, self.active = self.active, best.identity.name
        detected_ms = (
            int(self._random.lognormvariate(6.6, 0.25)) if rule == "failover" else None
        )
        switched_ms = self._random.randint(1, 4)
        return self._event(
            now,
            kind="decision",
            rule=rule,
            uplink=best.identity.name,
            old=old,
            new=self.active,
            reason=reason,
            detected_ms=detected_ms,
            switched_ms=switched_ms,
        )

    def _measure(self, line: _Line) -> UplinkBeat:
        chance, model = self._random, line.model
        sent = max(1, round(PROBES_PER_S * self.interval_s))
        loss_ratio, factor = model.loss_ratio, line.distance
        if line.health is HealthCode.DEGRADED:
            loss_ratio, factor = chance.uniform(*WEAK_LOSS_RATIO), WEAK_RTT_FACTOR
        elif line.health is HealthCode.DOWN:
            loss_ratio = 1.0
        lost = sum(chance.random() < loss_ratio for _ in range(sent))
        rtts_ms = sorted(
            model.rtt_ms * factor * chance.lognormvariate(0, 0.18)
            for _ in range(sent - lost)
        )
        name = line.identity.name
        carries = name == self.active and line.health is not HealthCode.DOWN
        rx_bytes = int(chance.lognormvariate(11.5, 0.8)) if carries else 0
        return UplinkBeat(
            name=name,
            health=line.health,
            sent=sent,
            lost=lost,
            not_sent=0,
            rtt_min_us=round(rtts_ms[0] * 1_000) if rtts_ms else None,
            rtt_mean_us=(
                round(sum(rtts_ms) / len(rtts_ms) * 1_000) if rtts_ms else None
            ),
            rtt_max_us=round(rtts_ms[-1] * 1_000) if rtts_ms else None,
            rx_bytes=rx_bytes + 64 * (sent - lost),
            tx_bytes=rx_bytes // 6 + 64 * sent,
            signal_dbm=(
                None
                if model.signal_dbm is None
                else model.signal_dbm + chance.randint(-3, 3)
            ),
        )

    def _host(self) -> HostBeat:
        chance = self._random
        self._temperature_c += chance.gauss(0, 0.3) + (58 - self._temperature_c) * 0.02
        return HostBeat(
            uptime_s=int(self._uptime_s),
            cpu_permille=min(1_000, int(chance.lognormvariate(4.2, 0.4))),
            memory_permille=chance.randint(180, 240),
            disk_permille=chance.randint(110, 112),
            temperature_decidegc=round(self._temperature_c * 10),
        )
