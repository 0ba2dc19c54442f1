"""`make bench`: run the faults, print the table, write docs/benchmarks.md if asked."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from lab import LabError
from lab.clock import boottime_s
from lab.namespace import TESTS
from site_bench import outcome, table
from site_bench.cases import Case, chosen
from site_bench.runner import Bench
from site_bench.subjects import SUBJECTS, Jaga, JagaAsShipped, Subject

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = TESTS.parent
PAGE = ROOT / "docs" / "benchmarks.md"
COLUMNS = [table.Column(s.name, s.heading, s.note) for s in SUBJECTS.values()]
ATTEMPTS = 2
"""A run that the lab itself spoils (a busy machine) is made again, once."""


class Results:
    """Runs as they come, also written down, so that a break loses nothing."""

    def __init__(self, path: Path | None) -> None:
        self.runs: list[outcome.Run] = []
        self.idle: list[outcome.Idle] = []
        self.troubles: list[str] = []
        self._path = path
        self._lock = Lock()
        if path is not None and path.exists():
            with path.open(encoding="utf-8") as lines:
                self.runs, self.idle = outcome.read(lines)

    def add(self, one: outcome.Run | outcome.Idle) -> None:
        """Keep one result."""
        with self._lock:
            if isinstance(one, outcome.Run):
                self.runs.append(one)
            else:
                self.idle = [i for i in self.idle if i.subject != one.subject] + [one]
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(one.line())

    def trouble(self, text: str) -> None:
        """Note what could not be measured."""
        with self._lock:
            self.troubles.append(text)
        say(text)


def say(text: str) -> None:
    """Tell whoever waits; the table alone goes to standard output."""
    print(text, file=sys.stderr, flush=True)


def plan(
    subject: type[Subject], cases: Sequence[Case], options: argparse.Namespace
) -> list[tuple[Case, int]]:
    """Return which cases a subject runs, and how often."""
    ours = subject.name in {"jaga", "told"}
    most = options.runs if ours else min(options.runs, subject.runs or options.runs)
    if not ours and options.peer_runs is not None:
        most = options.peer_runs
    wanted = []
    for case in cases:
        if case.same_as is not None or case.name in options.skipped:
            continue
        if not ours and not case.peers:
            continue
        if case.as_shipped and subject is not Jaga:
            continue
        if subject.name == "told" and not case.told and case.goal.back_within_s is None:
            continue
        # mwan3 and the kernel are told of carriers; of the other peers we know not how.
        if case.link_layer and subject.name in {
            "pfsense",
            "opnsense",
            "networkmanager",
        }:
            continue
        wanted.append((case, min(most, case.runs or most)))
    return wanted


def measure(
    subject: type[Subject],
    cases: Sequence[Case],
    options: argparse.Namespace,
    results: Results,
) -> None:
    """Run one subject's cases on a lab of its own."""
    try:
        with Bench(subject) as bench:
            if options.idle:
                most_s = subject.idle_s if subject.idle_rounds else options.idle
                results.add(bench.idle(min(most_s, subject.idle_s)))
            planned = plan(subject, cases, options)
            shipped = [(c, n) for c, n in planned if c.as_shipped]
            for case, runs in planned:
                if (case, runs) not in shipped:
                    _repeat(bench, case, runs, options, results)
        for case, runs in shipped:
            for _ in range(runs):
                with Bench(JagaAsShipped) as bench:
                    _repeat(bench, case, 1, options, results)
    except LabError as error:
        results.trouble(f"{subject.name}: {error}")


def _repeat(
    bench: Bench,
    case: Case,
    runs: int,
    options: argparse.Namespace,
    results: Results,
) -> None:
    for number in range(1, runs + 1):
        run = _one(bench, case, options, results)
        if run is not None:
            results.add(run)
            say(f"{run.subject} {case.name} {number}/{runs}: {_short(run)}")


def _one(
    bench: Bench, case: Case, options: argparse.Namespace, results: Results
) -> outcome.Run | None:
    for _ in range(ATTEMPTS):
        try:
            return bench.run(case, quick=options.quick)
        except LabError as error:
            results.trouble(f"{bench.subject.name} {case.name}: {error}")
    return None


def _short(run: outcome.Run) -> str:
    parts = [] if run.bad_s is None else [f"{run.bad_s:.2f} bad s"]
    if not run.ended:
        parts.append("not back")
    if run.upload_gap_s is not None:
        parts.append(f"upload {run.upload_gap_s:.2f}")
    if run.moves is not None:
        parts.append(f"{run.moves} moves")
    if run.moved_after_s is not None:
        parts.append(f"moved after {run.moved_after_s:.2f}")
    if run.back_after_s is not None:
        parts.append(f"back after {run.back_after_s:.2f}")
    if run.reported is not None:
        parts.append("reported" if run.reported else "not reported")
    return ", ".join(parts)


