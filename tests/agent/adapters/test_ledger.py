import json
import os
import stat

import pytest

from jaga_agent.adapters.fakes import MemoryLedger
from jaga_agent.adapters.ledger import FileLedger
from jaga_agent.core.usage import Reading, Usage
from jaga_agent.errors import LedgerError

USAGES = {
    "xl": Usage(5, 700, Reading("boot", 3, 400, 300), since_config_ms=4),
    "fibre": Usage(6),
}


@pytest.fixture(params=[FileLedger, MemoryLedger])
def ledger(request, tmp_path):
    if request.param is FileLedger:
        return FileLedger(tmp_path / "state" / "usage.json")
    return MemoryLedger()


def test_nothing_was_kept_yet(ledger):
    assert ledger.load() == ({}, True)


@pytest.mark.parametrize("clean", [True, False])
def test_what_is_kept_is_found(ledger, clean):
    ledger.save({"xl": Usage(1)}, clean=not clean)
    ledger.save(USAGES, clean=clean)
    assert ledger.load() == (USAGES, clean)


def test_another_ledger_of_the_place_finds_it_in_the_same_boot(tmp_path):
    FileLedger(tmp_path / "usage.json").save(USAGES, clean=True)
    again = FileLedger(tmp_path / "usage.json")
    assert again.load() == (USAGES, True)
    assert again.boot == FileLedger(tmp_path / "other").boot != ""
    assert [p.name for p in tmp_path.iterdir()] == ["usage.json"], "nothing beside it"


def test_a_broken_file_says_what_to_do(tmp_path):
    (tmp_path / "usage.json").write_text('{"clean": true, "uplinks": {"xl": 5}}')
    with pytest.raises(LedgerError, match=r"remove it, then .*quota reset UPLINK"):
        FileLedger(tmp_path / "usage.json").load()


def test_a_card_that_takes_nothing_leaves_the_old_count(tmp_path):
    path = tmp_path / "usage.json"
    FileLedger(path).save(USAGES, clean=True)
    (tmp_path / "usage.json.new").mkdir()
    with pytest.raises(LedgerError, match=r"usage.json: cannot be written: Is a dir"):
        FileLedger(path).save({}, clean=False)
    assert FileLedger(path).load() == (USAGES, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_keeps_belongs_to_the_directorys_owner(tmp_path):
    os.chown(tmp_path, 65534, 65534)
    FileLedger(tmp_path / "usage.json").save(USAGES, clean=True)
    kept = (tmp_path / "usage.json").stat()
    assert (kept.st_uid, kept.st_gid) == (65534, 65534)
    assert stat.S_IMODE(kept.st_mode) & stat.S_IRUSR


def test_it_is_a_file_that_people_can_read(tmp_path):
    FileLedger(tmp_path / "usage.json").save(USAGES, clean=True)
    read = json.loads((tmp_path / "usage.json").read_text())
    assert read["uplinks"]["xl"]["used_bytes"] == 700
