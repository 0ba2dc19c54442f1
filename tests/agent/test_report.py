"""What the agent says is what it measured; missing is nil, never 0."""

import pytest

from jaga_agent import config, report
from jaga_agent.core.actions import (
    Candidate,
    ReportBusy,
    ReportCheck,
    ReportGap,
    ReportHealth,
    ReportTarget,
    ReportThrift,
    SelectUplink,
)
from jaga_agent.core.governor import Level
from jaga_agent.core.model import Health, Instant, TargetName, UplinkName
from jaga_agent.core.reason import Reason, because
from jaga_agent.core.state import State
from jaga_agent.core.tally import Measured, Tally
from jaga_agent.ports import Counters, HostReading
from jaga_agent.wire import messages as wire

A, B = UplinkName("telkomsel"), UplinkName("fibre")
STAMP = report.Stamp(b"12345678", 7, 1000, 2000, -1)
BLIND = HostReading(
    uptime_s=12.7,
    cpu_ratio=None,
    memory_ratio=0.25,
    disk_ratio=1.2,
    temperature_c=None,
)


@pytest.fixture
def loaded(tmp_path):
    path = tmp_path / "agent.toml"
    path.write_text(
        '[site]\nid = "tps-1"\n[mqtt]\nhost = "h"\ntls = false\n'
        '[[uplink]]\nname = "fibre"\ndevice = "wan2"\npreference = 9\n'
        '[[uplink]]\nname = "telkomsel"\ndevice = "wan0"\npreference = 1\n'
        'provider = "Telkomsel"\n'
    )
    return config.load(path)[0]


def test_a_heartbeat_says_what_was_measured(loaded):
    tally = Tally((A, B), lost_after_s=3.0)
    for probe_id, rtt_s in ((1, 0.020), (2, 0.040), (3, None)):
        tally.sent(probe_id, A, Instant(10.0))
        if rtt_s is not None:
            tally.answered(probe_id, rtt_s)
    tally.sent(4, B, Instant(10.0))
    tally.not_sent(4)
    beat = report.heartbeat(
        STAMP,
        loaded,
        State.initial(loaded.policy, A),
        measured=tally.collect(Instant(13.0)),
        traffic={"wan0": (5, 6), "wan2": None},
        host=BLIND,
    )
    first, second = beat.uplinks
    assert (first.name, first.sent, first.lost, first.not_sent) == (A, 3, 1, 0)
    assert (first.rtt_min_us, first.rtt_mean_us, first.rtt_max_us) == (
        20_000,
        30_000,
        40_000,
    )
    assert (first.rx_bytes, first.tx_bytes) == (5, 6)
    assert (second.sent, second.lost, second.not_sent) == (0, 0, 1)
    assert second.rtt_mean_us is None
    assert second.rx_bytes is None
    assert beat.active == A
    assert beat.host == wire.HostBeat(12, None, 250, 1000, None)
    assert wire.decode(wire.encode(beat), wire.Heartbeat) == beat


def test_a_probe_is_lost_only_after_the_loss_interval():
    tally = Tally((A,), lost_after_s=3.0)
    tally.sent(1, A, Instant(10.0))
    assert tally.collect(Instant(12.9))[A] == Measured()
    assert tally.collect(Instant(13.0))[A].lost == 1
    tally.answered(1, 3.5)
    assert tally.collect(Instant(14.0))[A] == Measured()


def test_a_refused_probe_was_sent_and_lost():
    tally = Tally((A,), lost_after_s=3.0)
    tally.sent(1, A, Instant(10.0))
    tally.refused(1)
    of = tally.collect(Instant(10.1))[A]
    assert (of.sent, of.lost) == (1, 1)


def totals(rx, tx):
    return Counters(rx, tx, 0, 0)


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        ({"w": totals(5, 5)}, {"w": totals(8, 9)}, {"w": (3, 4)}),
        ({"w": totals(5, 5)}, {}, {"w": None}),
        ({}, {"w": totals(8, 9)}, {"w": (8, 9)}),
        ({"w": totals(50, 50)}, {"w": totals(8, 9)}, {"w": (8, 9)}),
    ],
    ids=["moved", "device gone", "device new", "device re-created"],
)
def test_moved(before, after, wanted):
    assert report.moved(before, after) == wanted


def test_a_decision_carries_its_evidence():
    action = SelectUplink(
        B,
        A,
        "failover",
        Reason("text", (("text", "silent " + "x" * 600),)),
        0.5204,
        (
            Candidate(A, Health.DOWN, None, "silent"),
            Candidate(B, Health.UP, 12.4, "answers"),
        ),
    )
    event = report.decision(STAMP, action, 0.0031)
    assert (event.rule, event.old, event.new) == ("failover", A, B)
    assert (event.detected_ms, event.switched_ms) == (520, 3)
    assert event.evidence == {A: "down, no RTT", B: "up, 12 ms"}
    assert wire.decode(wire.encode(event), wire.Event) == event


def test_a_targets_fault_is_told_as_such():
    event = report.target(STAMP, ReportTarget("sirekap", False, "silent everywhere"))
    assert (event.kind, event.old, event.new) == ("target", "answering", "silent")
    assert event.evidence == {"target": "sirekap"}


WHY = because("text", text="so it was")
SAID = [
    *[
        (report.health, ReportHealth(A, Health.UNKNOWN, health, WHY))
        for health in Health
    ],
    *[
        (report.target, ReportTarget(TargetName("dns"), on, WHY))
        for on in (True, False)
    ],
    *[
        (report.check, ReportCheck(A, TargetName("sirekap"), on, WHY))
        for on in (True, False)
    ],
    *[(report.busy, ReportBusy(A, on, WHY)) for on in (True, False)],
    *[(report.thrift, ReportThrift(A, level, WHY)) for level in Level],
    (report.gap, ReportGap(A, 0.7654)),
]


@pytest.mark.parametrize(("told", "action"), SAID)
def test_what_is_told_of_a_change_is_in_the_contracts_words(told, action):
    event = told(STAMP, action)
    words = wire.EVENT_KINDS[event.kind]
    assert {event.old, event.new} - {None} <= set(words)
    assert bool(words) is (event.new is not None)
    assert wire.decode(wire.encode(event), wire.Event) == event


def test_a_gap_is_told_in_milliseconds():
    event = report.gap(STAMP, ReportGap(A, 0.7654))
    assert (event.uplink, event.evidence) == (A, {"gap_ms": "765"})


def test_status_names_each_provider(loaded):
    status = report.status(
        loaded, "abc", "1", online=False, boot=b"12345678", connection=3
    )
    assert [(u.name, u.provider) for u in status.uplinks] == [
        (A, "Telkomsel"),
        (B, "fibre"),
    ]
    assert wire.decode(wire.encode(status), wire.Status) == status
