"""The timekeeper: what records are stamped with, what is told, what is kept."""

import pytest

from jaga_agent import report
from jaga_agent.adapters.fakes import FakeClock
from jaga_agent.adapters.kept_time import FileKeptTime
from jaga_agent.core import clock_sample
from jaga_agent.core.timekeeping import KERNEL_LIMIT_US, NtpState
from jaga_agent.runtime.timekeeper import TELL_S, Timekeeper
from jaga_agent.wire import messages as wire

UTC_MS = 1_795_000_000_000
"""At boot time 1000 s."""
FLOOR_S = 1_790_000_000
STAMP = report.Stamp(b"12345678", 9, 1, UTC_MS, 0)


def sample(clock, *, wrong_ms=0, rtt_ms=40):
    """An exchange with a reflector whose clock is right but for `wrong_ms`."""
    now_ns = clock.stamp().boot_ns
    utc_ns = (UTC_MS - 1_000_000 + wrong_ms) * 1_000_000 + now_ns - rtt_ms * 500_000
    return clock_sample.sample(
        now_ns - rtt_ms * 1_000_000,
        now_ns,
        receive_ns=utc_ns,
        hold_ns=0,
        error_s=0.001,
        synchronised=True,
    )


def utc_ms(clock):
    return UTC_MS + round((clock.now() - 1000) * 1000)


@pytest.fixture
def pi(tmp_path):
    """A Pi that woke in 1970, its timekeeper, and what that told."""
    clock = FakeClock(1000.0, wall_ms=60_000, age_s=-1)
    clock.kernel_says = NtpState(KERNEL_LIMIT_US, KERNEL_LIMIT_US, 0)
    keeper = Timekeeper(
        clock, kept=FileKeptTime(tmp_path / "clock.json"), floor_s=FLOOR_S
    )
    told = []
    keeper.begin(lambda why, change: told.append((why, change)))
    return clock, keeper, told


def test_nobody_knows_the_time(pi):
    _, keeper, told = pi
    assert (keeper.wall_ms(), keeper.age_s(), told) == (60_000, -1, [])
    assert keeper.snapshot()["source"] == "unknown"
    assert keeper.certificate_time().utc_s == FLOOR_S


def test_the_reflector_tells_and_steps_bend_nothing(pi):
    clock, keeper, told = pi
    keeper.echoed(sample(clock))
    assert [(why.code, c.old, c.new) for why, c in told] == [
        ("clock.first", "unknown", "reflector")
    ]
    for jump_ms in (3_600_000, -3_600_000, UTC_MS):
        clock.advance(TELL_S + 1)
        clock.step_wall(jump_ms)
        keeper.look()
        assert keeper.wall_ms() == pytest.approx(utc_ms(clock), abs=1)
        why, change = told[-1]
        assert (why.code, change.step_ms) == ("clock.stepped", jump_ms)
    assert keeper.age_s() == round(3 * (TELL_S + 1))
    assert keeper.snapshot()["offset_ms"] == pytest.approx(-60_000, abs=1)


def test_steps_in_quick_succession_are_told_together(pi):
    clock, keeper, told = pi
    keeper.echoed(sample(clock))
    for _ in range(10):
        clock.advance(1)
        clock.step_wall(1000)
        keeper.look()
    assert [c.step_ms for _, c in told] == [0, 1000]
    clock.advance(TELL_S)
    keeper.look()
    assert [c.step_ms for _, c in told] == [0, 1000, 9000]
    clock.advance(TELL_S + 1)
    keeper.look()
    assert len(told) == 3


def test_ntp_sets_the_clock_and_takes_over(pi):
    clock, keeper, told = pi
    keeper.echoed(sample(clock, wrong_ms=5))
    clock.advance(5)
    clock.step_wall(UTC_MS - 60_000)
    clock.kernel_says = NtpState(1000, 0, 0)
    keeper.look()
    why, change = told[-1]
    assert (why.code, change.old, change.new) == ("clock.source", "reflector", "ntp")
    assert change.step_ms == UTC_MS - 60_000
    assert keeper.certificate_time() is None
    assert keeper.age_s() == 2, "500 ppm: a millisecond is two seconds"


def test_what_happened_before_anybody_listened_is_told():
    clock = FakeClock(1000.0, wall_ms=UTC_MS)
    clock.kernel_says = NtpState(0, 0, 0)
    keeper = Timekeeper(clock, floor_s=FLOOR_S)
    assert keeper.age_s() == 0
    told = []
    keeper.begin(lambda why, change: told.append(why.code))
    assert told == ["clock.first"]


def test_a_restart_within_the_boot_goes_on(pi, tmp_path):
    clock, keeper, _ = pi
    keeper.echoed(sample(clock))
    clock.advance(100)
    clock.step_wall(7_200_000)
    after = Timekeeper(
        clock, kept=FileKeptTime(tmp_path / "clock.json"), floor_s=FLOOR_S
    )
    told = []
    after.begin(lambda why, change: told.append(why.code))
    assert told == []
    assert after.wall_ms() == pytest.approx(utc_ms(clock), abs=1)
    assert after.age_s() == 100


def test_a_reader_leaves_the_file_alone(pi, tmp_path):
    clock, _, _ = pi
    kept = FileKeptTime(tmp_path / "clock.json")
    keeper = Timekeeper(clock, kept=kept, saves=False, floor_s=FLOOR_S)
    keeper.echoed(sample(clock))
    keeper.close()
    assert kept.load() is None


def test_a_file_that_cannot_be_written_is_said_once(tmp_path, caplog):
    clock = FakeClock(1000.0)
    keeper = Timekeeper(clock, kept=FileKeptTime(tmp_path / "gone" / "clock.json"))
    for _ in range(5):
        clock.advance(100)
        keeper.echoed(sample(clock))
    assert caplog.text.count("cannot be written") == 1
    assert keeper.age_s() == 0


def test_the_event_is_in_the_contract_s_words(pi):
    clock, keeper, told = pi
    keeper.echoed(sample(clock))
    event = report.clock(STAMP, *told[0])
    assert {event.old, event.new} <= set(wire.EVENT_KINDS["clock"])
    assert event.evidence["step_ms"] == "0"
    assert int(event.evidence["offset_ms"]) == UTC_MS - 60_000
    assert event.evidence["uncertainty_ms"] == "21"
    assert wire.decode(wire.encode(event), wire.Event) == event
