"""`jaga-agent`: run | check-config | check | status | quota | decisions | explain | replay.

Expected errors are one clear line on standard error and exit status 1, never a
traceback; wrong usage is exit status 2.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jaga_agent import __version__
from jaga_agent.errors import ChainError, ConfigError, JagaError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jaga_agent.adapters.chain import Kept
    from jaga_agent.adapters.chain.entry import Entry
    from jaga_agent.replay import Outcome

CONFIG_PATH: Final = Path("/etc/jaga/agent.toml")
SOCKET_PATH: Final = Path("/run/jaga/agent.sock")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = _parser().parse_args(argv)
    if arguments.command in (
        *(_status, _quota, _replay, _errand),
        *(_decisions, _explain),
    ):
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
        "--version", action="version", version=f"jaga-agent {__version__}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="guard the site until stopped")
    _add_config(run)
    run.add_argument(
        "-v", "--verbose", action="store_true", help="log what is normal, too"
    )
    # How long a configuration may take to reach the collector: for tests only.
    run.add_argument("--trial-s", type=float, default=120.0, help=argparse.SUPPRESS)
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

    errand = commands.add_parser(
        "check", help="ask each check target through each uplink once, and show it"
    )
    _add_config(errand)
    errand.add_argument(
        "--uplink", metavar="NAME", help="through this uplink only; default: all"
    )
    errand.set_defaults(command=_errand)

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
    replay.add_argument(
        "what",
        nargs="?",
        metavar="FILE|ID",
        help="a journal (.jsonl or .gz), or a decision; default: the last decision",
    )
    _add_state(replay)
    replay.set_defaults(command=_replay)

    decisions = commands.add_parser(
        "decisions", help="list the decision chain, and say whether it is whole"
    )
    decisions.add_argument(
        "--verify", action="store_true", help="say only whether it is whole"
    )
    decisions.add_argument(
        "--limit",
        type=_natural,
        default=20,
        metavar="N",
        help="the last N entries; default: %(default)s",
    )
    _add_state(decisions)
    decisions.set_defaults(command=_decisions)

    explain = commands.add_parser(
        "explain", help="tell in plain words why the site was moved"
    )
    explain.add_argument(
        "id",
        nargs="?",
        type=_natural,
        metavar="ID",
        help="an entry of the chain; default: the last decision",
    )
    explain.add_argument(
        "--lang",
        choices=("id", "en"),
        help="Indonesian or English; default: site.language",
    )
    _add_state(explain)
    explain.set_defaults(command=_explain)
    return parser


def _natural(text: str) -> int:
    if not text.isdecimal():
        msg = f"{text!r} is not a whole number"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _add_state(parser: argparse.ArgumentParser) -> None:
    _add_config(parser)
    parser.add_argument(
        "--directory",
        type=Path,
        help="the agent's state directory; default: state.directory of --config",
    )


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=CONFIG_PATH, help="default: %(default)s"
    )


def _run(arguments: argparse.Namespace) -> int:
    # Imported late: `status` on a Pi must not wait for pyroute2.
    from jaga_agent import wiring  # noqa: PLC0415 - late on purpose, see above

    return wiring.run(
        arguments.config, verbose=arguments.verbose, trial_s=arguments.trial_s
    )


def _check(arguments: argparse.Namespace) -> int:
    from jaga_agent import config, effective  # noqa: PLC0415 - late, see `_run`

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
    try:
        config.missing_file(loaded)
    except ConfigError as error:
        msg = f"{arguments.config}: {error}"
        raise ConfigError(msg) from error
    if loaded.echo is not None:
        config.echo_key(Path(loaded.echo.key_file))
    ways = ", ".join(f"{u.name} ({u.device})" for u in loaded.by_preference)
    print(f"{arguments.config}: right (hash {digest})")
    print(
        f"site {loaded.site.id}, region {loaded.site.region}, {loaded.site.mode.value}"
    )
    print(f"uplinks, preferred first: {ways}")
    in_force = effective.load(arguments.config)
    print(in_force.said(arguments.config))
    if in_force.trouble is not None:
        print(f"jaga-agent: {in_force.trouble}", file=sys.stderr)
    return 0


def _errand(arguments: argparse.Namespace) -> int:
    from jaga_agent import errand  # noqa: PLC0415 - late on purpose, see `_run`

    outcomes = errand.run(arguments.config, arguments.uplink)
    print(errand.table(outcomes))
    return 0 if all(row.is_ok for row in outcomes) else 1


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
    from jaga_agent import effective, quota, screen  # noqa: PLC0415 - late, see `_run`

    loaded = effective.load(arguments.config).config
    answer = quota.show(loaded)
    print(json.dumps(answer) if arguments.json else screen.render_quota(answer))
    return 0


def _quota_reset(arguments: argparse.Namespace) -> int:
    from jaga_agent import effective, quota  # noqa: PLC0415 - late, see `_run`

    if not 0 <= arguments.used_mb < float("inf"):
        msg = f"--used-mb {arguments.used_mb:g}: want 0 or more megabytes"
        raise ConfigError(msg)
    loaded = effective.load(arguments.config).config
    told = quota.begin(loaded, arguments.uplink, round(arguments.used_mb * 1_000_000))
    by = "the running agent counts on" if told else "the agent will count on"
    print(f"{arguments.uplink}: {arguments.used_mb:g} MB are used; {by} from here")
    return 0


def _replay(arguments: argparse.Namespace) -> int:
    from jaga_agent import replay  # noqa: PLC0415 - late on purpose, see `_run`

    entry, outcomes = _recorded(arguments)
    began = None
    steps = identical = 0
    reproduced = entry is None
    first: replay.Outcome | None = None
    for outcome in outcomes:
        began = outcome.at if began is None else began
        steps += 1
        identical += outcome.same
        if not outcome.same and first is None:
            first = outcome
        for line in replay.line(began, outcome):
            print(line)
        if entry is not None and entry.evidence is not None:
            at_it = outcome.number == entry.evidence.steps
            reproduced = reproduced or (at_it and replay.decided(outcome, entry))
    if first is not None and began is not None:
        for line in replay.difference(began, first):
            print(line)
    which = ""
    if entry is not None:
        which = f", decision {entry.id} {'identical' if reproduced else 'NOT the same'}"
    same = identical == steps and reproduced
    word = "reproduced" if same else "NOT reproduced"
    print(f"{word}: {identical} of {steps} steps identical{which}")
    if not same:
        print(
            "jaga-agent: this version decides otherwise than the one that recorded",
            file=sys.stderr,
        )
    return 0 if same else 1


def _recorded(arguments: argparse.Namespace) -> tuple[Entry | None, Iterator[Outcome]]:
    """Return what is to be replayed: a file, or a decision's evidence and its entry."""
    from jaga_agent import replay  # noqa: PLC0415 - late on purpose, see `_run`
    from jaga_agent.adapters import evidence  # noqa: PLC0415 - late, see `_run`

    what = arguments.what
    if what is not None and not what.isdecimal():
        return None, replay.replay(Path(what))
    directory, kept = _chain(arguments)
    entry = _picked(kept.entries, None if what is None else int(what), directory)
    return entry, replay.replay_decision(entry, evidence.find(directory, entry.id))


