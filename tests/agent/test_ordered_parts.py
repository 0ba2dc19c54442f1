"""Parts that orders need: kept files, modems, diagnostics, proof by watermark."""

import asyncio
import json
import logging
import os
import tempfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_agent import config as config_module
from jaga_agent import effective
from jaga_agent.adapters import kept
from jaga_agent.adapters.modem import UsbModems
from jaga_agent.core import applied
from jaga_agent.core.applied import Applied, Source, Trial
from jaga_agent.core.flood import BURST, EVERY_S, Flood
from jaga_agent.core.model import Mode
from jaga_agent.core.orders import Held, Memory, Past, Staged
from jaga_agent.errors import ConfigError, KeptError, ModemError
from jaga_agent.runtime import diagnostics
from jaga_agent.runtime.proving import Proving, covers
from jaga_agent.runtime.warnings import Warnings
from jaga_agent.wire.evidence import BootMark, Watermark
from jaga_agent.wire.orders import CONTENT_BYTES
from support.waiting import until_async

MEMORY = Memory(
    {"ani": 2**50},
    7,
    (Past("0a" * 16, "ani", "hold", 2, "as ordered"),),
    Held("00" * 8, 12_000),
    Staged(Mode.DORMANT, "abc"),
)


def test_what_is_kept_is_found(tmp_path):
    file = kept.orders(tmp_path / "state")
    assert file.load() is None
    file.save(MEMORY)
    assert kept.orders(tmp_path / "state").load() == MEMORY
    assert (tmp_path / "state" / kept.ORDERS).stat().st_mode & 0o077 == 0


def test_a_power_cut_at_any_byte_of_a_write_leaves_the_old(tmp_path):
    """What is not in place yet is beside; cut anywhere, the old one is found."""
    file = kept.orders(tmp_path)
    file.save(MEMORY)
    new = (tmp_path / kept.ORDERS).read_bytes() * 2
    for cut in range(0, len(new), 7):
        (tmp_path / f"{kept.ORDERS}.new").write_bytes(new[:cut])
        assert file.load() == MEMORY
    file.save(Memory())
    assert file.load() == Memory()


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_every_damaged_byte_is_noticed(at, value):
    with tempfile.TemporaryDirectory() as directory:
        file = kept.orders(Path(directory))
        file.save(MEMORY)
        path = Path(directory) / kept.ORDERS
        before = path.read_bytes()
        content = bytearray(before)
        content[at % len(content)] = value
        path.write_bytes(content)
        if bytes(content) == before:
            assert file.load() == MEMORY
        else:
            with pytest.raises(KeptError, match="damaged"):
                file.load()


# Modems


def plug(sys, device, port="1-1.2", *, usb=True):
    place = (
        sys / "devices" / "platform" / "usb1" / port / f"{port}:1.0" / "net" / device
    )
    place.mkdir(parents=True)
    interface = place.parents[1]
    (interface / "authorized").write_text("1")
    if usb:
        (interface.parent / "idVendor").write_text("12d1")
        (interface.parent / "authorized").write_text("1")
    (place / "device").symlink_to(interface)
    net = sys / "class" / "net"
    net.mkdir(parents=True, exist_ok=True)
    (net / device).symlink_to(place)
    return interface.parent


async def test_a_modem_goes_and_comes(tmp_path):
    stick = plug(tmp_path, "wan0")
    modems = UsbModems(tmp_path, off_s=0.05)
    assert modems.find("wan0") == stick
    task = asyncio.create_task(modems.restart(stick))
    await until_async(lambda: (stick / "authorized").read_text() == "0")
    await task
    assert (stick / "authorized").read_text() == "1"
    # Of the device, not of its interface.
    assert (stick / "1-1.2:1.0" / "authorized").read_text() == "1"


