"""Whatever ends a lab, nothing of it stays on the machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab import Lab, LabError, boottime_s, leftovers, namespace, site

pytestmark = pytest.mark.netns
TESTS = Path(__file__).resolve().parent.parent

OWNER = """
import signal, subprocess, sys
from lab import Lab
lab = Lab.create()
lab.pi.popen(["sleep", "1000"])
lab.pi.popen(["sh", "-c", "setsid sleep 1001 & sleep 1000"])
lab.start_broker()
lab.phone.start()
print(lab.tag, flush=True)
if sys.argv[1] == "return":
    sys.exit()
if sys.argv[1] == "raise":
    raise RuntimeError("boom")
signal.pause()
"""


def traces(tag: str) -> list[str]:
    """Everything on this machine that carries the lab's tag."""
    places = (Path("/run/netns"), Path("/etc/netns"), leftovers.RECORDS, Path("/tmp"))  # noqa: S108 - looked into only
    found = [str(path) for place in places for path in place.glob(f"*{tag}*")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if tag in command:
            found.append(f"{process.name}: {command}")
    return found


def processes_in(lab_tag: str) -> list[int]:
    names = [path.name for path in Path("/run/netns").glob(f"jaga-{lab_tag}-*")]
    return [pid for name in names for pid in namespace.Namespace(name).pids()]


def all_end(pids: list[int]) -> None:
    """Wait for the processes' ends: one that is exiting has left its namespace."""
    deadline_s = boottime_s() + 5
    while living := [p for p in pids if leftovers.process_start(p) is not None]:
        assert boottime_s() < deadline_s, [
            Path(f"/proc/{pid}/cmdline").read_text() for pid in living
        ]
        time.sleep(0.01)


@pytest.fixture
def start_owner(tmp_path):
    """Start a program that owns a lab; what the test does not end, we do."""
    owners = []

    def start(ending: str) -> tuple[subprocess.Popen[str], str]:
        # Errors to a file: what a killed owner leaves running would keep a pipe open.
        with (tmp_path / "stderr").open("w") as errors:
            owner = subprocess.Popen(
                [sys.executable, "-c", OWNER, ending],
                env=os.environ | {"PYTHONPATH": str(TESTS)},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        owners.append(owner)
        tag = owner.stdout.readline().strip()
        assert tag, (tmp_path / "stderr").read_text()
        return owner, tag

    yield start
    for owner in owners:
        owner.terminate()
        owner.wait(timeout=20)
        owner.stdout.close()
    Lab.sweep()


def test_close_leaves_nothing_and_may_be_repeated() -> None:
    lab = Lab.create()
    lab.pi.popen(["sleep", "1000"])
    # A daemon that left its process group, as a badly behaved program does.
    lab.pi.run(["sh", "-c", "setsid -f sleep 1001 >/dev/null 2>&1"])
    pids = processes_in(lab.tag)
    assert len(pids) >= 5
    assert traces(lab.tag)
    start_s = boottime_s()
    lab.close()
    assert boottime_s() - start_s < 5
    lab.close()
    assert traces(lab.tag) == []
    all_end(pids)


ENDINGS = {
    "at exit": ("return", None, 0),
    "exception": ("raise", None, 1),
    "SIGTERM": ("wait", signal.SIGTERM, 128 + signal.SIGTERM),
    "Ctrl-C": ("wait", signal.SIGINT, -signal.SIGINT),
}


@pytest.mark.parametrize(("ending", "number", "code"), ENDINGS.values(), ids=ENDINGS)
def test_whatever_ends_the_owner(start_owner, ending, number, code) -> None:
    owner, tag = start_owner(ending)
    if number is not None:
        owner.send_signal(number)
    owner.wait(timeout=20)
    assert owner.returncode == code
    assert traces(tag) == []


def test_a_killed_owner_is_swept_and_a_living_one_is_not(start_owner) -> None:
    owner, tag = start_owner("wait")
    with Lab.create() as living:
        pids = processes_in(tag)
        assert len(pids) >= 5
        assert tag not in Lab.sweep()
        owner.kill()
        owner.wait(timeout=20)
        # (The start of any other lab sweeps too, and may be faster.)
        subprocess.run(
            [sys.executable, "-m", "lab", "sweep"],
            env=os.environ | {"PYTHONPATH": str(TESTS)},
            check=True,
        )
        assert traces(tag) == []
        all_end(pids)
        assert living.pi.run(["true"]).returncode == 0
    assert traces(living.tag) == []


class InjectedError(Exception):
    """The failure that a test puts into the build."""


STEPS = [step.__name__ for step in Lab("steps").steps()]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_build_that_fails_half_way_leaves_nothing(step, when, monkeypatch) -> None:
    real = getattr(Lab, step)
    made: list[Lab] = []

    def failing(self: Lab) -> None:
        made.append(self)
        if when == "after":
            real(self)
        raise InjectedError

    monkeypatch.setattr(Lab, step, failing)
    with pytest.raises(InjectedError):
        Lab.create()
    assert traces(made[0].tag) == []
    assert made[0] not in site._open


def test_a_command_that_fails_half_way(monkeypatch) -> None:
    monkeypatch.setattr(site.topology, "internet_nft", lambda: "table ip {")
    tag = "broken" + os.urandom(2).hex()
    with pytest.raises(LabError, match="nft -f -` failed") as raised:
        Lab.create(tag)
    assert "\n" not in str(raised.value)
    assert traces(tag) == []


def test_a_tag_in_use_is_refused_and_its_lab_left_alone() -> None:
    with Lab.create() as lab:
        with pytest.raises(LabError, match="choose another tag"):
            Lab.create(lab.tag)
        assert lab.pi.run(["true"]).returncode == 0


def test_not_root(monkeypatch) -> None:
    monkeypatch.setattr(namespace.os, "geteuid", lambda: 1000)
    with pytest.raises(LabError, match="sudo"):
        Lab.create()


@pytest.mark.parametrize(
    ("program", "package"), [("ip", "iproute2"), ("nft", "nftables")]
)
def test_a_missing_program_names_its_package(monkeypatch, program, package) -> None:
    found = namespace.find
    monkeypatch.setattr(
        namespace, "find", lambda name: None if name == program else found(name)
    )
    monkeypatch.setattr(namespace.os, "geteuid", lambda: 0)
    with pytest.raises(LabError, match=f"apt install {package}"):
        Lab.create()