def _decisions(arguments: argparse.Namespace) -> int:
    from jaga_agent import ledger  # noqa: PLC0415 - late on purpose, see `_run`

    _, kept = _chain(arguments)
    if not arguments.verify:
        shown = kept.entries[-arguments.limit :] if arguments.limit else ()
        for line in ledger.table(shown):
            print(line)
    if kept.fault is not None:
        print(f"jaga-agent: BROKEN CHAIN: {ledger.verdict(kept)}", file=sys.stderr)
        return 1
    print(ledger.verdict(kept))
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    from jaga_agent import explain, words  # noqa: PLC0415 - late on purpose, see `_run`
    from jaga_agent.adapters import evidence  # noqa: PLC0415 - late, see `_run`

    directory, kept = _chain(arguments)
    entry = _picked(kept.entries, arguments.id, directory)
    language = arguments.lang or _language(arguments)
    there = evidence.kept(directory)
    print(explain.tell(entry, kept.entries, words.of(language), kept=there))
    return 0


def _picked(entries: Sequence[Entry], number: int | None, directory: Path) -> Entry:
    from jaga_agent import explain  # noqa: PLC0415 - late on purpose, see `_run`

    entry = explain.pick(entries, number)
    if entry is not None:
        return entry
    if not entries:
        msg = f"the decision chain in {directory} has no entry yet"
    else:
        msg = (
            f"no entry {number} in {directory}; there are {entries[0].id} to "
            f"{entries[-1].id}: see jaga-agent decisions"
        )
    raise ChainError(msg)


def _chain(arguments: argparse.Namespace) -> tuple[Path, Kept]:
    """Return the state directory and the chain in it."""
    from jaga_agent import config  # noqa: PLC0415 - late on purpose, see `_run`
    from jaga_agent.adapters import chain  # noqa: PLC0415 - late, see `_run`

    directory = arguments.directory
    if directory is None:
        loaded, _ = config.load(arguments.config)
        directory = Path(loaded.state.directory)
    return directory, chain.load(directory)


def _language(arguments: argparse.Namespace) -> str:
    """Return the site's language; Indonesian where no configuration is at hand."""
    from jaga_agent import config  # noqa: PLC0415 - late on purpose, see `_run`

    if arguments.directory is not None and not arguments.config.exists():
        return "id"
    return config.load(arguments.config)[0].site.language
