"""A journal replays to the same decisions, and damage in it is one clear line."""

import pytest

from jaga_agent import replay
from jaga_agent.adapters import journal as journal_module
from jaga_agent.adapters.journal import Journal
from jaga_agent.core.actions import SelectUplink
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
    assert all(outcome.same for outcome in outcomes)
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
