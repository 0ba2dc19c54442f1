"""The one table, as Markdown. Pure: outcomes come in, text goes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from site_bench.cases import CASES, Case
from site_bench.outcome import Idle, Run, Spread, Together, misses, together

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OURS = "jaga"
MET, MISSED = "✓", "✗"


@dataclass(frozen=True, slots=True)
class Column:
    """One subject's heading, and its note below the table."""

    subject: str
    heading: str
    note: str


def goal_text(case: Case) -> str:
    """Return what is wanted, in words."""
    goal = case.goal
    parts = []
    if goal.bad_s is not None:
        parts.append(f"≤ {goal.bad_s:g} bad s")
    if goal.upload_gap_s is not None:
        parts.append(f"upload ≤ {goal.upload_gap_s:g}")
    if goal.moves is not None:
        parts.append(f"{'≤ ' if goal.moves else ''}{goal.moves} moves")
    if goal.moved_within_s is not None:
        parts.append(f"moved within {goal.moved_within_s:g} s")
    if goal.back_within_s is not None:
        parts.append(f"used within {goal.back_within_s:g} s")
    if goal.reported:
        parts.append('"busy" reported' if case.report == "busy" else "said so")
    return ", ".join(parts) or "–"


def cell(case: Case, of: Together, *, judge: bool) -> str:
    """Return one subject's result on one row: median (worst)."""
    goal = case.goal
    parts = []
    if goal.back_within_s is not None:
        parts.append("used after " + _numbers(of.back_after_s))
    elif of.bad_s is not None:
        parts.append(_numbers(of.bad_s))
    if goal.moved_within_s is not None:
        parts.append("moved after " + _numbers(of.moved_after_s))
    if goal.upload_gap_s is not None and of.upload_gap_s is not None:
        parts.append("upload " + _numbers(of.upload_gap_s))
    shows_moves = goal.moves is not None or goal == type(goal)()
    if shows_moves and of.moves is not None:
        moves = f"{of.moves.median:g}"
        if of.moves.worst != of.moves.median:
            moves += f" ({of.moves.worst:g})"
        parts.append(f"{moves} moves")
    if goal.reported and of.asked:
        parts.append(f"said in {of.reported} of {of.asked}")
    text = ", ".join(parts) + f" ×{of.runs}"
    if judge and goal != type(goal)():
        text += " " + (MISSED if misses(goal, of) else MET)
    return text


def _numbers(of: Spread | None) -> str:
    if of is None:
        return "never"
    bound = "≥ " if of.at_least else ""
    median, worst = _number(of.median), _number(of.worst)
    return bound + worst if median == worst else f"{median} ({bound}{worst})"


def _number(value: float) -> str:
    if value == float("inf"):
        return "never"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def table(
    runs: Sequence[Run],
    idle: Sequence[Idle],
    columns: Sequence[Column],
    skipped: Mapping[str, str],
) -> str:
    """Return the table. `skipped`: rows that could not be run, and why."""
    measured = {run.subject for run in runs} | {one.subject for one in idle}
    columns = [column for column in columns if column.subject in measured]
    rows = [["fault on the uplink in use", "goal", *(c.heading for c in columns)]]
    for case in CASES:
        source = case.same_as or case.name
        of_case = [run for run in runs if run.case == source]
        if case.name in skipped:
            rows.append(
                [case.title, goal_text(case), skipped[case.name]]
                + ["–"] * (len(columns) - 1)
            )
            continue
        if not of_case:
            continue
        row = [case.title, goal_text(case)]
        for column in columns:
            own = [run for run in of_case if run.subject == column.subject]
            judge = column.subject == OURS
            row.append(cell(case, together(own), judge=judge) if own else "–")
        rows.append(row)
    rows += _costs(runs, idle, columns)
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) + "\n"


