import os
import time
from pathlib import Path

import pytest

from jaga_agent.adapters.clock import BoottimeClock
from jaga_agent.adapters.fakes import FakeClock


@pytest.mark.parametrize("clock", [BoottimeClock(), FakeClock()], ids=["real", "fake"])
def test_both_clocks_of_a_stamp_are_the_clock_s_own(clock):
    before, wall_before = clock.now(), clock.wall_ms()
    stamp = clock.stamp()
    assert before - 0.001 <= stamp.boot_ns / 1e9 <= clock.now() + 0.001
    assert wall_before - 1 <= stamp.wall_ns / 1e6 <= clock.wall_ms() + 1


def test_now_is_the_kernel_s_uptime():
    kernel = float(Path("/proc/uptime").read_text().split()[0])
    assert BoottimeClock().now() == pytest.approx(kernel, abs=1.0)


@pytest.mark.parametrize(
    ("touched_s_ago", "want"),
    [
        pytest.param(None, [-1], id="never confirmed"),
        pytest.param(0, [0], id="just now"),
        pytest.param(90, [90, 91], id="ninety seconds ago"),
        pytest.param(-3600, [-1], id="confirmed, then the clock was set back"),
    ],
)
def test_age(tmp_path, touched_s_ago, want):
    path = tmp_path / "synchronized"
    if touched_s_ago is not None:
        path.touch()
        stamp = time.time_ns() - touched_s_ago * 10**9
        os.utime(path, ns=(stamp, stamp))
    assert BoottimeClock(path).age_s() in want


def test_fake_clock_steps_the_wall_alone():
    clock = FakeClock(age_s=-1)
    before = clock.stamp()
    clock.advance(2.0)
    clock.step_wall(3_600_000, age_s=0)
    after = clock.stamp()
    assert after.boot_ns - before.boot_ns == 2_000_000_000
    assert after.wall_ns - before.wall_ns == 3_602_000_000_000
    assert clock.age_s() == 0
