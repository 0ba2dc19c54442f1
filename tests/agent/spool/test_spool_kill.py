"""SIGKILL and power loss at random moments: what was promised is there, once.

A power cut is looked at as the card would see it: the spool runs on ext4 in an image on
a loop device, and the image is copied while it is written. What the file system had not
flushed is not in the copy, or partly; its journal is recovered as after a real cut.
"""

import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from support.card import Card, mounted
from support.spool_child import payload_of
from support.spools import SpoolHome, all_kept
from support.waiting import until

TESTS = Path(__file__).parents[2]


class Writer:
    """The process, and what it said so far."""

    def __init__(self, card, run, kernel, seed):
        self.kept = {}
        self.durable = 0
        self.boot = None
        self.enough = threading.Event()
        self._until = 0
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "support.spool_child"),
                *(str(card), str(run), kernel, str(seed)),
            ],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(TESTS)},
        )
        self._listener = threading.Thread(target=self._listen)

    def wait_for(self, records):
        self._until = records
        self._listener.start()
        assert self.enough.wait(30)

    def kill(self):
        self._process.send_signal(signal.SIGKILL)
        assert self._process.wait(10) == -signal.SIGKILL
        self._listener.join(10)
        self._process.stdout.close()

    def _listen(self):
        for line in self._process.stdout:
            match line.split():
                case ["boot", name]:
                    self.boot = bytes.fromhex(name)
                case ["kept", seq, token, leaf] if line.endswith("\n"):
                    self.kept[int(seq)] = int(token), leaf
                case ["durable", token] if line.endswith("\n"):
                    self.durable = int(token)
            if len(self.kept) >= self._until:
                self.enough.set()
        self.enough.set()


def killed_rounds(folder, rounds, dice):
    home = SpoolHome(folder)
    home.path.parent.mkdir(parents=True)
    said = {}
    for n in range(rounds):
        writer = Writer(home.path.parent, home.tail.parent, home.kernel, n)
        writer.wait_for(dice.randrange(1, 250))
        writer.kill()
        for seq, (token, leaf) in writer.kept.items():
            # A number or token said twice would be two records of one name.
            assert (writer.boot, seq) not in said
            said[writer.boot, seq] = token, leaf
    assert len({token for token, _ in said.values()}) == len(said)
    spool = home.open()
    kept = all_kept(spool)
    assert said.keys() <= kept.keys(), "lost"
    for (boot, seq), record in kept.items():
        assert record.payload == payload_of(boot, seq)
        if (boot, seq) in said:
            assert (record.token, record.leaf) == said[boot, seq]
    # What the kill came before the word of: one record of each round at most.
    assert len(kept) - len(said) <= rounds
    assert [name for name, _ in spool.boots()] == [spool.boot]
    assert not spool.lost()
    home.close()
    return len(said)


@pytest.mark.slow
def test_sigkill(tmp_path):
    dice = random.Random(4)  # noqa: S311 - repeatable, no secret
    assert killed_rounds(tmp_path, 8, dice) > 100


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_sigkill_200_times(tmp_path):
    dice = random.Random(5)  # noqa: S311 - repeatable, no secret
    assert killed_rounds(tmp_path, 200, dice) > 10_000


@pytest.fixture
def ram():
    """A folder in RAM, so that the image is copied in no time."""
    folder = Path("/dev/shm") / f"jaga-test-{secrets.token_hex(4)}"  # noqa: S108 - a name of its own
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def power_cuts(ram, tmp_path, rounds, dice, caplog):
    """Cut the power in mid-write; go on with the image that was left."""
    checked = 0
    with Card(ram, megabytes=48) as card:
        for n in range(rounds):
            writer = Writer(card.root, tmp_path / "run", f"kernel {n}", n)
            try:
                writer.wait_for(dice.randrange(5, 200))
                promised = {
                    seq: one
                    for seq, one in tuple(writer.kept.items())
                    if one[0] <= writer.durable
                }
                # A name of its own: a loop device that lingers would show the last one.
                image = ram / f"cut-{n}.img"
                card.snapshot(image)
            finally:
                writer.kill()
            shutil.rmtree(tmp_path / "run")
            with mounted(image, ram / "cut") as root:
                home = SpoolHome(tmp_path / "cut", kernel="after the cut")
                home.card = root
                spool = home.open()
                kept = all_kept(spool)
                missing = [s for s in promised if (writer.boot, s) not in kept]
                assert not missing, f"round {n}: announced as durable and not there"
                for (boot, seq), record in kept.items():
                    assert record.payload == payload_of(boot, seq)
                    if boot == writer.boot and seq in promised:
                        assert (record.token, record.leaf) == promised[seq]
                assert spool.boot != writer.boot
                assert spool.flush(10)
                until(lambda w=spool._writer: not w._unchecked, "it is sound")
                home.close()
            shutil.rmtree(tmp_path / "cut")
            image.unlink()
            checked += len(promised)
    assert "damaged" not in caplog.text
    return checked


@pytest.mark.netns
@pytest.mark.slow
def test_power_cut(ram, tmp_path, caplog):
    dice = random.Random(6)  # noqa: S311 - repeatable, no secret
    assert power_cuts(ram, tmp_path, 5, dice, caplog) > 20


@pytest.mark.netns
@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_power_cut_200_times(ram, tmp_path, caplog):
    dice = random.Random(7)  # noqa: S311 - repeatable, no secret
    assert power_cuts(ram, tmp_path, 200, dice, caplog) > 5_000
