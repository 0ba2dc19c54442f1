"""A journal replays to the same decisions, and damage in it is one clear line."""

import gzip
import math
import struct
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from jaga_agent import replay
from jaga_agent.adapters import journal as journal_module
from jaga_agent.adapters.journal import Journal
from jaga_agent.core import engine
from jaga_agent.core.actions import SelectUplink
from jaga_agent.core.events import ProbeAnswered
from jaga_agent.core.state import State
from jaga_agent.errors import JournalError
from sim.world import TELKOMSEL, World, policy


@pytest.fixture
def outage(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    world = World(policy(hold_down_s=20.0), journal=journal)
    world.change(20, TELKOMSEL, silent=True)
    world.change(40, TELKOMSEL, silent=False)
    world.run(80)
    journal.close()
    return path, world


def test_a_recorded_outage_replays_to_the_same_decisions(outage):
    path, world = outage
    outcomes = list(replay.replay(path))
    assert len(outcomes) == world.events
    assert all(outcome.same for outcome in outcomes)
    assert outcomes[-1].state == world.state
    moves = [
        (a.rule, a.uplink)
        for outcome in outcomes
        for a in outcome.actions
        if isinstance(a, SelectUplink)
    ]
    assert moves == [(rule, uplink) for _, rule, uplink in world.moves()]
    assert len(moves) == 3


def test_a_changed_engine_is_told(outage):
    path, _ = outage
    text = path.read_text()
    assert '"rule":"failover"' in text
    path.write_text(text.replace('"rule":"failover"', '"rule":"switchover"', 1))
    assert [outcome.same for outcome in replay.replay(path)].count(False) == 1


def test_lines_read_like_a_story(outage):
    path, _ = outage
    outcomes = list(replay.replay(path))
    lines = [li for o in outcomes for li in replay.line(outcomes[0].at, o)]
    assert any("FAILOVER telkomsel → xl (detected in" in line for line in lines)
    assert any("telkomsel: up → down: silent for" in line for line in lines)


def test_a_full_journal_turns_over_and_both_files_replay(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "LIMIT_BYTES", 200_000)
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    World(journal=journal).run(40)
    journal.close()
    for file in (path, tmp_path / "journal.jsonl.1"):
        assert file.stat().st_size < 250_000
        assert all(outcome.same for outcome in replay.replay(file))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty; a journal begins with the engine's state"),
        (b"{}\n", ":1: not a journal of this version"),
        (b"nonsense\n", ":1: not a journal of this version"),
    ],
)
def test_damage_is_one_clear_line(tmp_path, content, said):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content)
    with pytest.raises(JournalError, match=said):
        list(replay.replay(path))


def test_a_damaged_step_names_its_line(outage):
    path, _ = outage
    lines = path.read_bytes().splitlines(keepends=True)
    lines[7] = b'{"at": 1, "event": {"type": "Sunshine"}, "actions": []}\n'
    path.write_bytes(b"".join(lines))
    with pytest.raises(JournalError, match=":8: not a step of this version"):
        list(replay.replay(path))


def test_a_missing_file_is_one_clear_line(tmp_path):
    with pytest.raises(JournalError, match="cannot be read: No such file"):
        list(replay.replay(tmp_path / "none.jsonl"))


@pytest.fixture
def packed(outage):
    path, world = outage
    gz = path.with_name("outage.gz")
    gz.write_bytes(gzip.compress(path.read_bytes()))
    return gz, world


def test_a_packed_journal_replays_the_same(packed):
    path, world = packed
    outcomes = list(replay.replay(path))
    assert len(outcomes) == world.events
    assert all(outcome.same for outcome in outcomes)


def test_a_packed_journal_cut_short_is_one_clear_line(packed):
    path, _ = packed
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(JournalError, match="damaged, cannot be unpacked"):
        list(replay.replay(path))


def test_the_last_bit_of_a_double_counts(outage):
    path, _ = outage
    lines = path.read_bytes().splitlines(keepends=True)
    at = next(i for i, li in enumerate(lines) if b'"detected_s":0.' in li)
    key, rest = lines[at].split(b'"detected_s":', 1)
    number, rest = rest.split(b",", 1)
    other = repr(math.nextafter(float(number), 1)).encode()
    lines[at] = key + b'"detected_s":' + other + b"," + rest
    path.write_bytes(b"".join(lines))
    differing = [o for o in replay.replay(path) if not o.same]
    assert [o.number for o in differing] == [at]
    said = "\n".join(replay.difference(differing[0].at, differing[0]))
    assert said.startswith(f"step {at} (+0.000 s) differs\n  recorded:     ")
    assert other.decode() in said


@hypothesis.given(
    st.floats(allow_nan=False, allow_infinity=False, min_value=0),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_every_double_survives_the_journal(at, rtt_s):
    event = ProbeAnswered(7, rtt_s)
    state = State.initial(policy(hold_down_s=rtt_s))
    text = journal_module._head(state) + b"\n" + journal_module.encoded(at, event, ())
    again, steps = journal_module.parsed(text, Path("hypothesis"))
    (step,) = steps
    assert again == state
    assert step.event == event
    assert struct.pack("d", step.at) == struct.pack("d", at)
    assert struct.pack("d", step.event.rtt_s) == struct.pack("d", rtt_s)
    assert journal_module.encoded(step.at, step.event, step.actions) == step.line


# How long the world runs: a cut holds all there is, or the window and one segment more.
@pytest.mark.parametrize("until", [0.2, 12, 31, 100])
def test_a_cut_replays_alone_and_holds_what_led_to_it(until, tmp_path):
    journal = Journal(None)
    world = World(policy(), journal=journal)
    world.change(until * 0.9, TELKOMSEL, silent=True)
    world.run(until)
    cut = journal.cut()
    assert cut is not None
    state, steps = journal_module.parsed(b"\n".join(cut.lines), tmp_path)
    began = None
    for step in steps:
        began = step.at if began is None else began
        state, actions = engine.step(state, step.event, step.at)
        assert actions == step.actions
    assert state == world.state
    held_s = cut.at - began
    longest_s = journal_module.WINDOW_S + journal_module.SEGMENT_S
    assert held_s >= min(until, journal_module.WINDOW_S) - 0.1
    assert held_s <= longest_s + 0.1
    world.run(until + 5)
    lines = (*cut.lines, *journal.since(cut.mark))
    state, steps = journal_module.parsed(b"\n".join(lines), tmp_path)
    for step in steps:
        state, _ = engine.step(state, step.event, step.at)
    assert state == world.state


def test_a_flood_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(journal_module, "WINDOW_BYTES", 20_000)
    monkeypatch.setattr(journal_module, "SEGMENT_S", 0.5)
    journal = Journal(None)
    World(journal=journal).run(30)
    assert sum(map(len, journal.cut().lines[1:])) < 20_000


def test_every_event_and_action_can_be_read_again():
    assert set(journal_module._EVENTS) >= {"LinkSeen", "ProbeAnswered", "Tick"}
    assert set(journal_module._ACTIONS) >= {"SendProbe", "SelectUplink"}
