"""The agent's configuration: one TOML file, strict, with sound defaults.

Everything but `site.id`, `mqtt.host` and one uplink may be left out. Unknown keys,
wrong types and contradictions raise ConfigError with file, line, key and fix.
"""

from __future__ import annotations

import hashlib
import ipaddress
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from jaga_agent import strict_toml, targets
from jaga_agent.core import governor
from jaga_agent.core.cost import PULSES
from jaga_agent.core.model import (
    Access,
    Check,
    Failback,
    Mode,
    Policy,
    Role,
    TargetKind,
    Uplink,
    UplinkName,
)
from jaga_agent.errors import ConfigError
from jaga_agent.strict_toml import Port, Secret, Text
from jaga_agent.wire.echo import key_of_text
from jaga_agent.wire.topics import Region, SiteId

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jaga_agent.strict_toml import Fault
    from jaga_agent.targets import ProbeTarget

Positive = Annotated[float, msgspec.Meta(gt=0)]
Word = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\A[A-Za-z0-9][A-Za-z0-9 ._-]{0,31}\Z",
        description="1 to 32 letters, digits, spaces, '.', '_' or '-'",
    ),
]
Device = Annotated[
    str,
    msgspec.Meta(
        # IFNAMSIZ is 16 with the final NUL.
        pattern=r"\A[A-Za-z0-9_.-]{1,15}\Z",
        description='a network device\'s name, e.g. "wan0"',
    ),
]

HEARTBEAT_S = {Mode.POLLING_DAY: 10.0, Mode.READY: 60.0, Mode.DORMANT: 300.0}
"""Between heartbeats, by the site's stage."""

KEEPALIVE_S = {Mode.POLLING_DAY: 30, Mode.READY: 90, Mode.DORMANT: 450}
"""MQTT's keep-alive: above the heartbeats', so that no ping is ever sent besides them. The
broker takes a site for gone after one and a half times this."""

DEFAULT_RESOLVERS = ("1.1.1.1", "8.8.8.8", "9.9.9.9")
"""Of three operators: whom the LAN's names are asked from, each uplink one of them, and
the checks' names through the uplink that is checked."""

DEFAULT_TARGETS = (
    ("cloudflare", "icmp://1.1.1.1"),
    ("google", "icmp://8.8.8.8"),
    ("quad9", "icmp://9.9.9.9"),
)
"""Three anycast services of three operators: one alone may rate-limit or fail."""


class Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: SiteId
    region: Region = "6408"
    mode: Mode = Mode.POLLING_DAY
    language: Literal["id", "en"] = "id"
    """Of what `explain` tells."""


class UplinkTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Word
    device: Device
    provider: Word | None = None
    """As in the site list; the name, if left out."""
    preference: Annotated[int, msgspec.Meta(ge=0, le=1000)] | None = None
    """Lower first; the place in the file, if left out."""
    access: Access = Access.LEARN
    """How it falls silent for a moment, if that is known; else it is learnt."""
    metered: bool = False
    quota_mb: Annotated[int, msgspec.Meta(ge=1)] | None = None
    quota_since: (
        Annotated[
            datetime,
            msgspec.Meta(
                tz=True,
                description="a time with its offset, e.g. 2027-02-14T00:00:00+08:00",
            ),
        ]
        | None
    ) = None
    """When the package began. A later one bought is told by `jaga-agent quota reset`."""
    mtu: Annotated[int, msgspec.Meta(ge=576, le=9000)] | None = None
    """What the provider carries in one packet, if less than its device says."""


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Word
    url: str
    role: Role = Role.REFERENCE
    expect_status: tuple[Annotated[int, msgspec.Meta(ge=100, le=599)], ...] = ()
    """http, https: empty is 200 to 399 without leaving the host."""
    expect_text: Annotated[Text, msgspec.Meta(max_length=256)] | None = None
    """http, https: must stand in the first 4 KiB of the body."""
    ca: Text | None = None
    """tls, https: file; the system's store, if left out."""
    interval_s: Annotated[float, msgspec.Meta(ge=1)] | None = None
    """Checks only; 900, if left out."""

    def parsed(self) -> ProbeTarget:
        """Return what the URL names; raises ValueError with the fix."""
        return targets.parse(
            self.name,
            self.url,
            self.role,
            expect_status=self.expect_status,
            expect_text=self.expect_text,
            ca=self.ca,
            interval_s=self.interval_s,
        )


class Lan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    devices: tuple[Device, ...] = ()
    """Empty: the Pi guards only itself."""
    ipv6: Literal["refuse", "leave"] = "refuse"
    """Refuse what would leave by an uplink at once, or leave it to somebody else."""
    dns: bool | None = None
    """Keep the list of the resolver that jaga-dns.service runs; true where there is a
    LAN, if left out."""
    resolvers: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=8)] = (
        DEFAULT_RESOLVERS
    )
    """IPv4 addresses, asked through the uplinks in turn."""


