"""Whatever ends an interactive `make demo`, nothing of it goes on."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import Lab, boottime_s, leftovers

ROOT = Path(__file__).resolve().parents[2]
MARK = "JAGA_TEST_DEMO"
ENDS_WITHIN_S = 10.0
pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

# From the first process to the whole picture.
STAGES = {
    "when only the lab is there": "lab: phone",
    "while the district connects": "waiting until all",
    "while the page is watched": "all is well",
}


@dataclass
class Demo:
    """A running demo whose processes are known by a variable they all inherit."""

    process: subprocess.Popen[bytes]
    mark: str
    home: Path
    """Its TMPDIR."""
    said_path: Path

    def said(self):
        return self.said_path.read_text()

    def wait_said(self, text):
        deadline = boottime_s() + 60
        while text not in self.said():
            assert self.process.poll() is None, self.said()
            assert boottime_s() < deadline, self.said()
            time.sleep(0.05)

    @property
    def tag(self):
        return self.said().split("internet (", 1)[1].split(")", 1)[0]

    def processes(self):
        """Return the command lines of all that run by its doing, by pid."""
        wanted = f"{MARK}={self.mark}".encode()
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if wanted not in (process / "environ").read_bytes().split(b"\0"):
                    continue
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # ended meanwhile, or not ours to look into
            found[int(process.name)] = command.decode(errors="replace")[:200]
        return found

    def wait_alone(self):
        """Wait until nothing runs by its doing; fail with what does."""
        deadline = boottime_s() + ENDS_WITHIN_S
        while running := self.processes():
            assert boottime_s() < deadline, running
            time.sleep(0.05)

    def files(self):
        """Return what is left of the lab and in the demo's folder for such things."""
        places = (Path("/run/netns"), Path("/etc/netns"), leftovers.RECORDS)
        lab = [path for place in places for path in place.glob(f"*{self.tag}*")]
        return [*map(str, lab), *map(str, self.home.iterdir())]


@pytest.fixture
def demo(shared_data, free_port):
    # Not tmp_path: a Unix socket's path is short.
    home = Path(tempfile.mkdtemp(prefix="jaga-ends-"))
    said_path = home.with_suffix(".said")
    mark = secrets.token_hex(8)
    with said_path.open("wb") as said:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "demo", "--fleet=20"),
                f"--port={free_port()}",
                f"--data={shared_data}",
            ],
            cwd=ROOT,
            env=os.environ | {MARK: mark, "TMPDIR": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            # As a shell gives a job, so that a signal for all is for it alone.
            process_group=0,
        )
    demo = Demo(process, mark, home, said_path)
    yield demo
    process.kill()
    process.wait()
    for pid in demo.processes():
        os.kill(pid, signal.SIGKILL)
    Lab.sweep()
    shutil.rmtree(home)
    said_path.unlink()


@pytest.mark.parametrize("said", STAGES.values(), ids=STAGES)
def test_ctrl_c(demo, said):
    demo.wait_said(said)
    began = boottime_s()
    # What the terminal does: all of the job gets it, playwright's driver too.
    os.killpg(demo.process.pid, signal.SIGINT)
    demo.process.wait(60)
    took_s = boottime_s() - began
    assert demo.process.returncode == 130, demo.said()
    assert demo.said().endswith("demo: ended; nothing is left behind\n")
    assert "Traceback" not in demo.said()
    assert took_s <= ENDS_WITHIN_S
    assert demo.processes() == {}
    assert demo.files() == []


@pytest.mark.torture
def test_an_impatient_second_ctrl_c_changes_nothing(demo):
    demo.wait_said("all is well")
    os.killpg(demo.process.pid, signal.SIGINT)
    demo.wait_said("taking everything down")
    os.killpg(demo.process.pid, signal.SIGINT)
    demo.process.wait(60)
    assert demo.process.returncode == 130, demo.said()
    assert demo.said().endswith("demo: ended; nothing is left behind\n")
    assert demo.processes() == {}
    assert demo.files() == []


@pytest.mark.parametrize(
    "everybody",
    [
        False,
        pytest.param(True, marks=pytest.mark.torture),
    ],
    ids=["alone", "with its group"],
)
def test_sigterm(demo, everybody):
    demo.wait_said("all is well")
    began = boottime_s()
    if everybody:
        os.killpg(demo.process.pid, signal.SIGTERM)
    else:
        demo.process.terminate()
    demo.process.wait(60)
    took_s = boottime_s() - began
    assert demo.process.returncode == 143, demo.said()
    assert "Traceback" not in demo.said()
    assert took_s <= ENDS_WITHIN_S
    assert demo.processes() == {}
    assert demo.files() == []


def test_sigkill_ends_every_process_and_the_next_lab_takes_the_rest_away(demo):
    demo.wait_said("all is well")
    demo.process.kill()
    demo.process.wait()
    demo.wait_alone()
    Lab.sweep()
    assert demo.files() == []
