"""The site list, a CSV file: where the polling sites are and what they ought to have.

Reads the file and nothing else.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from jaga_agent.wire.topics import SITE_PATTERN
from jaga_server.core.model import Site
from jaga_server.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

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


def read(path: Path) -> tuple[Site, ...]:
    """Return the site list; raises ConfigError with every fault, one a line."""
    lines = _text(path).splitlines()
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


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        message = f"site list {path}: {error.strerror}"
        raise ConfigError(message) from error
    except UnicodeDecodeError as error:
        message = f"site list {path}: not UTF-8 text; save it as UTF-8"
        raise ConfigError(message) from error