class Mqtt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    host: Annotated[
        str,
        msgspec.Meta(
            min_length=1, max_length=253, description="the broker's name or address"
        ),
    ]
    port: Port | None = None
    """8883 with TLS, 1883 without."""
    tls: bool = True
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    username: str | None = None
    password: Secret | None = None
    keepalive_s: Annotated[int, msgspec.Meta(ge=5, le=600)] | None = None
    """By the stage, if left out: heartbeats are what keeps the connection alive."""
    history_kbit_s: Annotated[float, msgspec.Meta(ge=1, le=100_000)] = 64.0
    """What records that could not be sent live may take of the uplink."""
    will_delay_s: Annotated[int, msgspec.Meta(ge=0, le=3600)] = 30


class StateTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    directory: str = "/var/lib/jaga"
    socket: str = "/run/jaga/agent.sock"
    journal: str | None = "/run/jaga/journal.jsonl"
    """What the engine saw and did, for `replay`; in RAM; "" keeps none."""
    dns_directory: str = "/run/jaga-dns"
    """Where jaga-dns.service has its list of resolvers."""
    spool_mb: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 64


class Echo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key_file: Annotated[
        str,
        msgspec.Meta(
            min_length=1, description='the key\'s file, e.g. "/etc/jaga/echo.key"'
        ),
    ]