def _costs(
    runs: Sequence[Run], idle: Sequence[Idle], columns: Sequence[Column]
) -> list[list[str]]:
    by_subject = {one.subject: one for one in idle}
    rows = []
    if idle:
        probing, cpu, rss = [], [], []
        for column in columns:
            one = by_subject.get(column.subject)
            probing.append("–" if one is None else _probing(one))
            cpu.append("–" if one is None else _percent(one.cpu_ratio))
            rss.append("–" if one is None else _mebibytes(one.rss_bytes))
        rows += [
            ["idle: probing by uplink, MB/day", "–", *probing],
            ["idle: CPU, of one core", "–", *cpu],
            ["memory (RSS)", "–", *rss],
        ]
    busy = []
    for column in columns:
        ratios = [
            run.cpu_ratio
            for run in runs
            if run.subject == column.subject and run.cpu_ratio is not None
        ]
        busy.append(_percent(sorted(ratios)[len(ratios) // 2] if ratios else None))
    if any(text != "–" for text in busy):
        rows.append(["in the runs: CPU, of one core", "–", *busy])
    return rows


def _probing(one: Idle) -> str:
    return " / ".join(f"{value / 1e6:.2f}" for value in one.probe_bytes_day.values())


def _percent(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio * 100:.1f} %"


def _mebibytes(size: int | None) -> str:
    return "–" if size is None else f"{size / 2**20:.0f} MiB"


def failed(runs: Sequence[Run]) -> list[str]:
    """Return which goals our own medians miss, one line each."""
    lines = []
    for case in CASES:
        own = [
            run
            for run in runs
            if run.subject == OURS and run.case == (case.same_as or case.name)
        ]
        if own:
            lines += [
                f"{case.name}: {miss}" for miss in misses(case.goal, together(own))
            ]
    return lines


def page(
    rendered: str,
    columns: Sequence[Column],
    subjects: Sequence[str],
    facts: Mapping[str, str],
) -> str:
    """Return docs/benchmarks.md."""
    notes = "\n".join(
        f"* **{c.heading.strip(chr(42))}**: {c.note}"
        for c in columns
        if c.subject in subjects
    )
    listed = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return f"""# Benchmark of a site

Made by `{facts["command"]}` (as root); do not edit by hand.

| | |
|---|---|
{listed}

{rendered}
## How to read it

A fault falls upon Telkomsel, the uplink in use, of a site in the lab (`tests/lab/`:
phone → Pi → three modems → carrier NATs → internet, all in network namespaces of one
machine). Behind the Pi a phone opens a new connection to the Sirekap stand-in each 50 ms
and keeps one paced upload of 400 kbit/s running. It is behind the NATs of modem and
carrier, and the carrier drops mid-stream TCP that it does not know.

* A number is **bad seconds**: attempts that failed or took more than 300 ms, times 50 ms,
  in the 30 s after the fault (another window where the row says so). A subject that is
  not back by then is watched until it is, or its patience ends; `≥` marks a lower bound.
* First the median, then the worst in brackets, then `×` runs. Each run has a fresh random
  offset against all probing.
* **upload** is the longest time without acknowledged progress on the upload, with
  reconnecting. `≥`: it had not come back when we ceased to look.
* **moves** are changes of the route, by the kernel's own word.
* **{MET}/{MISSED}**: our median meets the goal or misses it.
* **probing** is what left and came by each uplink (telkomsel / indosat / telkom-fibre) in
  IP bytes without MQTT, with nobody using the site, extrapolated to a day.
* Hold-down before going back to the preferred uplink is 1–2 s here instead of 60 s, only
  so that the next run can begin; flapping and the radios run with the default.

## Who is compared

{notes}

The peers are models on the same lab, written from the documented behaviour and defaults
of the originals: processes on the Pi that really ping (or fetch) by each device and really
replace the default route. They are not the programs themselves; their CPU and memory are
the models'. Their averages start as after a minute on a good line. Lost carrier is told
to pfSense, OPNsense and NetworkManager by their operating systems, which their models
leave out (–).
"""
