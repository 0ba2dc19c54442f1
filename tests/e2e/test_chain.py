"""The decision chain of a running agent: kept, told, replayed, and whole after a kill."""

import signal
import subprocess

import pytest

from demo.stage import BIN, Stage
from jaga_agent.adapters import chain, evidence
from support.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(180)]

TELKOMSEL = "telkomsel"


@pytest.fixture(scope="module")
def stage(shared_data, free_port):
    with Stage(
        shared_data, free_port(), fleet=0, say=print, hold_down_s=(600, 600)
    ) as running:
        yield running


@pytest.fixture(scope="module")
def state(stage):
    """An outage lived through, and the agent killed and started after it."""
    directory = stage.directory / "agent"
    stage.lab.uplinks[TELKOMSEL].blackhole()
    until(lambda: of_kind(directory, "sealed", 2), "two decisions with evidence", 60)
    stage.agent.send_signal(signal.SIGKILL)
    stage.agent.wait(5)
    stage.start_agent()
    until(lambda: of_kind(directory, "started", 2), "the second start is entered")
    return directory


def of_kind(directory, kind, count):
    """Return the chain's entries of a kind once there are as many."""
    if not (directory / chain.NAME).exists():
        return None
    found = [e for e in chain.load(directory).entries if e.kind == kind]
    return found if len(found) >= count else None


def jaga(*arguments):
    ran = subprocess.run(
        [BIN / "jaga-agent", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_chain_is_whole_after_a_kill_and_its_ids_go_on(state):
    kept = chain.load(state)
    assert kept.fault is None
    ids = [entry.id for entry in kept.entries]
    assert ids == list(range(1, len(ids) + 1))
    assert {entry.boot for entry in kept.entries} == {kept.entries[0].boot}
    assert jaga("decisions", "--verify", "--directory", state).startswith(
        "the chain is"
    )


def test_the_real_outage_is_reproduced_bit_for_bit(state):
    first, failover = of_kind(state, "decision", 2)[:2]
    assert (failover.rule, failover.old) == ("failover", TELKOMSEL)
    assert {first.id, failover.id} <= evidence.kept(state)
    for decision in (first, failover):
        *_, last = jaga("replay", decision.id, "--directory", state).splitlines()
        assert last.startswith("reproduced: ")
        assert last.endswith(f"decision {decision.id} identical")


def test_it_is_told_in_plain_words(state):
    failover = of_kind(state, "decision", 2)[1]
    told = jaga("explain", failover.id, "--directory", state)
    assert f"telkomsel gagal, maka lokasi dipindahkan ke {failover.uplink}." in told
    assert "▶ " + str(failover.uplink) in told


def test_the_collector_holds_what_proves_the_chain(stage, state):
    wanted = {str(e.id) for e in of_kind(state, "decision", 2)}

    def told():
        events = stage.get(f"/api/1/events?site={stage.site}&limit=200")["events"]
        found = {
            event["evidence"]["id"]: event["evidence"]["hash"]
            for event in events
            if "hash" in event["evidence"]
        }
        return found if wanted <= found.keys() else None

    found = until(told, "the collector has the decisions", 30)
    entries = {str(e.id): e.hash[:16] for e in chain.load(state).entries}
    assert found.items() <= entries.items()
