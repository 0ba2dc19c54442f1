import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaga_agent.adapters.clock import BoottimeClock
from jaga_agent.adapters.fakes import FakeClock
from jaga_agent.core.timekeeping import KERNEL_LIMIT_US


@pytest.mark.parametrize("clock", [BoottimeClock(), FakeClock()], ids=["real", "fake"])
def test_both_clocks_of_a_stamp_are_the_clock_s_own(clock):
    before, wall_before = clock.now(), clock.wall_ms()
    stamp = clock.stamp()
    assert before - 0.001 <= stamp.boot_ns / 1e9 <= clock.now() + 0.001
    assert wall_before - 1 <= stamp.wall_ns / 1e6 <= clock.wall_ms() + 1


def test_now_is_the_kernel_s_uptime():
    kernel = float(Path("/proc/uptime").read_text().split()[0])
    assert BoottimeClock().now() == pytest.approx(kernel, abs=1.0)


def test_the_kernel_says_how_it_keeps_its_clock():
    """Real adjtimex, without any right: what it says must fit the kernel's own rules."""
    ntp = BoottimeClock().ntp()
    assert ntp is not None
    assert 0 <= ntp.maxerror_us <= KERNEL_LIMIT_US
    assert 0 <= ntp.esterror_us <= KERNEL_LIMIT_US
    # Larger offsets are stepped, never slewed (MAXPHASE, linux/timex.h).
    assert abs(ntp.offset_ns) <= 500_000_000
    program = (
        "import ctypes; b = (ctypes.c_long * 64)(); ctypes.CDLL(None).adjtimex(b); "
    )
    program += "print(b[3], b[4])"
    if os.geteuid() == 0:
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        said = subprocess.run(
            # The system's own: nobody may not enter root's environment.
            [*nobody, "/usr/bin/python3", "-I", "-c", program],
            capture_output=True,
            text=True,
            check=True,
        )
        # It grows by 500 ppm, or a daemon lowers it.
        assert int(said.stdout.split()[0]) <= ntp.maxerror_us + 60_000
    age_s = BoottimeClock().age_s()
    assert (age_s == -1) is not ntp.is_synchronised


def test_a_kernel_that_may_not_be_asked_is_no_source():
    """As under a system call filter that refuses it; told once."""
    program = """
import ctypes, logging, struct
from jaga_agent.adapters.clock import BoottimeClock
logging.basicConfig()
# A seccomp filter (linux/seccomp.h, linux/filter.h): EPERM for (clock_)adjtime(x).
import platform
numbers = {"x86_64": (159, 305), "aarch64": (171, 266)}[platform.machine()]
code = [(0x20, 0, 0, 0)]
for n in numbers:
    code += [(0x15, 0, 1, n), (0x06, 0, 0, 0x00050001)]
code += [(0x06, 0, 0, 0x7FFF0000)]
raw = b"".join(struct.pack("HBBI", *c) for c in code)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(len(code), raw)), 0, 0) == 0
clock = BoottimeClock()
print(clock.ntp(), clock.ntp(), clock.age_s())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "None None -1"
    assert done.stderr.count("SystemCallFilter") == 1


def test_fake_clock_steps_the_wall_alone():
    clock = FakeClock(age_s=-1)
    before = clock.stamp()
    clock.advance(2.0)
    clock.step_wall(3_600_000, age_s=0)
    after = clock.stamp()
    assert after.boot_ns - before.boot_ns == 2_000_000_000
    assert after.wall_ns - before.wall_ns == 3_602_000_000_000
    assert clock.age_s() == 0
