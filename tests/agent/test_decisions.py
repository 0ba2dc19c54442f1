"""Decisions as the runtime keeps them: chained, with evidence that replays bit for bit."""

import asyncio
import dataclasses
import gzip

import pytest

from jaga_agent import replay
from jaga_agent.adapters import chain, evidence, journal
from jaga_agent.adapters.chain import Chain
from jaga_agent.adapters.evidence import EvidenceFiles
from jaga_agent.adapters.fakes import FakeClock
from jaga_agent.adapters.journal import Journal
from jaga_agent.core.actions import Candidate, ReportHealth, ReportTarget, SelectUplink
from jaga_agent.core.model import Health
from jaga_agent.core.state import State
from jaga_agent.errors import ChainError, EvidenceError
from jaga_agent.runtime import decisions as decisions_module
from jaga_agent.runtime.decisions import Decisions, link
from jaga_agent.runtime.troubles import Troubles
from sim.world import FIBRE, TELKOMSEL, XL, policy
from support.guarded import BOOT, GuardedWorld, outage


@pytest.fixture(autouse=True)
def _no_wait(monkeypatch):
    monkeypatch.setattr(decisions_module, "AFTER_S", 0.0)


def of_kind(kept, kind):
    return [entry for entry in kept.entries if entry.kind == kind]


async def test_an_outage_is_chained_with_evidence_that_replays(tmp_path):
    world = await outage(tmp_path)
    kept = chain.load(tmp_path)
    assert kept.fault is None
    assert world.troubles.all() == []
    moves = of_kind(kept, "decision")
    assert [(m.rule, m.old, m.uplink) for m in moves] == [
        ("first", None, TELKOMSEL),
        ("failover", TELKOMSEL, XL),
        ("failback", XL, TELKOMSEL),
    ]
    assert kept.entries[0].kind == "started"
    assert kept.entries[-1].kind == "stopped"
    for move in moves:
        path = evidence.find(tmp_path, move.id)
        outcomes = list(replay.replay_decision(move, path))
        assert all(outcome.same for outcome in outcomes)
        (at,) = [o for o in outcomes if replay.decided(o, move)]
        assert at.number == move.evidence.steps
        # What came after is there too, and another entry vouches for all of it.
        (sealed,) = [s for s in of_kind(kept, "sealed") if s.of == move.id]
        assert len(outcomes) == sealed.evidence.steps > move.evidence.steps
        lines = journal.content(path).splitlines()
        assert evidence.digest(lines) == sealed.evidence.sha256
        assert world.now - outcomes[-1].at < 200
    failover = moves[1]
    outcomes = list(
        replay.replay_decision(failover, evidence.find(tmp_path, failover.id))
    )
    led_s = outcomes[failover.evidence.steps - 1].at - outcomes[0].at
    assert journal.WINDOW_S <= led_s <= journal.WINDOW_S + journal.SEGMENT_S + 0.1
    assert failover.switched_ms == 3
    assert failover.targets == 3
    assert failover.hold_down_ms >= 20_000
    assert [c.uplink for c in failover.candidates] == [TELKOMSEL, XL, FIBRE]
    (gap,) = of_kind(kept, "gap")
    assert (gap.of, gap.gap_ms, gap.uplink) == (failover.id, 620, XL)


async def test_the_recovered_uplink_s_entry_says_when_it_takes_the_site_back(tmp_path):
    await outage(tmp_path)
    kept = chain.load(tmp_path)
    (back,) = [e for e in of_kind(kept, "health") if e.hold_until_ms is not None]
    failback = of_kind(kept, "decision")[-1]
    assert back.uplink == TELKOMSEL
    assert abs(failback.at_ms - back.hold_until_ms) <= 1


async def test_status_shows_the_ids_and_the_gap(tmp_path):
    world = await outage(tmp_path)
    latest = world.decisions.latest()
    moves = of_kind(chain.load(tmp_path), "decision")
    assert [d["id"] for d in latest] == [m.id for m in reversed(moves)]
    assert [d["gap_ms"] for d in latest] == [None, 620.0, None]


async def test_swapped_evidence_is_refused(tmp_path):
    await outage(tmp_path)
    moves = of_kind(chain.load(tmp_path), "decision")
    first, second = (evidence.find(tmp_path, move.id) for move in moves[:2])
    second.write_bytes(first.read_bytes())
    with pytest.raises(EvidenceError, match="changed or swapped"):
        replay.replay_decision(moves[1], second)


