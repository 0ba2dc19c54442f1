"""From runs to the table: medians, goals, text."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import PhoneLog
from lab.analysis import Attempt
from site_bench import cases, observe, outcome, table
from site_bench.__main__ import COLUMNS, arguments, plan, skipped
from site_bench.outcome import Idle, Run, Spread, misses, spread, together
from site_bench.runner import back
from site_bench.subjects import SUBJECTS

GOAL = cases.Goal(bad_s=0.5, upload_gap_s=1.2)


def run(bad_s=0.4, subject="jaga", case="blackhole", **changes) -> Run:
    base = Run(case, subject, bad_s, ended=True, upload_gap_s=0.9, moves=1)
    return dataclasses.replace(base, **changes)


def test_median_and_worst():
    assert spread([0.3, 0.9, 0.5]) == Spread(0.5, 0.9)
    assert spread([0.5, 0.3, 9.0], [False, False, True]) == Spread(
        0.5, 9.0, at_least=True
    )
    assert spread([1.0, 2.0]) == Spread(1.5, 2.0)
    assert spread([]) is None
    assert spread([None, None]) is None


def test_what_never_came_is_worse_than_every_number():
    assert spread([None, 3.0, 4.0]) == Spread(4.0, math.inf)
    assert spread([None, None, 4.0]) == Spread(math.inf, math.inf)


@given(st.lists(st.floats(0, 100), min_size=1))
def test_half_of_the_runs_are_no_worse_than_the_median(values):
    of = spread(values)
    assert of.worst == max(values)
    assert sum(value <= of.median for value in values) >= len(values) / 2


@pytest.mark.parametrize(
    ("runs", "missed"),
    [
        ([run(0.4), run(0.5), run(9.0)], []),
        ([run(0.6)], ["bad seconds: 0.60 > 0.5"]),
        ([run(0.1, upload_gap_s=2.0)], ["upload gap: 2.00 > 1.2"]),
        ([run(0.1, upload_gap_s=None)], ["upload gap: never"]),
    ],
)
def test_a_goal_is_met_by_the_median(runs, missed):
    assert misses(GOAL, together(runs)) == missed


def test_a_goal_of_moves_and_words():
    goal = cases.Goal(moves=0, reported=True)
    assert misses(goal, together([run(moves=0, reported=True)])) == []
    assert misses(goal, together([run(moves=1, reported=False)])) == [
        "moves: 1.00 > 0",
        "reported in 0 of 1",
    ]


def test_a_goal_of_time():
    goal = cases.Goal(moved_within_s=60)
    assert misses(goal, together([run(moved_after_s=None)])) == ["moved after: never"]
    assert misses(goal, together([run(moved_after_s=50.0)])) == []
    goal = cases.Goal(back_within_s=1)
    assert misses(goal, together([run(back_after_s=1.5)])) == [
        "back after: 1.50 > 1",
    ]


def test_the_table():
    runs = [
        run(0.4, cpu_ratio=0.012),
        run(0.6, upload_gap_s=1.0, cpu_ratio=0.02),
        run(16.2, "opnsense", ended=False, upload_gap_s=60.0, upload_open=True),
        run(0.3, case="bufferbloat", moves=0, reported=False),
    ]
    idle = [Idle("jaga", 120.0, {"a": 5e6, "b": 1e5}, 2e6, 0.006, 40 << 20)]
    text = table.table(runs, idle, COLUMNS, {"dns-dead": "not run: no resolver"})
    lines = text.splitlines()
    assert lines[0] == (
        "| fault on the uplink in use | goal | **Jaga** | OPNsense (dpinger) |"
    )
    assert lines[2] == (
        "| silent both ways | ≤ 0.5 bad s, upload ≤ 1.2 | 0.50 (0.60), "
        "upload 0.95 (1.00) ×2 ✓ | ≥ 16.2, upload ≥ 60.0 ×1 |"
    )
    assert lines[3].startswith("| carrier NAT drops mid-stream TCP")
    assert '0 moves, "busy" reported | 0.30, 0 moves, said in 0 of 1 ×1 ✗ | –' in text
    other = table.cell(
        cases.chosen("bufferbloat")[0], together([run(3.0, moves=1)]), judge=False
    )
    assert other == "3.00, 1 moves ×1"  # it has no voice
    assert "| not run: no resolver | – |" in text
    assert "| idle: probing by uplink, MB/day | – | 5.00 / 0.10 | – |" in text
    assert "| idle: CPU, of one core | – | 0.6 % | – |" in text
    assert "| memory (RSS) | – | 40 MiB | – |" in text
    assert "| in the runs: CPU, of one core | – | 2.0 % | – |" in text
    assert len({line.count("|") for line in lines}) == 1
    assert table.failed(runs) == ["bufferbloat: reported in 0 of 1"]


def test_results_survive_the_file():
    runs = [run(0.4), run(None, ended=False, moved_after_s=1.0)]
    idle = Idle("jaga", 120.0, {"a": 5e6}, 2e6, None, None)
    lines = [one.line() for one in (*runs, idle, idle)]
    assert outcome.read(lines) == (runs, [idle])


def test_the_page_names_its_command_and_its_subjects():
    text = table.page("| a |\n", COLUMNS, ["jaga"], {"command": "make bench RUNS=3"})
    assert "Made by `make bench RUNS=3`" in text
    assert "| a |" in text
    assert "real `jaga-agent`" in text
    assert "mwan3track" not in text


def test_faults_by_name_and_glob():
    assert [c.name for c in cases.chosen("blackhole")] == ["blackhole"]
    assert {c.name for c in cases.chosen("blackhole*, quota")} == {
        "blackhole",
        "blackhole-up",
        "blackhole-down",
        "quota",
    }
    assert cases.chosen("*") == list(cases.CASES)
    with pytest.raises(ValueError, match="'blackhol': choose of carrier"):
        cases.chosen("blackhol")


def test_round_trips_lost_come_from_both_ways():
    assert 1 - (1 - cases.each_way(0.3)) ** 2 == pytest.approx(0.3)
    assert cases.each_way(0.3) == pytest.approx(0.163, abs=0.001)


def test_every_case_is_distinct_and_refers_to_one():
    names = [case.name for case in cases.CASES]
    assert len(set(names)) == len(names)
    assert {c.same_as for c in cases.CASES} - {None} <= set(names)


@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
def test_who_runs_what(subject):
    options = arguments(["--runs=10"])
    options.skipped = skipped(options.cases)
    planned = {case.name: runs for case, runs in plan(subject, options.cases, options)}
    assert "cgnat" not in planned  # another row's runs
    assert planned["blackhole"] == min(10, subject.runs or 10)
    assert ("flap" in planned) == (subject.name == "jaga")
    assert ("unplug" in planned) == (
        subject.name in {"jaga", "told", "kernel", "mwan3"}
    )


def test_moves_are_changes_of_the_device():
    seen = [(1.0, "wan0"), (2.0, "wan0"), (3.0, "wan1"), (9.0, "wan0"), (20.0, "wan1")]
    assert observe.moves(seen, 2.5, 10.0) == [3.0, 9.0]
    assert observe.moves(seen, 3.5, 8.0) == []


def test_a_site_is_back_after_two_good_seconds():
    attempts = [
        Attempt(number / 10, 0.02, ok=number != 50) for number in range(100)
    ]  # at 5.0 s one fails
    log = PhoneLog(attempts)
    assert back(log, 4.9)
    assert not back(log, 6.0)
    assert back(log, 7.1)
    assert not back(PhoneLog(), 1.0)
