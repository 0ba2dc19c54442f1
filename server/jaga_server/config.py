"""The collector's configuration, `collector.toml`. Reads files, opens nothing else."""

from __future__ import annotations

import ipaddress
import stat
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta, Struct

from jaga_agent import strict_toml
from jaga_agent.strict_toml import Port, Secret, Text
from jaga_agent.wire.echo import DEFAULT_PORT, KEY_BYTES, key_of_text
from jaga_agent.wire.topics import Region
from jaga_server import site_list
from jaga_server.core.model import Site, Thresholds
from jaga_server.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jaga_agent.strict_toml import Fault

CLIENT_ID: Final = "jaga-collector"
RECEIVE_MAXIMUM: Final = 1000
"""Messages the broker may send ahead of our acknowledgements."""
SESSION_EXPIRY_S: Final = 604_800
"""A week: the broker keeps what comes while no collector runs."""
HISTORY_WINDOW: Final = 20
"""Histories that the broker may send ahead of our acknowledgements: at most a megabyte."""

_USUAL = Thresholds()

Word = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z0-9._-]{1,64}\Z",
        description="1 to 64 letters, digits, '-', '_' or '.'",
    ),
]
Seconds = Annotated[float, Meta(ge=1, le=86400, description="seconds, 1 to 86400")]


# The file, table by table.


class CollectorTable(Struct, frozen=True, forbid_unknown_fields=True):
    region: Region
    district: Annotated[Text, Meta(description='its name, e.g. "Kutai Timur"')]
    sites: Annotated[Text, Meta(description='the site list, e.g. "sites.csv"')]
    kecamatan: (
        Annotated[Text, Meta(description='outlines, e.g. "kecamatan.geojson"')] | None
    ) = None
    timezone: Annotated[
        Text, Meta(description='an IANA name, e.g. "Asia/Makassar"')
    ] = "Asia/Makassar"


class MqttTable(Struct, frozen=True, forbid_unknown_fields=True):
    host: Text | None = None
    port: Port | None = None
    """8883 with TLS, 1883 without."""
    socket: Text | None = None
    """The broker's Unix socket, instead of host and port."""
    username: Text | None = None
    password: Secret | None = None
    tls: bool = True
    ca: Text | None = None
    """The authority that signed the broker."""
    cert: Text | None = None
    key: Text | None = None
    history_cert: Text | None = None
    """Of the second session; where a broker has one session for each certificate."""
    history_key: Text | None = None
    client_id: Word = CLIENT_ID
    share: Word | None = None
    """A shared subscription's name, for several collectors."""
    receive_maximum: Annotated[int, Meta(ge=20, le=65535)] = RECEIVE_MAXIMUM
    session_expiry_s: Annotated[int, Meta(ge=60, le=4_294_967_294)] = SESSION_EXPIRY_S


class StoreTable(Struct, frozen=True, forbid_unknown_fields=True):
    path: Annotated[Text, Meta(description='a file, e.g. "collector.db"')]


class WebTable(Struct, frozen=True, forbid_unknown_fields=True):
    host: Text = "127.0.0.1"
    port: Port = 8080


class EchoTable(Struct, frozen=True, forbid_unknown_fields=True):
    secret_file: Annotated[
        Text, Meta(description='the master secret\'s file, e.g. "echo.secret"')
    ]
    listen: Annotated[Text, Meta(description='an IPv4 address, e.g. "0.0.0.0"')] = (
        "0.0.0.0"  # noqa: S104 (it answers what is authentic only)
    )
    port: Port = DEFAULT_PORT


class PresenceTable(Struct, frozen=True, forbid_unknown_fields=True):
    interval_polling_day_s: Seconds = _USUAL.interval_polling_day_s
    interval_ready_s: Seconds = _USUAL.interval_ready_s
    interval_dormant_s: Seconds = _USUAL.interval_dormant_s
    overdue_missed: Annotated[int, Meta(ge=1, le=100)] = _USUAL.overdue_missed
    offline_missed: Annotated[int, Meta(ge=2, le=1000)] = _USUAL.offline_missed
    last_resort_s: Seconds = _USUAL.last_resort_s