async def test_evidence_with_one_step_changed_is_refused(tmp_path):
    await outage(tmp_path)
    move = of_kind(chain.load(tmp_path), "decision")[1]
    path = evidence.find(tmp_path, move.id)
    text = gzip.decompress(path.read_bytes())
    path.write_bytes(
        gzip.compress(text.replace(b'"rx_packets":7', b'"rx_packets":6', 1))
    )
    with pytest.raises(EvidenceError, match="changed or swapped"):
        replay.replay_decision(move, path)


async def test_another_decision_than_the_chain_s_is_told(tmp_path):
    await outage(tmp_path)
    move = of_kind(chain.load(tmp_path), "decision")[1]
    outcomes = list(replay.replay_decision(move, evidence.find(tmp_path, move.id)))
    made = outcomes[move.evidence.steps - 1]
    assert replay.decided(made, move)
    for change in (
        {"rule": "failback"},
        {"uplink": FIBRE},
        {"detected_ms": move.detected_ms + 1},
        {"at_ms": move.at_ms + 1},
        {"candidates": move.candidates[:2]},
    ):
        other = decisions_module.account.msgspec.structs.replace(move, **change)
        assert not replay.decided(made, other), change


async def test_a_killed_agent_has_kept_what_led_to_the_decision(tmp_path, monkeypatch):
    """The evidence is written at once, and again with what followed."""
    monkeypatch.setattr(decisions_module, "AFTER_S", 3600.0)
    world = GuardedWorld(journal=Journal(None))
    world.keep_in(tmp_path)
    world.run(5)
    (move,) = of_kind(chain.load(tmp_path), "decision")
    async with asyncio.timeout(10):
        while move.id not in evidence.kept(tmp_path):  # noqa: ASYNC110 - a thread writes it
            await asyncio.sleep(0.01)
    outcomes = list(replay.replay_decision(move, evidence.find(tmp_path, move.id)))
    assert len(outcomes) == move.evidence.steps
    # Asked to stop, it does not wait for the rest of the hour.
    async with asyncio.timeout(10):
        await world.end()
    kept = chain.load(tmp_path)
    assert [e.kind for e in kept.entries[-2:]] == ["sealed", "stopped"]


# Faults of the card cost the record, never the move


class BadCard:
    """A chain and evidence that refuse as long as they are told to."""

    bad = True

    def append(self, content):
        msg = "the card is full"
        raise ChainError(msg)

    def sync(self):
        msg = "the card is full"
        raise ChainError(msg)

    def keep(self, decision, lines):
        msg = "the card is full"
        raise EvidenceError(msg)


def desk(chain_file, files, troubles, journal_=None):
    return Decisions(
        chain_file,
        files,
        journal_,
        clock=FakeClock(),
        boot=BOOT,
        troubles=troubles,
    )


MOVE = SelectUplink(TELKOMSEL, None, "first", "the best", None, ())


async def test_a_chain_that_refuses_costs_the_entry_and_is_told():
    troubles = Troubles()
    decisions = desk(BadCard(), BadCard(), troubles)
    state = State.initial(policy(), TELKOMSEL)
    decisions.decided(MOVE, state)
    assert decisions.moved(MOVE, 0.003) is None
    assert decisions.record(ReportTarget("a", False, "silent"), state) is None
    assert link(None) == {}
    assert troubles.all() == ["the card is full"]
    assert decisions.latest()[0]["id"] is None
    await decisions.close("over")


async def test_no_chain_at_all_is_told():
    troubles = Troubles()
    decisions = desk(None, None, troubles)
    assert decisions.lifecycle("started", "here") is None
    assert "not kept" in troubles.all()[0]
    await decisions.close("over")


async def test_evidence_that_cannot_be_kept_is_told(tmp_path):
    world = GuardedWorld(journal=Journal(None))
    world.keep_in(tmp_path)
    world.decisions._evidence = BadCard()
    await world.guard(5)
    assert world.troubles.all() == ["the card is full"]
    assert of_kind(chain.load(tmp_path), "sealed") == []
    await world.end()


async def test_a_move_that_the_kernel_refused_is_entered_without_a_time(tmp_path):
    decisions = desk(Chain(tmp_path, boot=BOOT.hex()), None, Troubles())
    decisions.decided(MOVE, State.initial(policy(), TELKOMSEL))
    entry = decisions.moved(MOVE, None)
    assert entry.switched_ms is None
    assert link(entry) == {"id": "1", "hash": entry.hash[:16]}
    await decisions.close("over")


async def test_a_move_under_way_at_the_end_is_entered(tmp_path):
    decisions = desk(Chain(tmp_path, boot=BOOT.hex()), None, Troubles())
    decisions.decided(MOVE, State.initial(policy(), TELKOMSEL))
    await decisions.close("over")
    kinds = [(e.kind, e.switched_ms) for e in chain.load(tmp_path).entries]
    assert kinds == [("decision", None), ("stopped", None)]


