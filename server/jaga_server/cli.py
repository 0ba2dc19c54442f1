"""`jaga-collector`: the operator's commands. Expected errors are one line, no traceback."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from jaga_agent.wire.echo import site_key
from jaga_server import __version__, config, logfmt, tail
from jaga_server.core import district
from jaga_server.errors import CollectorError, ConfigError
from jaga_server.runtime import Collector
from jaga_server.store.reader import Reader
from jaga_server.web import views

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaga_server.web.schema import UplinkView

DEFAULT = Path("/etc/jaga/collector.toml")
GAPS_SHOWN = 8
SIGNS = {"up": "+", "degraded": "~", "down": "-", "unknown": "?"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status (2: the command line is wrong)."""
    arguments = _parser().parse_args(argv)
    try:
        settings = config.load(arguments.config)
        return _obey(arguments, settings)
    except CollectorError as error:
        print(f"jaga-collector: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output (`| head`) has gone; that is no fault.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _obey(arguments: argparse.Namespace, settings: config.Config) -> int:
    match arguments.command:
        case "run":
            logfmt.start(verbose=arguments.verbose)
            return asyncio.run(Collector(settings).run())
        case "check-config":
            print(
                f"{arguments.config}: good; {len(settings.sites)} sites,"
                f" broker {settings.mqtt.address},"
                f" page http://{settings.web_host}:{settings.web_port}/"
            )
            return 0
        case "echo-key":
            return _echo_key(settings, arguments.site)
        case "tail":
            logfmt.start(verbose=False)
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            return tail.run(
                settings, arguments.site, lambda line: print(line, flush=True)
            )
        case "gaps":
            return _gaps(settings, arguments.site)
        case _:
            return _sites(settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jaga-collector",
        description="The district's control room: takes in, stores and shows what the"
        " sites tell.",
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {__version__}"
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--config",
        type=Path,
        default=DEFAULT,
        metavar="FILE",
        help=f"configuration (default: {DEFAULT})",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run", parents=[shared], help="take in, store and show, until SIGTERM"
    )
    run.add_argument("--verbose", action="store_true", help="log more")
    commands.add_parser(
        "check-config", parents=[shared], help="say whether the configuration is good"
    )
    tailing = commands.add_parser(
        "tail", parents=[shared], help="print the sites' messages as JSON lines"
    )
    tailing.add_argument("--site", help="only of this site")
    key = commands.add_parser(
        "echo-key",
        parents=[shared],
        help="print a site's udp-echo key, for /etc/jaga/echo.key on its card",
    )
    key.add_argument("site", metavar="SITE", help="e.g. tps-6408052001-901")
    commands.add_parser(
        "sites", parents=[shared], help="print every site as the database knows it"
    )
    gaps = commands.add_parser(
        "gaps",
        parents=[shared],
        help="print what is missing of the sites' records, and what is known to be lost",
    )
    gaps.add_argument("--site", help="only of this site")
    return parser


def _echo_key(settings: config.Config, site: str) -> int:
    """Print the key that belongs into the site's `[echo] key_file`."""
    if settings.echo is None:
        message = (
            "no reflector is configured: add [echo] with secret_file to the"
            " configuration, then ask again"
        )
        raise ConfigError(message)
    if all(site != listed.site for listed in settings.sites):
        message = (
            f"site {site!r} is not on the site list, and the reflector answers no other;"
            " add it there, or mend the name"
        )
        raise ConfigError(message)
    print(site_key(settings.echo.master, site).hex())
    return 0


def _sites(settings: config.Config) -> int:
    reader = Reader(settings.store)
    try:
        states = reader.remember().states
    finally:
        reader.close()
    zone = ZoneInfo(settings.timezone)
    listed = {site.site: site for site in settings.sites}
    rows: list[tuple[str, ...]] = [
        ("SITE", "PRESENCE", "LAST HEARD", "ACTIVE", "UPLINKS")
    ]
    for name in (*listed, *(n for n in states if n not in listed)):
        site = listed.get(name) or district.unlisted(name)
        view = views.site_view(site, states.get(name, views.NEVER))
        heard = _time(view.last_seen_ms, zone)
        rows.append(
            (
                name,
                view.presence,
                heard,
                view.active or "—",
                " ".join(_uplink(uplink) for uplink in view.uplinks),
            )
        )
    _print(rows)
    return 0


def _gaps(settings: config.Config, site: str | None) -> int:
    """Print a line for each boot of which something is missing or lost."""
    reader = Reader(settings.store)
    try:
        boots = reader.incomplete(site)
    finally:
        reader.close()
    if not boots:
        print("nothing is missing")
        return 0
    zone = ZoneInfo(settings.timezone)
    rows: list[tuple[str, ...]] = [
        ("SITE", "BOOT", "BEGAN", "THROUGH", "HIGHEST", "MISSING", "LOST", "GAPS")
    ]
    for boot in boots:
        view = views.boot_view(boot)
        gaps = " ".join(
            f"{first}" if first == last else f"{first}-{last}"
            for first, last in view.gaps[:GAPS_SHOWN]
        )
        rows.append(
            (
                boot.site,
                view.boot,
                _time(view.began_ms, zone),
                str(view.through),
                str(view.highest),
                str(view.missing),
                str(boot.coverage.lost_count),
                gaps + (" …" if len(view.gaps) > GAPS_SHOWN else "") or "—",
            )
        )
    _print(rows)
    return 0


def _time(t_ms: int | None, zone: ZoneInfo) -> str:
    if t_ms is None:
        return "—"
    at = datetime.fromtimestamp(t_ms / 1000, UTC)
    return at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def _print(rows: Sequence[tuple[str, ...]]) -> None:
    """Print columns as wide as their widest cell; the last one runs free."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join([*cells[:-1], row[-1]]))


def _uplink(uplink: UplinkView) -> str:
    """Return e.g. `+telkomsel 41ms`: up, with its mean round trip."""
    rtt = "" if uplink.rtt_ms is None else f" {uplink.rtt_ms:.0f}ms"
    return f"{SIGNS[uplink.health]}{uplink.name}{rtt}"