async def test_a_modem_comes_back_also_when_its_order_is_cut_off(tmp_path):
    stick = plug(tmp_path, "wan0")
    task = asyncio.create_task(UsbModems(tmp_path, off_s=60).restart(stick))
    await until_async(lambda: (stick / "authorized").read_text() == "0")
    task.cancel()
    await asyncio.wait([task])
    assert (stick / "authorized").read_text() == "1"


async def test_what_is_no_usb_modem(tmp_path):
    plug(tmp_path, "wan0", usb=False)
    (tmp_path / "class" / "net" / "tun0").mkdir()
    modems = UsbModems(tmp_path)
    for device, words in (
        ("wan0", "is no USB device"),
        ("tun0", "made by software"),
        ("wan9", "does not exist"),
    ):
        with pytest.raises(ModemError, match=words):
            modems.find(device)
    with pytest.raises(ModemError, match="No such file"):
        await modems.restart(tmp_path / "gone")


# Diagnostics


CONFIG = """
[site]
id = "kpu-kutim"
[[uplink]]
name = "telkomsel"
device = "wan0"
[mqtt]
host = "collector"
tls = false
username = "site"
password = "hunter2hunter2"
"""


def unpacked(content):
    return json.loads(zlib.decompressobj(wbits=-15).decompress(content))


def test_diagnostics_hold_no_secret():
    config, _ = config_module.parse(CONFIG, name="test")
    content = diagnostics.packed({"site": "kpu-kutim"}, config, ["a warning"])
    told = unpacked(content)
    assert "hunter2" not in json.dumps(told)
    assert told["config"]["mqtt"]["password"] == "(secret)"  # noqa: S105 - just not the secret
    assert told["config"]["mqtt"]["username"] == "site"
    assert told["config"]["uplink"][0]["name"] == "telkomsel"
    assert (told["warnings"], told["left_out"]) == (["a warning"], 0)


def test_diagnostics_always_fit():
    config, _ = config_module.parse(CONFIG, name="test")
    warnings = [os.urandom(200).hex() for _ in range(400)]
    content = diagnostics.packed({"decisions": []}, config, warnings)
    assert len(content) <= CONTENT_BYTES
    told = unpacked(content)
    assert 0 < len(told["warnings"]) < 400
    assert told["warnings"][-1] == warnings[-1]
    assert told["left_out"] == 400 - len(told["warnings"])


def test_the_last_warnings_are_held_and_only_they():
    with Warnings() as warnings:
        log = logging.getLogger("jaga_agent.test")
        log.info("normal")
        for number in range(150):
            log.warning("warning %d", number)
    logging.getLogger("jaga_agent.test").warning("after")
    lines = warnings.lines()
    assert len(lines) == 100
    assert lines[-1].endswith("jaga_agent.test warning 149")


# Proof


BOOT, OTHER = b"bootboot", b"another!"
MARKS = {
    "nothing": ((), False),
    "before this run": ((BootMark(BOOT, 9, 9),), False),
    "the first of this run": ((BootMark(BOOT, 10, 10),), True),
    "of another boot": ((BootMark(OTHER, 99, 99),), False),
    "above a gap": ((BootMark(BOOT, 3, 12, ((4, 11),)),), True),
    "only gaps above": ((BootMark(BOOT, 3, 12, ((4, 12),)),), False),
    "below it only": ((BootMark(BOOT, 3, 9, ((4, 5),)),), False),
    "a gap that ends in this run": ((BootMark(BOOT, 3, 11, ((4, 10),)),), True),
}


@pytest.mark.parametrize("case", MARKS.values(), ids=MARKS)
def test_proof(case):
    boots, wanted = case
    assert covers(Watermark(bytes(8), 1, boots), BOOT, 10) is wanted


@pytest.fixture
def card(tmp_path):
    path = tmp_path / "agent.toml"
    path.write_text(CONFIG + f'[state]\ndirectory = "{tmp_path / "state"}"\n')
    return path