async def test_a_gap_measured_before_the_kernel_answered_follows_its_decision(tmp_path):
    decisions = desk(Chain(tmp_path, boot=BOOT.hex()), None, Troubles())
    decisions.decided(MOVE, State.initial(policy(), TELKOMSEL))
    assert decisions.gap(TELKOMSEL, 0.5) is None
    entry = decisions.moved(MOVE, 0.003)
    await decisions.close("over")
    kept = chain.load(tmp_path).entries
    assert [(e.kind, e.of) for e in kept[:2]] == [("decision", None), ("gap", entry.id)]
    assert decisions.latest()[0]["gap_ms"] == 500


async def test_a_gap_of_no_decision_of_this_run_refers_to_none(tmp_path):
    decisions = desk(Chain(tmp_path, boot=BOOT.hex()), None, Troubles())
    assert decisions.gap(XL, 0.5).of is None
    entry = decisions.other("busy", "full", uplink=XL, target="a")
    assert (entry.kind, entry.uplink, entry.target) == ("busy", XL, "a")
    health = ReportHealth(XL, Health.UNKNOWN, Health.UP, "1 answered")
    assert decisions.record(health, State.initial(policy())).hold_until_ms is None
    await decisions.close("over")


# Evidence files


def test_the_oldest_evidence_goes(tmp_path):
    files = EvidenceFiles(tmp_path, max_files=3)
    for number in range(8, 13):
        files.keep(number, [b"a", b"b"])
    assert evidence.kept(tmp_path) == {10, 11, 12}
    files.keep(11, [b"a", b"b", b"c"])
    assert journal.content(evidence.find(tmp_path, 11)) == b"a\nb\nc\n"
    with pytest.raises(EvidenceError, match=r"no evidence of 9 .*: 10, 11, 12"):
        evidence.find(tmp_path, 9)


def test_evidence_is_bounded_in_bytes_but_the_newest_stays(tmp_path):
    files = EvidenceFiles(tmp_path, max_bytes=100)
    for number in range(1, 6):
        files.keep(number, [bytes([number] * 10)])
    assert max(evidence.kept(tmp_path)) == 5
    folder = tmp_path / evidence.FOLDER
    assert sum(p.stat().st_size for p in folder.iterdir()) <= 100
    files = EvidenceFiles(tmp_path, max_bytes=1)
    files.keep(6, [b"x"])
    assert evidence.kept(tmp_path) == {6}


def test_what_a_killed_agent_left_half_written_goes(tmp_path):
    files = EvidenceFiles(tmp_path)
    files.keep(1, [b"a"])
    half = tmp_path / evidence.FOLDER / "2.part"
    half.write_bytes(b"half")
    assert evidence.kept(tmp_path) == {1}
    files.keep(3, [b"a"])
    assert not half.exists()


def test_no_evidence_is_one_clear_line(tmp_path):
    with pytest.raises(EvidenceError, match=r"no evidence of 7 in .*; none is kept"):
        evidence.find(tmp_path, 7)
    (tmp_path / evidence.FOLDER).touch()
    with pytest.raises(EvidenceError, match=r"evidence .*: Not a directory"):
        evidence.find(tmp_path, 7)
    with pytest.raises(EvidenceError, match="File exists"):
        EvidenceFiles(tmp_path).keep(7, [b"a"])


# A reason with a code


@dataclasses.dataclass(frozen=True)
class Coded:
    code: str
    values: tuple[tuple[str, str], ...] = ()

    def __str__(self):
        return f"in English: {self.code}"


async def test_a_coded_reason_is_kept_as_sentence_code_and_values(tmp_path):
    decisions = desk(Chain(tmp_path, boot=BOOT.hex()), None, Troubles())
    slow = Coded("slow", (("rtt_ms", "900"),))
    candidate = Candidate(XL, Health.DEGRADED, 900.4, slow)
    move = dataclasses.replace(MOVE, reason=Coded("first"), candidates=(candidate,))
    decisions.decided(move, State.initial(policy(), TELKOMSEL))
    entry = decisions.moved(move, 0.003)
    await decisions.close("over")
    assert (entry.reason, entry.code, entry.values) == (
        "in English: first",
        "first",
        {},
    )
    (judged,) = entry.candidates
    assert (judged.code, judged.values, judged.rtt_ms) == (
        "slow",
        {"rtt_ms": "900"},
        900,
    )