def processor() -> str:
    """Return the processor's name and how many cores we have."""
    name = platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith(("model name", "Model")):
            name = line.partition(":")[2].strip()
            break
    return f"{name}, {os.cpu_count()} cores"


def facts(options: argparse.Namespace, results: Results) -> dict[str, str]:
    """Return what a reader needs to judge the numbers."""
    today = dt.datetime.now(dt.UTC).date()  # noqa: TID251 - a page's date
    found = {
        "command": options.command,
        "date": today.isoformat(),
        "kernel": f"{platform.system()} {platform.release()}",
        "processor": processor(),
        "Python": platform.python_version(),
    }
    found |= {
        f"idle costs of {one.subject}": f"watched for {one.seconds:.0f} s; "
        f"MQTT apart: {one.mqtt_bytes_day / 1e6:.2f} MB/day in all"
        for one in results.idle
        if one.subject == table.OURS
    }
    if options.quick:
        found["quick"] = "windows of 15 s, flapping for two minutes"
    return found


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--fault", default="*", help="names or globs, with commas")
    parser.add_argument("--runs", type=int, default=10, help="of ours, each fault")
    parser.add_argument("--subjects", default=",".join(SUBJECTS), help="who")
    parser.add_argument("--peer-runs", type=int, help="of the peers (default: few)")
    parser.add_argument(
        "--idle", type=float, default=None, help="seconds of the idle run; 0: none"
    )
    parser.add_argument("--jobs", type=int, default=1, help="labs side by side")
    parser.add_argument("--quick", action="store_true", help="shorter windows")
    parser.add_argument(
        "--decide", default="", help="lines for the agent's [decide], with semicolons"
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit 1 when a median misses its goal"
    )
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    parser.add_argument(
        "--keep", type=Path, help="add to the results in this file, and show them all"
    )
    options = parser.parse_args(argv)
    # The idle run belongs to the whole benchmark, not to a look at one fault.
    if options.idle is None:
        options.idle = 600.0 if options.fault == "*" else 0.0
    unknown = set(options.subjects.split(",")) - set(SUBJECTS)
    if unknown:
        parser.error(f"no subject is called {unknown}: choose of {', '.join(SUBJECTS)}")
    if options.runs < 0:
        parser.error("--runs is how often, 0 only shows what --keep holds")
    try:
        options.cases = chosen(options.fault)
    except ValueError as error:
        parser.error(str(error))
    options.command = os.environ.get("BENCH_COMMAND") or (
        "python3 -m site_bench " + " ".join(argv)
    )
    return options


def skipped(cases: Sequence[Case]) -> dict[str, str]:
    """Return the rows that this checkout cannot run, and why."""
    from lab import Lab

    return {
        case.name: f"not run: the lab has no `{case.hook}` yet"
        for case in cases
        if case.hook is not None and not hasattr(Lab, case.hook)
    }


def run_all(
    options: argparse.Namespace, subjects: Sequence[type[Subject]], results: Results
) -> None:
    """Run every subject, one after the other or side by side."""
    try:
        if options.runs and options.jobs == 1:
            # In the main thread: what it starts dies with it, however it dies.
            for subject in subjects:
                measure(subject, options.cases, options, results)
        elif options.runs:
            with ThreadPoolExecutor(options.jobs) as pool:
                for done in [
                    pool.submit(measure, subject, options.cases, options, results)
                    for subject in subjects
                ]:
                    done.result()
    except KeyboardInterrupt:
        results.trouble("stopped early: the table has what was measured until then")


def main(argv: Sequence[str]) -> int:
    options = arguments(argv)
    options.skipped = skipped(options.cases)
    Jaga.settings = options.decide.replace(";", "\n")
    results = Results(options.keep)
    subjects = [SUBJECTS[name] for name in options.subjects.split(",")]
    began_s = boottime_s()
    run_all(options, subjects, results)
    say(f"took {(boottime_s() - began_s) / 60:.0f} min")
    rendered = table.table(results.runs, results.idle, COLUMNS, options.skipped)
    print(rendered)
    if options.write:
        seen = {run.subject for run in results.runs}
        PAGE.write_text(
            table.page(rendered, COLUMNS, list(seen), facts(options, results)),
            encoding="utf-8",
        )
        say(f"wrote {PAGE}")
    missed = table.failed(results.runs)
    for line in missed:
        say(f"missed: {line}")
    for line in results.troubles:
        say(f"trouble: {line}")
    return 1 if results.troubles or (options.strict and missed) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
