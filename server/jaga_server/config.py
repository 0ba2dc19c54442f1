"""The collector's configuration, `collector.toml`. Reads files, opens nothing else."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jaga_agent.wire.topics import REGION_PATTERN, SITE_PATTERN
from jaga_server.core.model import Site, Thresholds
from jaga_server.errors import ConfigError
from jaga_server.toml_schema import Key, Schema, read

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA: Schema = {
    "collector": {
        "region": Key(
            str,
            'the Kemendagri code without dots, e.g. region = "6408"',
            required=True,
            pattern=REGION_PATTERN.pattern,
        ),
        "district": Key(str, 'its name, e.g. district = "Kutai Timur"', required=True),
        "sites": Key(str, 'the site list, e.g. sites = "sites.csv"', required=True),
        "kecamatan": Key(str, 'outlines, e.g. kecamatan = "kecamatan.geojson"'),
        "timezone": Key(
            str, 'an IANA name, e.g. timezone = "Asia/Makassar"', "Asia/Makassar"
        ),
    },
    "mqtt": {
        "host": Key(str, "the broker's name or address"),
        "port": Key(int, "a port from 1 to 65535", least=1, most=65535),
        "socket": Key(str, "the path of the broker's Unix socket"),
        "username": Key(str, "the collector's account at the broker"),
        "password": Key(str, "that account's password"),
        "tls": Key(bool, "true, or false for a lab without encryption", default=True),
        "ca": Key(str, "the file of the authority that signed the broker"),
        "cert": Key(str, "the file of the collector's certificate"),
        "key": Key(str, "the file of that certificate's private key"),
        "client_id": Key(
            str,
            "1 to 64 letters, digits, '-', '_' or '.'",
            default="jaga-collector",
            pattern=r"[A-Za-z0-9._-]{1,64}",
        ),
        "share": Key(
            str,
            "a shared subscription's name without '/', '+', '#'",
            pattern=r"[A-Za-z0-9._-]{1,64}",
        ),
        "receive_maximum": Key(
            int, "a number from 20 to 65535", default=1000, least=20, most=65535
        ),
        "session_expiry_s": Key(
            int,
            "seconds from 60 to 4294967294",
            default=604_800,
            least=60,
            most=4_294_967_294,
        ),
    },
    "store": {
        "path": Key(str, 'a file, e.g. path = "collector.db"', required=True),
    },
    "web": {
        "host": Key(str, "an address of this machine", default="127.0.0.1"),
        "port": Key(int, "a port from 1 to 65535", default=8080, least=1, most=65535),
    },
    "presence": {
        "interval_polling_day_s": Key(
            float, "seconds from 1 to 86400", default=10.0, least=1, most=86400
        ),
        "interval_ready_s": Key(
            float, "seconds from 1 to 86400", default=60.0, least=1, most=86400
        ),
        "interval_dormant_s": Key(
            float, "seconds from 1 to 86400", default=300.0, least=1, most=86400
        ),
        "overdue_missed": Key(
            int, "a number from 1 to 100", default=3, least=1, most=100
        ),
        "offline_missed": Key(
            int, "a number from 2 to 1000", default=12, least=2, most=1000
        ),
    },
}


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
    client_id: str = "jaga-collector"
    share: str | None = None
    receive_maximum: int = 1000
    session_expiry_s: int = 604_800

    @property
    def address(self) -> str:
        """Return where the broker is, for people."""
        return f"unix:{self.socket}" if self.socket else f"{self.host}:{self.port}"


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


def load(path: Path) -> Config:
    """Return the configuration in `path`; raises ConfigError with every fault."""
    text = _text(path, "configuration")
    file = str(path)
    values = read(text, file, SCHEMA)
    collector, mqtt, web = values["collector"], values["mqtt"], values["web"]
    base = path.resolve().parent

    def beside(name: str | None) -> Path | None:
        return None if name is None else base / name

    faults = _contradictions(mqtt, values["presence"])
    try:
        ZoneInfo(collector["timezone"])
    except (ZoneInfoNotFoundError, ValueError, OSError):
        faults.append(
            f"collector.timezone = {collector['timezone']!r} is unknown here; "
            f'write an IANA name, e.g. "Asia/Makassar"'
        )
    files = {
        "collector.kecamatan": beside(collector["kecamatan"]),
        **{f"mqtt.{name}": beside(mqtt[name]) for name in ("ca", "cert", "key")},
    }
    for name, target in files.items():
        if target is not None and not target.is_file():
            faults.append(f"{name}: there is no file {target}")
    store = base / values["store"]["path"]
    if not store.parent.is_dir():
        faults.append(f"store.path: there is no directory {store.parent}; create it")
    if faults:
        raise ConfigError("\n".join(f"{file}: {fault}" for fault in faults))
    host = None if mqtt["socket"] else mqtt["host"]
    return Config(
        region=collector["region"],
        district=collector["district"],
        sites=read_sites(base / collector["sites"]),
        kecamatan=files["collector.kecamatan"],
        timezone=collector["timezone"],
        mqtt=Mqtt(
            host=host,
            port=mqtt["port"] or (8883 if mqtt["tls"] else 1883),
            socket=beside(mqtt["socket"]),
            username=mqtt["username"],
            password=mqtt["password"],
            tls=mqtt["tls"] and host is not None,
            ca=files["mqtt.ca"],
            cert=files["mqtt.cert"],
            key=files["mqtt.key"],
            client_id=mqtt["client_id"],
            share=mqtt["share"],
            receive_maximum=mqtt["receive_maximum"],
            session_expiry_s=mqtt["session_expiry_s"],
        ),
        store=store,
        web_host=web["host"],
        web_port=web["port"],
        thresholds=Thresholds(**values["presence"]),
    )


def _contradictions(mqtt: dict[str, Any], presence: dict[str, Any]) -> list[str]:
    faults = []
    if bool(mqtt["host"]) == bool(mqtt["socket"]):
        faults.append(
            "[mqtt] needs either host (and port) or socket, "
            + ("not both" if mqtt["host"] else "and has neither")
        )
    if mqtt["socket"] and mqtt["port"]:
        faults.append("mqtt.port has no meaning with mqtt.socket; remove it")
    if mqtt["host"] and not mqtt["tls"]:
        faults += [
            f"mqtt.{name} has no meaning with tls = false; remove one of them"
            for name in ("ca", "cert", "key")
            if mqtt[name]
        ]
    if bool(mqtt["cert"]) != bool(mqtt["key"]):
        faults.append("mqtt.cert and mqtt.key go together; write both or none")
    if mqtt["password"] and not mqtt["username"]:
        faults.append("mqtt.password needs mqtt.username; write both or none")
    if presence["offline_missed"] <= presence["overdue_missed"]:
        faults.append(
            "presence.offline_missed must be more than presence.overdue_missed"
        )
    return faults


COLUMNS = (
    "site_id",
    "name",
    "kind",
    "desa",
    "kecamatan",
    "desa_code",
    "lat",
    "lon",
    "uplink1",
    "uplink2",
    "uplink3",
)
KINDS = ("umum", "khusus", "kantor")


def read_sites(path: Path) -> tuple[Site, ...]:
    """Return the site list; raises ConfigError with every fault, one a line."""
    lines = _text(path, "site list").splitlines()
    rows = csv.reader(lines)
    header = next(rows, [])
    if tuple(header) != COLUMNS:
        message = f"{path}:1: the first line must be {','.join(COLUMNS)}"
        raise ConfigError(message)
    sites: list[Site] = []
    faults: list[str] = []
    seen: dict[str, int] = {}
    for row in rows:
        if not row:
            continue
        place = f"{path}:{rows.line_num}"
        if len(row) != len(COLUMNS):
            faults.append(f"{place}: {len(row)} columns instead of {len(COLUMNS)}")
            continue
        cells = dict(zip(COLUMNS, (cell.strip() for cell in row), strict=True))
        site, found = _site(cells)
        if site.site in seen:
            found.append(
                f"site_id {site.site} stands in line {seen[site.site]} already"
            )
        seen.setdefault(site.site, rows.line_num)
        faults += [f"{place}: {fault}" for fault in found]
        sites.append(site)
    if not sites and not faults:
        faults.append(f"{path}: no site in the list")
    if faults:
        raise ConfigError("\n".join(faults))
    return tuple(sites)


def _site(cells: dict[str, str]) -> tuple[Site, list[str]]:
    faults = []
    if not SITE_PATTERN.fullmatch(cells["site_id"]):
        faults.append(
            f"site_id {cells['site_id']!r} will not do; write small letters, digits "
            "and '-', e.g. tps-6408052001-901"
        )
    faults += [f"{name} is empty" for name in ("name", "kecamatan") if not cells[name]]
    if cells["kind"] not in KINDS:
        faults.append(f"kind {cells['kind']!r} is not one of {', '.join(KINDS)}")
    lat = _degrees(cells["lat"], 90)
    lon = _degrees(cells["lon"], 180)
    for name, value in (("lat", lat), ("lon", lon)):
        if isinstance(value, str):
            faults.append(
                f"{name} {value!r} is not degrees, e.g. 0.5342; or leave it empty"
            )
    if (lat is None) != (lon is None):
        faults.append("lat and lon go together; write both or none")
    providers = tuple(
        cells[name] for name in ("uplink1", "uplink2", "uplink3") if cells[name]
    )
    if not providers:
        faults.append("uplink1 is empty; write the provider's name")
    site = Site(
        cells["site_id"],
        cells["name"],
        cells["kind"],
        cells["desa"] or None,
        cells["kecamatan"],
        lat if isinstance(lat, float) else None,
        lon if isinstance(lon, float) else None,
        providers,
    )
    return site, faults


def _degrees(cell: str, most: float) -> float | str | None:
    """Return degrees, None for an empty cell, or the cell itself if it is neither."""
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        return cell
    return value if -most <= value <= most else cell


def _text(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        message = f"{what} {path}: {error.strerror}"
        raise ConfigError(message) from error
    except UnicodeDecodeError as error:
        message = f"{what} {path}: not UTF-8 text; save it as UTF-8"
        raise ConfigError(message) from error
