"""`jaga-agent`: run | check-config | status | quota | replay.

Expected errors are one clear line on standard error and exit status 1, never a
traceback; wrong usage is exit status 2.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jaga_agent.errors import ConfigError, JagaError

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIG_PATH: Final = Path("/etc/jaga/agent.toml")
SOCKET_PATH: Final = Path("/run/jaga/agent.sock")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = _parser().parse_args(argv)
    if arguments.command in (_status, _quota, _replay):
        # `status | head` must end quietly. Never for `run`: a broken connection would
        # kill the guard.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        outcome = arguments.command(arguments)
    except JagaError as error:
        print(f"jaga-agent: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return int(outcome)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jaga-agent",
        description="Guards a polling site: keeps it on an uplink that works.",
    )
    parser.add_argument(
        "--version", action="version", version=f"jaga-agent {version('jaga')}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="guard the site until stopped")
    _add_config(run)
    run.add_argument(
        "-v", "--verbose", action="store_true", help="log what is normal, too"
    )
    run.set_defaults(command=_run)

    check = commands.add_parser(
        "check-config", help="say whether the configuration and its devices are right"
    )
    _add_config(check)
    check.add_argument(
        "--no-devices",
        action="store_true",
        help="do not look for the devices on this machine",
    )
    check.set_defaults(command=_check)

    status = commands.add_parser("status", help="show what the running agent knows")
    status.add_argument("--json", action="store_true", help="print it as one JSON line")
    status.add_argument(
        "--watch", action="store_true", help="show it again each second"
    )
    status.add_argument(
        "--socket", type=Path, default=SOCKET_PATH, help="default: %(default)s"
    )
    status.set_defaults(command=_status)

    quota = commands.add_parser(
        "quota", help="show what each uplink's package has left"
    )
    _add_config(quota)
    quota.add_argument("--json", action="store_true", help="print it as one JSON line")
    quota.set_defaults(command=_quota)
    what = quota.add_subparsers(metavar="COMMAND")
    reset = what.add_parser("reset", help="a new package was bought: count from here")
    reset.add_argument("uplink", help="its name in the configuration")
    reset.add_argument(
        "--used-mb",
        type=float,
        default=0.0,
        help="what is used up already, as the operator says (default: 0)",
    )
    reset.set_defaults(command=_quota_reset)

    replay = commands.add_parser(
        "replay", help="run a recorded outage again, with every decision's reason"
    )
    replay.add_argument("file", type=Path, help="an agent's journal.jsonl")
    replay.set_defaults(command=_replay)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=CONFIG_PATH, help="default: %(default)s"
    )


def _run(arguments: argparse.Namespace) -> int:
    # Imported late: `status` on a Pi must not wait for pyroute2.
    from jaga_agent import wiring  # noqa: PLC0415 - late on purpose, see above

    return wiring.run(arguments.config, verbose=arguments.verbose)


def _check(arguments: argparse.Namespace) -> int:
    from jaga_agent import config  # noqa: PLC0415 - late on purpose, see `_run`

    loaded, digest = config.load(arguments.config)
    devices = [u.device for u in loaded.by_preference] + list(loaded.lan.devices)
    if not arguments.no_devices:
        present = {path.name for path in Path("/sys/class/net").iterdir()}
        missing = [device for device in devices if device not in present]
        for device in missing:
            print(
                f"jaga-agent: {arguments.config}: device {device} does not exist here; "
                f"plug it in, or name one of: {', '.join(sorted(present))}",
                file=sys.stderr,
            )
        if missing:
            return 1
    for key in ("ca", "cert", "key"):
        file = getattr(loaded.mqtt, key)
        if file is not None and not Path(file).is_file():
            print(
                f"jaga-agent: {arguments.config}: mqtt.{key}: there is no file {file}; "
                "copy it there, or mend the path",
                file=sys.stderr,
            )
            return 1
    ways = ", ".join(f"{u.name} ({u.device})" for u in loaded.by_preference)
    print(f"{arguments.config}: right (hash {digest})")
    print(
        f"site {loaded.site.id}, region {loaded.site.region}, {loaded.site.mode.value}"
    )
    print(f"uplinks, preferred first: {ways}")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from jaga_agent import screen  # noqa: PLC0415 - late on purpose, see `_run`
    from jaga_agent.adapters import control  # noqa: PLC0415 - late, see `_run`

    if not arguments.watch:
        answer = control.ask(arguments.socket)
        print(json.dumps(answer) if arguments.json else screen.render(answer))
        return 0
    for answer in control.watch(arguments.socket):
        if arguments.json:
            print(json.dumps(answer), flush=True)
        else:
            # Home, draw, clear what is below: no flicker on a slow terminal.
            print(f"\x1b[H\x1b[2J{screen.render(answer)}", flush=True)
    return 0


def _quota(arguments: argparse.Namespace) -> int:
    from jaga_agent import config, quota, screen  # noqa: PLC0415 - late, see `_run`

    loaded, _ = config.load(arguments.config)
    answer = quota.show(loaded)
    print(json.dumps(answer) if arguments.json else screen.render_quota(answer))
    return 0


def _quota_reset(arguments: argparse.Namespace) -> int:
    from jaga_agent import config, quota  # noqa: PLC0415 - late on purpose, see `_run`

    if not 0 <= arguments.used_mb < float("inf"):
        msg = f"--used-mb {arguments.used_mb:g}: want 0 or more megabytes"
        raise ConfigError(msg)
    loaded, _ = config.load(arguments.config)
    told = quota.begin(loaded, arguments.uplink, round(arguments.used_mb * 1_000_000))
    by = "the running agent counts on" if told else "the agent will count on"
    print(f"{arguments.uplink}: {arguments.used_mb:g} MB are used; {by} from here")
    return 0


def _replay(arguments: argparse.Namespace) -> int:
    from jaga_agent import replay  # noqa: PLC0415 - late on purpose, see `_run`

    began = None
    differs = False
    for outcome in replay.replay(arguments.file):
        began = outcome.at if began is None else began
        differs = differs or not outcome.same
        for line in replay.line(began, outcome):
            print(line)
    if began is None:
        print("nothing was decided in this journal")
    if differs:
        print(
            "jaga-agent: this version decides otherwise than the one that recorded",
            file=sys.stderr,
        )
    return 1 if differs else 0