class Decide(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    probe_interval_s: Positive | None = None
    """None: what the stage's allowance pays for."""
    recovery_interval_s: Positive = 2.0
    hold_down_s: Annotated[float, msgspec.Meta(ge=0)] = 60.0
    hold_down_cap_s: Annotated[float, msgspec.Meta(ge=0)] = 900.0
    rtt_degraded_ms: Positive = 800.0
    rise: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    failback: Failback = Failback.AFTER_HOLD_DOWN


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    site: Site
    uplink: Annotated[tuple[UplinkTable, ...], msgspec.Meta(min_length=1, max_length=8)]
    mqtt: Mqtt
    target: Annotated[tuple[Target, ...], msgspec.Meta(max_length=8)] = ()
    lan: Lan = Lan()
    state: StateTable = StateTable()
    decide: Decide = Decide()
    echo: Echo | None = None
    """Needed by udp-echo targets only."""

    @property
    def by_preference(self) -> tuple[UplinkTable, ...]:
        """The uplinks, the preferred first; of equals, the one written first."""
        ranked = sorted(
            enumerate(self.uplink),
            key=lambda pair: (self._preference(pair[0]), pair[0]),
        )
        return tuple(uplink for _, uplink in ranked)

    def preference_of(self, uplink: UplinkTable) -> int:
        """Return the uplink's preference, as said or by its place."""
        return self._preference(self.uplink.index(uplink))

    def _preference(self, index: int) -> int:
        said = self.uplink[index].preference
        return index + 1 if said is None else said

    @property
    def devices(self) -> dict[UplinkName, str]:
        """The uplinks' devices, the preferred first."""
        return {UplinkName(u.name): u.device for u in self.by_preference}

    @property
    def pulse_targets(self) -> tuple[ProbeTarget, ...]:
        """The targets of heartbeats and races: as said, or the defaults."""
        said = [target.parsed() for target in self.target]
        pulses = tuple(target for target in said if target.is_pulse)
        if pulses:
            return pulses
        taken = {target.name for target in said}
        return tuple(
            # A check may have the name: its address tells it apart.
            targets.parse(url.partition("://")[2] if name in taken else name, url)
            for name, url in DEFAULT_TARGETS
        )

    @property
    def check_targets(self) -> tuple[ProbeTarget, ...]:
        """The targets that are asked for the real thing, rarely."""
        said = (target.parsed() for target in self.target)
        return tuple(target for target in said if not target.is_pulse)

    @property
    def resolvers(self) -> tuple[tuple[str, int], ...]:
        """Who is asked for the checks' names: the `dns` targets, or the LAN's resolvers."""
        said = {
            (target.host, target.port or 53): None
            for target in self.check_targets
            if target.kind is TargetKind.DNS
        }
        return tuple(said) or tuple((address, 53) for address in self.lan.resolvers)

    @property
    def probe_interval_s(self) -> float:
        """Between an idle uplink's heartbeat probes: as said, or within the allowance."""
        if self.decide.probe_interval_s is not None:
            return self.decide.probe_interval_s
        costs = [PULSES[target.kind.value].both_bytes for target in self.pulse_targets]
        allowance_bytes = governor.ALLOWANCE_BYTES[self.site.mode]
        return governor.probe_interval_s(max(costs), allowance_bytes)

    @property
    def keepalive_s(self) -> int:
        """MQTT's keep-alive: as said, or by the stage."""
        said = self.mqtt.keepalive_s
        return KEEPALIVE_S[self.site.mode] if said is None else said

    @property
    def serves_dns(self) -> bool:
        """Whether the LAN's resolver is ours to keep."""
        return bool(self.lan.devices) if self.lan.dns is None else self.lan.dns

    @property
    def policy(self) -> Policy:
        """What the engine decides by."""
        decide = self.decide
        return Policy(
            uplinks=tuple(
                Uplink(
                    UplinkName(u.name),
                    self.preference_of(u),
                    u.access,
                    quota_bytes(u) if u.metered else None,
                )
                for u in self.by_preference
            ),
            targets=tuple(target.name for target in self.pulse_targets),
            checks=tuple(
                Check(target.name, target.kind, target.role, target.interval_s)
                for target in self.check_targets
            ),
            probe_interval_s=self.probe_interval_s,
            allowance_bytes=governor.ALLOWANCE_BYTES[self.site.mode],
            recovery_interval_s=decide.recovery_interval_s,
            hold_down_s=decide.hold_down_s,
            hold_down_cap_s=decide.hold_down_cap_s,
            rtt_degraded_s=decide.rtt_degraded_ms / 1000,
            rise=decide.rise,
            failback=decide.failback,
        )


def quota_bytes(uplink: UplinkTable) -> int | None:
    """Return the uplink's package in bytes (operators' megabytes are decimal)."""
    return None if uplink.quota_mb is None else uplink.quota_mb * 1_000_000


def quota_since_ms(uplink: UplinkTable) -> int | None:
    """Return when the uplink's package began, in Unix milliseconds."""
    since = uplink.quota_since
    return None if since is None else round(since.timestamp() * 1000)


def echo_key(path: Path) -> bytes:
    """Return the site's udp-echo key; raises ConfigError."""
    get = "get it with: jaga-collector echo-key SITE"
    try:
        return key_of_text(path.read_text(encoding="ascii"))
    except OSError as error:
        msg = f"echo.key_file: {path}: {error.strerror}; {get}"
        raise ConfigError(msg) from error
    except ValueError as error:
        reason = "not text" if isinstance(error, UnicodeDecodeError) else str(error)
        msg = f"echo.key_file: {path}: {reason}; {get}"
        raise ConfigError(msg) from error


def load(path: Path) -> tuple[Config, str]:
    """Return the configuration and its hash (16 hex digits of SHA-256).

    Raises ConfigError with every fault, one a line.
    """
    try:
        config, text = strict_toml.load(path, Config)
        strict_toml.refuse(str(path), text, _contradictions(config))
    except strict_toml.TomlError as error:
        raise ConfigError(str(error)) from error
    return config, hashlib.sha256(text.encode()).hexdigest()[:16]


def _contradictions(config: Config) -> Iterator[Fault]:
    """Yield what the shapes cannot say."""
    yield from _twice("uplink", "name", [u.name for u in config.uplink])
    yield from _twice("uplink", "device", [u.device for u in config.uplink])
    yield from _twice("target", "name", [t.name for t in config.target])
    for index, target in enumerate(config.target):
        yield from _target(index, target)
        if target.url.startswith("udp-echo://") and config.echo is None:
            problem = (
                f"`{target.url}` needs the site's key: run `jaga-collector echo-key"
                f' {config.site.id}`, put it into a file, and add [echo] key_file = "…"'
            )
            yield ("target", index, "url"), problem
    for device in set(config.lan.devices) & {u.device for u in config.uplink}:
        yield ("lan", "devices"), f"`{device}` is an uplink's device too; name one only"
    for resolver in config.lan.resolvers:
        try:
            ipaddress.IPv4Address(resolver)
        except ValueError:
            problem = f"`{resolver}` will not do; want IPv4 addresses"
            yield ("lan", "resolvers"), problem
    if config.lan.dns and not config.lan.devices:
        problem = "is true, yet there is no LAN; name its devices in lan.devices"
        yield ("lan", "dns"), problem
    yield from _tls(config.mqtt)


def _target(index: int, target: Target) -> Iterator[Fault]:
    try:
        parsed = target.parsed()
    except ValueError as error:
        yield ("target", index, "url"), str(error)
        return
    kind = parsed.kind
    if parsed.is_pulse and target.interval_s is not None:
        problem = f"{kind.value} goes by decide.probe_interval_s; leave it out here"
        yield ("target", index, "interval_s"), problem
    if kind not in {TargetKind.TLS, TargetKind.HTTPS} and target.ca is not None:
        problem = f"{kind.value} checks no certificate; leave it out, or use https://"
        yield ("target", index, "ca"), problem
    if kind not in {TargetKind.HTTP, TargetKind.HTTPS}:
        for key in ("expect_status", "expect_text"):
            if getattr(target, key):
                problem = f"{kind.value} has no answer to read; use http:// or https://"
                yield ("target", index, key), problem


def _twice(table: str, key: str, values: list[str]) -> Iterator[Fault]:
    for index, value in enumerate(values):
        first = values.index(value)
        if first < index:
            problem = f"`{value}` is already {table}[{first + 1}]; change one"
            yield (table, index, key), problem


def _tls(mqtt: Mqtt) -> Iterator[Fault]:
    if not mqtt.tls and (mqtt.ca or mqtt.cert or mqtt.key):
        yield ("mqtt", "tls"), "is false, yet certificates are given; drop one of them"
    if mqtt.tls and mqtt.ca is None:
        problem = "missing; give the CA file, or say `tls = false` in a lab"
        yield ("mqtt", "ca"), problem
    if (mqtt.cert is None) != (mqtt.key is None):
        lacking = "key" if mqtt.key is None else "cert"
        yield ("mqtt", lacking), "missing; `cert` and `key` go together"
