"""A damaged file, a full card, a failing one: the spool goes on."""

import logging
import os
import random
import shutil
import sqlite3

import pytest

from jaga_agent.adapters.spool import TAIL_NAME, SqliteSpool, tail
from support.card import Card
from support.spools import SpoolHome, fill, mark, pending, seqs
from support.waiting import until


def overwrite(path, place, content):
    """In place, as a card does it; the file is never empty in between."""
    with path.open("r+b") as file:
        file.seek(place)
        file.write(content)


def scribble(path):
    overwrite(path, 0, b"SD cards do this" * 512)


def random_bytes(path):
    overwrite(path, 0, os.urandom(path.stat().st_size))


def tear_a_page(path):
    page = path.stat().st_size // 1024 // 2
    overwrite(path, page * 1024, os.urandom(512))


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def truncate_within_a_page(path):
    os.truncate(path, path.stat().st_size - 700)


def no_bytes_at_all(path):
    os.truncate(path, 0)


DAMAGES = [
    *(scribble, random_bytes, tear_a_page),
    *(truncate, truncate_within_a_page),
]


def full_file(home, count=3000, **options):
    """A spool with all of its records in the file, and none in its log."""
    spool = home.open(**options)
    records = []
    for _ in range(count // 100):
        records += fill(spool, "digest", *["heartbeat"] * 99)
    assert spool.flush(20)
    spool.close()
    home.opened.remove(spool)
    db = sqlite3.connect(home.path)
    assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    db.close()
    return spool.boot, records


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_set_aside(home, caplog, damage):
    boot, records = full_file(home)
    by_token = {r.token: r for r in records}
    damage(home.path)
    caplog.clear()
    spool = home.open()
    until(lambda: "was damaged" in caplog.text, "the damage is found")
    assert caplog.text.count("was damaged") == 1
    assert home.path.with_name(home.path.name + ".corrupt-1").exists()
    new = fill(spool, "event", "heartbeat")
    until(lambda: spool.durable_up_to >= new[0].token, "it takes records")
    left = list(spool.pending(10_000))
    # What was saved is what was written, and what was not is said to be lost.
    assert left[-2:] == new
    assert all(by_token[r.token] == r for r in left[:-2])
    if spool.boot == boot:
        saved = {r.seq for r in left}
        lost = {n for r in spool.lost() for n in range(r.first, r.last + 1)}
        assert lost == set(range(1, spool.next_seq())) - saved
    if damage is tear_a_page:
        assert len(left) > 2900
    home.kill()
    again = home.open()
    assert list(again.pending(10_000)) == left


def test_at_most_three_are_kept(home):
    for _ in range(5):
        full_file(home, 300)
        scribble(home.path)
    home.open()
    aside = [p.name for p in home.path.parent.iterdir() if "corrupt" in p.name]
    assert sorted(n for n in aside if n[-1].isdigit()) == [
        f"spool.sqlite3.corrupt-{n}" for n in (1, 2, 3)
    ]


@pytest.mark.parametrize("damage", [*DAMAGES, no_bytes_at_all])
def test_damage_in_mid_run(home, caplog, damage):
    full_file(home)
    spool = home.open()
    boot = spool.boot
    until(lambda: not spool._writer._unchecked, "the first check is over")
    in_ram = fill(spool, *["heartbeat"] * 3)
    damage(home.path)
    with spool._memory.changed:
        spool._memory.suspect = True
    (event,) = fill(spool, "event")
    until(lambda: spool.durable_up_to == event.token, "it goes on")
    assert caplog.text.count("was damaged") == 1
    # The process counts on: nothing of this boot was forgotten.
    assert spool.boot == boot
    assert list(spool.pending(10_000))[-4:] == [*in_ram, event]
    kept = set(pending(spool))
    lost = {n for r in spool.lost() for n in range(r.first, r.last + 1)}
    assert lost == set(range(1, 3005)) - kept
    home.kill()
    again = home.open()
    assert set(pending(again)) == kept


def test_a_read_finds_the_damage(home, caplog):
    full_file(home)
    spool = home.open()
    until(lambda: not spool._writer._unchecked, "the first check is over")
    tear_a_page(home.path)
    with spool._gate.turn():
        spool._writer._database._db.execute("PRAGMA shrink_memory")
    spool.pending(10_000)
    until(lambda: "was damaged" in caplog.text, "the reader's word is followed up")
    until(lambda: len(spool.pending(10_000)) > 2900, "the rest is read again")
    assert spool.next_seq() == 3001


def test_a_payload_that_changed_is_never_sent(home, caplog):
    _, records = full_file(home, 300)
    content = home.path.read_bytes()
    assert content.count(b"heartbeat 77") == 1
    home.path.write_bytes(content.replace(b"heartbeat 77", b"heartbeat 78"))
    spool = home.open()
    assert pending(spool) == [n for n in range(1, 301) if n != 77]
    assert [(r.first, r.last) for r in spool.lost()] == [(77, 77)]
    assert spool.dropped == 1
    assert "are not what was written" in caplog.text
    fill(spool, "event")
    until(lambda: spool.durable_up_to > records[-1].token, "written")
    home.kill()
    db = sqlite3.connect(home.path)
    assert db.execute("SELECT count(*) FROM records").fetchone() == (300,)
    db.close()


def test_a_damaged_log(home, caplog):
    spool = home.open()
    records = []
    for _ in range(50):
        records += fill(spool, "event")
        assert spool.flush(10)
    # As a kill leaves it: closing takes the log into the file.
    left = home.folder / "left"
    shutil.copytree(home.path.parent, left)
    home.kill()
    shutil.copytree(left, home.path.parent, dirs_exist_ok=True)
    log = home.path.with_name(home.path.name + "-wal")
    content = bytearray(log.read_bytes())
    content[60_000] ^= 1
    log.write_bytes(content)
    spool = home.open()
    # SQLite forgets what came after; the tail's header knows how far it was counted.
    kept = pending(spool)
    assert 0 < len(kept) < 50
    assert kept == list(range(1, len(kept) + 1))
    assert spool.boot == records[0].boot
    assert spool.next_seq() == 51
    assert [(r.first, r.last) for r in spool.lost()] == [(len(kept) + 1, 50)]
    (more,) = fill(spool, "event")
    assert more.token == records[-1].token + 1


def test_a_tail_of_another_files_boot_is_kept(home, caplog):
    spool = home.open()
    records = fill(spool, *["heartbeat"] * 5)
    home.kill()
    aside = home.path.with_name("gone")
    aside.mkdir()
    for path in home.path.parent.glob("spool.sqlite3*"):
        path.rename(aside / path.name)
    again = home.open()
    assert again.boot != spool.boot
    assert list(again.pending(10)) == records
    assert again.next_seq() == 1
    assert caplog.text == ""


# ---- a card that is full, or fails


@pytest.fixture
def card(tmp_path):
    with Card(tmp_path, megabytes=16) as card:
        yield card


@pytest.fixture
def card_home(card, tmp_path):
    home = SpoolHome(tmp_path)
    yield home
    home.close()


def grow(spool, count):
    """Enough that the file must grow at the next checkpoint."""
    for n in range(count):
        spool.append(spool.next_seq(), "heartbeat", os.urandom(130))
        if n % 500 == 499:
            spool.flush(0.1)


@pytest.mark.netns
@pytest.mark.slow
def test_a_full_card(card, card_home, caplog):
    caplog.set_level(logging.WARNING)
    spool = card_home.open(max_tail_bytes=400_000, retry_s=0.2)
    fill(spool, "event")
    with card.filled():
        grow(spool, 20_000)
        assert caplog.text.count("cannot write the spool") == 1
        assert spool.dropped > 0
        assert card_home.tail.stat().st_size < 500_000
        (event,) = fill(spool, "event")
        assert spool.durable_up_to < event.token
        kept = spool.pending(100_000)
        assert len(kept) + spool.dropped == 20_002
        assert kept[-1] == event
    until(lambda: spool.durable_up_to == event.token, "the card takes it again")
    until(lambda: caplog.text.count("takes records again") == 1, "and that is said")
    assert caplog.text.count("cannot write the spool") == 1
    left = spool.pending(100_000)
    assert left[-1] == event
    assert [r.seq for r in left if r.leaf == "event"] == [1, 20_002]
    lost = {n for r in spool.lost() for n in range(r.first, r.last + 1)}
    assert lost == set(range(1, 20_003)) - set(seqs(left))


@pytest.mark.netns
@pytest.mark.slow
def test_a_card_that_is_full_from_the_start(card, card_home, caplog):
    with card.filled():
        spool = card_home.open(retry_s=0.2)
        assert caplog.text.count("cannot use the spool") == 1
        kept = fill(spool, "event", "heartbeat", "digest")
        assert list(spool.pending(10)) == kept
        spool.cover(mark(spool.boot, 1))
        # Killed and started again: the tail is all there is, and enough.
        card_home.kill()
        again = card_home.open(retry_s=0.2)
        assert again.boot == spool.boot
        assert list(again.pending(10)) == kept
        more = fill(again, "event")
    until(lambda: again.durable_up_to == more[0].token, "the card takes it")
    assert list(again.pending(10)) == [*kept, *more]


@pytest.mark.netns
@pytest.mark.slow
def test_a_card_that_turns_read_only(card, card_home, caplog):
    spool = card_home.open(retry_s=0.2)
    before = fill(spool, "event")
    assert spool.flush(10)
    spool.close()
    card_home.opened.clear()
    card.remount("ro")
    card_home.lose_power()
    spool = card_home.open(retry_s=0.2)
    after = fill(spool, "event", "heartbeat")
    assert list(spool.pending(10)) == after
    assert spool.boot != before[0].boot
    card.remount("rw")
    until(lambda: spool.durable_up_to == after[-1].token, "the card takes it")
    # The old records are there again, and older.
    assert list(spool.pending(10)) == [*before, *after]
    assert [n for n, _ in spool.boots()] == [before[0].boot, spool.boot]
    until(lambda: "takes records again" in caplog.text, "and that is said")


@pytest.mark.netns
@pytest.mark.slow
def test_run_directory_without_room(card, card_home, tmp_path, caplog):
    """The tail cannot be written: each record goes to the card at once."""
    card_home.folder = tmp_path / "elsewhere"
    run = card.root / "run"

    def open_there():
        spool = SqliteSpool(
            card_home.path, run_directory=run, now=lambda: 0.0, boot_id="k"
        )
        card_home.opened.append(spool)
        return spool

    spool = open_there()
    with card.filled():
        grow(spool, 600)
        assert caplog.text.count("cannot write the spool's tail") >= 1
        (beat,) = fill(spool, "heartbeat")
        until(lambda: spool.durable_up_to == beat.token, "the card has it")
        # Were it killed now, no number would be used twice: either the tail can vouch
        # for all of them again, or it is not there.
        card_home.kill()
        found = tail.read(run / TAIL_NAME)
        again = open_there()
        if found is None:
            assert again.boot != spool.boot
        else:
            assert again.next_seq() == spool.next_seq()


def test_random_files_never_stop_the_agent(home):
    dice = random.Random(20261124)  # noqa: S311 - repeatable, no secret
    for n in range(30):
        for path in home.path.parent.glob("spool.sqlite3*") if n else ():
            path.unlink()
        home.path.parent.mkdir(parents=True, exist_ok=True)
        home.tail.parent.mkdir(parents=True, exist_ok=True)
        for path in (
            home.path,
            home.path.with_name(home.path.name + "-wal"),
            home.tail,
        ):
            if dice.random() < 0.7:
                head = dice.choice([b"", b"SQLite format 3\0", b"JAGATL\0\1"])
                path.write_bytes(head + dice.randbytes(dice.randrange(5000)))
        spool = home.open()
        (record,) = fill(spool, "event")
        until(lambda s=spool, r=record: s.durable_up_to == r.token, f"round {n}")
        assert list(spool.pending(10)) == [record]
        home.opened.pop().close()
