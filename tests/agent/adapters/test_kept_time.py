"""The held time over a restart of the agent, within one boot only."""

import json

import pytest

from jaga_agent.adapters import kept_time
from jaga_agent.adapters.kept_time import FileKeptTime
from jaga_agent.core.timekeeping import Held, Source
from jaga_agent.errors import ClockError

HELD = Held(
    epoch_ns=1_795_000_000_123_456_789,
    uncertainty_ns=21_000_000,
    at_ns=48_211_000_000,
    source=Source.REFLECTOR,
    told_ns=48_211_000_000,
    confirmed_ns=49_000_000_000,
)


def test_what_is_kept_is_held_again(tmp_path):
    FileKeptTime(tmp_path / "clock.json").save(HELD)
    assert FileKeptTime.beside(tmp_path / "agent.sock").load() == HELD
    assert [path.name for path in tmp_path.iterdir()] == ["clock.json"]


def test_another_boot_knows_nothing(tmp_path, monkeypatch):
    kept = FileKeptTime(tmp_path / "clock.json")
    assert kept.load() is None
    kept.save(HELD)
    other = tmp_path / "boot_id"
    other.write_text("0ddba11c-0000-4000-8000-000000000000\n")
    monkeypatch.setattr(kept_time, "_BOOT_ID", other)
    assert kept.load() is None


BROKEN = {
    "half of it": lambda whole: whole[: len(whole) // 2],
    "nothing": lambda _: b"",
    "another shape": lambda _: b'{"boot": "x", "held": {"epoch_ns": "soon"}}',
    "random bytes": lambda _: bytes(range(256)),
    "an unknown source": lambda whole: whole.replace(b"reflector", b"astrology"),
}


@pytest.mark.parametrize("spoil", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_told_and_written_anew(tmp_path, spoil):
    path = tmp_path / "clock.json"
    kept = FileKeptTime(path)
    kept.save(HELD)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ClockError, match="written anew"):
        kept.load()
    kept.save(HELD)
    assert kept.load() == HELD


def test_a_directory_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ClockError, match=r"gone/clock\.json: cannot be written"):
        FileKeptTime(tmp_path / "gone" / "clock.json").save(HELD)


def test_the_file_names_the_kernel_s_boot(tmp_path):
    FileKeptTime(tmp_path / "clock.json").save(HELD)
    with open("/proc/sys/kernel/random/boot_id") as file:  # noqa: PTH123 (as the kernel says it)
        boot = file.read().strip()
    assert json.loads((tmp_path / "clock.json").read_bytes())["boot"] == boot
