"""The agent is killed at random moments under faults: what it recorded is all stored, once.

What it recorded is read from its own spool, which keeps what is covered too. `make torture`
kills it 200 times.
"""

import random
import shutil
import signal
import time

import pytest

from jaga_agent.adapters.spool import SqliteSpool
from jaga_agent.wire.evidence import CODE_OF
from lab.clock import boottime_s
from lab.topology import UPLINKS
from support.life import SITE, one_life
from support.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow]

TELKOMSEL, INDOSAT = (plan.name for plan in UPLINKS[:2])
LIVES_S = (0.2, 2.5)
"""A run lasts so long from its exec: the shortest die while they start."""


def forget(life):
    """Restart the broker without what it kept."""
    life.field.broker.stop(signal.SIGKILL)
    for kept in (life.field.directory / "mosquitto").glob("*.db"):
        kept.unlink()
    life.field.restart()


FAULTS = {
    "Telkomsel is silent": lambda life: life.lab.uplinks[TELKOMSEL].blackhole(),
    "all is well": lambda life: life.lab.restore(),
    "Telkomsel loses its carrier": lambda life: life.lab.uplinks[
        TELKOMSEL
    ].carrier_loss(),
    "the broker is killed": lambda life: life.field.restart(signal.SIGKILL),
    "30 % are lost": lambda life: life.lab.uplinks[INDOSAT].loss(0.3),
    "the broker forgets": forget,
}


@pytest.fixture
def life():
    with one_life() as life:
        yield life


def recorded(life):
    """Everything the spool has, by boot: {seq: (kind, payload)}."""
    spool = SqliteSpool(
        life.home / "spool.sqlite3", run_directory=life.ram, now=boottime_s
    )
    try:
        return {
            boot: {
                each.seq: (CODE_OF[each.leaf].value, each.payload)
                for each in spool.select(boot, 1, highest)
            }
            for boot, highest in spool.boots()
        }, dict(spool.boots())
    finally:
        spool.close()


def stored(life):
    """Everything the collector has of the site, by boot."""
    out = {}
    for boot, seq, kind, payload in life.rows(
        "SELECT boot, seq, kind, payload FROM payload JOIN boot USING (boot_no)"
        " JOIN site USING (site_no) WHERE site = ?",
        SITE,
    ):
        assert seq not in out.setdefault(boot, {})
        out[boot][seq] = (kind, payload)
    return out


def all_covered(life):
    """The last seq that is covered with all before it; None: not yet."""
    status = life.status()
    if status is None or status["records"]["waiting"]:
        return None
    return status["records"]["last_seq"] or None


def all_is_stored_once(life, last_seq):
    """Hold the spool and the database against each other; return what the site has.

    Of the newest boot up to a seq: later ones were under way when the agent ended.
    """
    kept, highest = recorded(life)
    have = stored(life)
    newest = [boot for boot in kept if kept[boot]][-1]
    for of, records in kept.items():
        assert sorted(records) == list(range(1, highest[of] + 1)), "lost at the site"
        settled = {s: r for s, r in records.items() if of != newest or s <= last_seq}
        got = have.get(of, {})
        assert {s: got.get(s) for s in settled} == settled
    # And nothing that the site does not know of, nor one number with two contents.
    assert set(have) <= set(kept)
    assert all(set(have[of]) <= set(kept[of]) for of in have)
    assert life.rows("SELECT reason FROM dead_letter") == []
    return kept


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(12, marks=pytest.mark.timeout(240)),
        pytest.param(200, marks=[pytest.mark.torture, pytest.mark.timeout(2400)]),
    ],
)
def test_nothing_is_lost_and_nothing_is_twice(life, kills):
    dice = random.Random(kills)  # noqa: S311 - guards nothing
    for n in range(kills):
        if n % 2 == 0:
            list(FAULTS.values())[n // 2 % len(FAULTS)](life)
        life.start()
        # A random moment is what it is about.
        time.sleep(dice.uniform(*LIVES_S))
        life.end(signal.SIGKILL)
    life.lab.restore()
    life.start()
    last_seq = until(
        lambda: all_covered(life),
        f"all is covered: {life.log.read_text()[-3000:]}",
        180,
    )
    life.end(signal.SIGKILL)

    kept = all_is_stored_once(life, last_seq)
    print(  # noqa: T201 - the measured figures, shown by -s
        f"{kills} kills: {sum(map(len, kept.values()))} records of {len(kept)} boots,"
        " none lost, none twice"
    )


@pytest.mark.timeout(240)
def test_a_database_set_back_lacks_nothing_in_the_end(life, tmp_path):
    """Also of a boot that it had never heard of by then, and that is over."""
    life.start()
    life.wait("heartbeat", 2)
    life.end(signal.SIGTERM)
    life.stop_collector()
    backup = shutil.copy(life.collector.database, tmp_path / "backup")
    life.start_collector()
    life.reboot()
    life.start()
    life.wait("heartbeat", 4)
    until(lambda: all_covered(life), "the second boot is covered", 60)
    life.end(signal.SIGTERM)
    life.reboot()
    life.start()
    life.wait("heartbeat", 5)
    life.stop_collector()
    for file in life.collector.folder.glob("collector.db*"):
        file.unlink()
    shutil.copy(backup, life.collector.database)
    life.start_collector()
    last_seq = until(
        lambda: len(stored(life)) == 3 and all_covered(life),
        f"three boots are covered: {life.log.read_text()[-3000:]}",
        120,
    )
    life.end(signal.SIGKILL)
    all_is_stored_once(life, last_seq)