class File(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    collector: CollectorTable
    store: StoreTable
    mqtt: MqttTable = MqttTable()
    web: WebTable = WebTable()
    echo: EchoTable | None = None
    """Left out: no reflector."""
    presence: PresenceTable = PresenceTable()


# What the program works with: paths resolved, contradictions excluded.


@dataclass(frozen=True, slots=True)
class Mqtt:
    """How to reach the broker. Exactly one of `host` and `socket` is set."""

    host: str | None = None
    port: int = 8883
    socket: Path | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = True
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    history_cert: Path | None = None
    history_key: Path | None = None
    client_id: str = CLIENT_ID
    share: str | None = None
    receive_maximum: int = RECEIVE_MAXIMUM
    session_expiry_s: int = SESSION_EXPIRY_S

    @property
    def address(self) -> str:
        """Return where the broker is, for people."""
        return f"unix:{self.socket}" if self.socket else f"{self.host}:{self.port}"

    @property
    def history(self) -> Mqtt | None:
        """Return how the second session is reached, which histories come by.

        None: everything comes by one. A broker set up by jaga-deploy has one session for
        each certificate, so that two with the same would throw each other out.
        """
        if self.cert is not None and self.history_cert is None:
            return None
        return replace(
            self,
            client_id=f"{self.client_id}-history",
            receive_maximum=HISTORY_WINDOW,
            cert=self.history_cert,
            key=self.history_key,
        )


@dataclass(frozen=True, slots=True)
class Echo:
    """Where the reflector listens, and the secret that every site's key comes from."""

    listen: str
    port: int
    master: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything `jaga-collector run` needs; paths are absolute."""

    region: str
    district: str
    sites: tuple[Site, ...]
    kecamatan: Path | None
    timezone: str
    mqtt: Mqtt
    store: Path
    web_host: str
    web_port: int
    thresholds: Thresholds
    echo: Echo | None = None


def load(path: Path) -> Config:
    """Return the configuration in `path`; raises ConfigError with every fault."""
    base = path.resolve().parent
    try:
        file, text = strict_toml.load(path, File)
        strict_toml.refuse(
            str(path), text, (*_contradictions(file), *_not_there(file, base))
        )
    except strict_toml.TomlError as error:
        raise ConfigError(str(error)) from error

    def beside(name: str | None) -> Path | None:
        return None if name is None else base / name

    collector, mqtt = file.collector, file.mqtt
    return Config(
        region=collector.region,
        district=collector.district,
        sites=site_list.read(base / collector.sites),
        kecamatan=beside(collector.kecamatan),
        timezone=collector.timezone,
        mqtt=Mqtt(
            host=mqtt.host,
            port=mqtt.port or (8883 if mqtt.tls else 1883),
            socket=beside(mqtt.socket),
            username=mqtt.username,
            password=mqtt.password,
            tls=mqtt.tls and mqtt.host is not None,
            ca=beside(mqtt.ca),
            cert=beside(mqtt.cert),
            key=beside(mqtt.key),
            history_cert=beside(mqtt.history_cert),
            history_key=beside(mqtt.history_key),
            client_id=mqtt.client_id,
            share=mqtt.share,
            receive_maximum=mqtt.receive_maximum,
            session_expiry_s=mqtt.session_expiry_s,
        ),
        store=base / file.store.path,
        web_host=file.web.host,
        web_port=file.web.port,
        thresholds=Thresholds(**msgspec.structs.asdict(file.presence)),
        echo=None if file.echo is None else _echo(file.echo, base),
    )


def _echo(table: EchoTable, base: Path) -> Echo:
    """Return the reflector's settings; raises ConfigError about its secret."""
    path = base / table.secret_file
    try:
        mode = path.stat().st_mode
        master = key_of_text(path.read_text(encoding="ascii"))
    except FileNotFoundError as error:
        message = (
            f"echo.secret_file: there is no file {path}; make one:"
            f" (umask 077; openssl rand -hex {KEY_BYTES} > {path})"
        )
        raise ConfigError(message) from error
    except OSError as error:
        message = (
            f"echo.secret_file: {path}: {error.strerror}; let the collector read it"
        )
        raise ConfigError(message) from error
    except ValueError as error:
        reason = "not text" if isinstance(error, UnicodeDecodeError) else str(error)
        message = (
            f"echo.secret_file: {path}: {reason}; make one:"
            f" openssl rand -hex {KEY_BYTES} (every site then needs a new key)"
        )
        raise ConfigError(message) from error
    if mode & stat.S_IRWXO:
        message = f"echo.secret_file: everybody may use {path}; run: chmod o= {path}"
        raise ConfigError(message)
    return Echo(table.listen, table.port, master)


def _contradictions(file: File) -> Iterator[Fault]:
    """Yield what the shapes cannot say."""
    presence = file.presence
    yield from _mqtt(file.mqtt)
    if file.echo is not None:
        try:
            ipaddress.IPv4Address(file.echo.listen)
        except ValueError:
            problem = f'"{file.echo.listen}" will not do; want an IPv4 address of this'
            yield ("echo", "listen"), problem + ' machine, or "0.0.0.0" for all'
    if presence.offline_missed <= presence.overdue_missed:
        problem = f"must be more than overdue_missed, {presence.overdue_missed}"
        yield ("presence", "offline_missed"), problem


def _mqtt(mqtt: MqttTable) -> Iterator[Fault]:
    if (mqtt.host is None) == (mqtt.socket is None):
        which = "and has neither" if mqtt.host is None else "not both"
        yield ("mqtt",), f"needs either host (and port) or socket, {which}"
    if mqtt.socket and mqtt.port:
        yield ("mqtt", "port"), "has no meaning with mqtt.socket; remove it"
    if mqtt.host and not mqtt.tls:
        for name in ("ca", "cert", "key", "history_cert", "history_key"):
            if getattr(mqtt, name) is not None:
                problem = "has no meaning with tls = false; remove one of them"
                yield ("mqtt", name), problem
    for cert, key in (("cert", "key"), ("history_cert", "history_key")):
        if (getattr(mqtt, cert) is None) != (getattr(mqtt, key) is None):
            lacking = key if getattr(mqtt, key) is None else cert
            yield ("mqtt", lacking), f"missing; `{cert}` and `{key}` go together"
    if mqtt.history_cert is not None and mqtt.history_cert == mqtt.cert:
        problem = (
            "must be another one than mqtt.cert: jaga-deploy collector issue history"
        )
        yield ("mqtt", "history_cert"), problem
    if mqtt.password is not None and mqtt.username is None:
        yield ("mqtt", "password"), "needs mqtt.username; write both or none"


def _not_there(file: File, base: Path) -> Iterator[Fault]:
    """Yield what the file names and this machine does not have."""
    timezone = file.collector.timezone
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        problem = f'"{timezone}" is unknown here; write an IANA name, e.g. '
        yield ("collector", "timezone"), problem + '"Asia/Makassar"'
    named = {
        ("collector", "kecamatan"): file.collector.kecamatan,
        ("mqtt", "ca"): file.mqtt.ca,
        ("mqtt", "cert"): file.mqtt.cert,
        ("mqtt", "key"): file.mqtt.key,
        ("mqtt", "history_cert"): file.mqtt.history_cert,
        ("mqtt", "history_key"): file.mqtt.history_key,
    }
    for where, name in named.items():
        if name is not None and not (base / name).is_file():
            yield where, f"there is no file {base / name}"
    directory = (base / file.store.path).parent
    if not directory.is_dir():
        yield ("store", "path"), f"there is no directory {directory}; create it"