def proving(in_force, trial_s=0.2):
    left = []
    made = Proving(
        in_force,
        check=lambda text: config_module.parse(text, name="x")[0],
        again=lambda: left.append(True),
        trial_s=trial_s,
    )
    made.begin(BOOT, 10)
    return made, left


async def test_a_trial_from_proposal_to_proof(card):
    new = card.read_text().replace("collector", "other")
    first, left = proving(effective.begin(card))
    await first.propose("0a", new)
    assert left
    assert first.leaves
    in_force = effective.begin(card)
    assert (in_force.source, in_force.config.mqtt.host) == (Source.TRIAL, "other")
    assert effective.load(card).source is Source.TRIAL
    second, left = proving(in_force, 30)
    second.reached(Watermark(bytes(8), 1, (BootMark(BOOT, 9, 9),)))
    waiting = asyncio.create_task(second.outcome())
    await asyncio.sleep(0)
    assert second.order == "0a"
    second.reached(Watermark(bytes(8), 2, (BootMark(BOOT, 11, 11),)))
    assert (await waiting).confirmed
    assert (second.source, second.order, left) == (Source.APPLIED, None, [])
    assert effective.begin(card).source is Source.APPLIED
    card.write_text(card.read_text() + "\n# by a technician\n")
    assert effective.begin(card).source is Source.FILE


async def test_a_trial_without_proof_is_given_up_by_itself(card):
    first, _ = proving(effective.begin(card))
    await first.propose("0a", card.read_text().replace("collector", "other"))
    second, left = proving(effective.begin(card), 0.05)
    assert await second.outcome() is None
    assert left
    third = effective.begin(card)
    assert third.source is Source.FILE
    assert "was not reached within" in third.kept.ended.detail


async def test_a_crash_within_a_trial_ends_it(card):
    first, _ = proving(effective.begin(card))
    await first.propose("0a", card.read_text().replace("collector", "other"))
    assert effective.begin(card).source is Source.TRIAL
    assert effective.begin(card).source is Source.FILE


def test_a_damaged_file_of_what_was_applied_leaves_the_card_s_in_force(card):
    state = card.parent / "state"
    state.mkdir()
    (state / kept.CONFIGURATION).write_bytes(b"{")
    in_force = effective.begin(card)
    assert in_force.source is Source.FILE
    assert "damaged" in in_force.trouble


def test_what_this_version_cannot_read_leaves_the_card_s_in_force(card):
    base = config_module.digest(card.read_text())
    file = kept.configuration(card.parent / "state")
    file.save(Applied(base, "[site]\nid = 5\n"))
    in_force = effective.load(card)
    assert in_force.source is Source.FILE
    assert "site.id" in in_force.trouble
    file.save(Applied(base, None, Trial("0a", "nonsense", begun=False)))
    assert effective.begin(card).source is Source.FILE
    assert file.load().ended.order == "0a"
    assert applied.in_force(file.load(), base)[0] is Source.FILE


def test_the_keys_folder_is_absolute():
    with pytest.raises(ConfigError, match=r"commands\.keys"):
        config_module.parse(CONFIG + '[commands]\nkeys = "operators"\n', name="x")
    config, _ = config_module.parse(CONFIG + "[commands]\n", name="x")
    assert config.commands.keys == "/etc/jaga/operators"
    assert config.with_mode(Mode.DORMANT).keepalive_s == 450


@given(st.lists(st.floats(0, 5), max_size=400))
def test_a_flood_is_told_of_at_a_bounded_rate_and_nothing_is_uncounted(gaps_s):
    flood, now, told, counted = Flood(), 1000.0, 0, 0
    for gap_s in gaps_s:
        now += gap_s
        told += flood.admits(now)
    assert told <= BURST + (now - 1000) / EVERY_S + 1
    while (wait_s := flood.due_s(now)) is not None:
        now += wait_s + 0.001
        counted += flood.tally(now)
    assert told + counted == len(gaps_s)
