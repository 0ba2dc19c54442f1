"""No needless move on links that behave as real ones do, and no true fault missed.

What is wanted stands in the tests; what the engine does not reach yet is marked xfail with
its reason. The numbers behind every mark: tests/bench/false_moves.py. The quick ones read
two recorded hours, the slow ones twelve generated hours (3–7 s of work each).
"""

import statistics
from dataclasses import replace

import pytest

from jaga_agent.core.actions import SelectUplink
from sim import trials
from sim.radio import RadioWorld
from sim.world import TELKOMSEL, XL, policy
from traces.behaviour import behaviour
from traces.models import FIBRE_LINE, HOUR_S

QUIET = replace(FIBRE_LINE, name="quiet", loss_ratio=0.0)
LONGEST_STAY_S = 900.0
"""The policy's longest hold-down: whoever left needlessly is back by then."""


def known(reason):
    return pytest.mark.xfail(strict=False, reason=reason)


CELL_EDGE = known(
    "many gaps an hour, 1 % loss and a queue that is full of the site's own, all at once:"
    " three to five needless moves in twelve hours"
)
FAILING_DAY = {"lte_cell_edge": CELL_EDGE}
FAILING_HOURS = FAILING_DAY


BUSY = set(trials.LINKS) - {"fibre", "starlink"}
"""Links of which two hours take more than about two seconds of work."""


def links(failing, slow=()):
    return [
        pytest.param(
            n,
            marks=[
                *([failing[n]] if n in failing else []),
                *([pytest.mark.slow] if n in slow else []),
            ],
        )
        for n in trials.LINKS
    ]


def needless(world):
    return [move for move in world.judged_moves() if move.needless]


def phone_in_one_place(use, seed=1):
    return trials.busy_phone(seed, use)


def same_everywhere(model, hours, seed=1):
    return {
        name: behaviour(model, seed + place, hours)
        for place, name in enumerate(trials.NAMES)
    }


@pytest.mark.parametrize("link", links(FAILING_HOURS, BUSY))
def test_two_recorded_hours_see_at_most_two_needless_moves(link):
    """An uplink's first gap is one, its first of a satellite's length another."""
    world = trials.day(trials.recorded_behaviours(link, 2), hours=2)
    assert world.phone.uploads, "the phone must have used the site"
    assert len(needless(world)) <= 2, needless(world)


OTHERS = set(trials.LINKS) - {"lte_stationary", "starlink", trials.MIXED}
"""What `make torture` runs besides."""


def asked_of(failing, link, seed):
    return pytest.param(
        link,
        seed,
        marks=[
            *([failing[link]] if link in failing else []),
            *([pytest.mark.torture] if link in OTHERS or seed > 1 else []),
        ],
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("link", "seed"),
    [asked_of(FAILING_DAY, link, seed) for link in trials.LINKS for seed in (1, 2)],
)
def test_twelve_hours_see_at_most_two_needless_moves_and_none_lasts(link, seed):
    world = trials.day(trials.link_behaviours(link, seed, 12), seed)
    found = needless(world)
    assert len(found) <= 2, found
    for move in found:
        early = move.at_s < 12 * HOUR_S - LONGEST_STAY_S
        assert move.returned or not early, f"never came back: {move}"
        assert move.away_s <= LONGEST_STAY_S, move


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.torture)])
def test_a_day_of_one_percent_loss_moves_nothing(seed):
    behaviours = same_everywhere(replace(QUIET, loss_ratio=0.01), 24, seed)
    world = trials.day(behaviours, seed, 24)
    assert world.judged_moves() == []


def test_flapping_every_five_seconds_moves_at_most_three_times():
    world = RadioWorld(
        policy(),
        traffic_per_s=0,
        behaviours=same_everywhere(QUIET, 1),
        phone=phone_in_one_place("browse"),
    )
    for start in range(60, 660, 10):
        world.change(start, TELKOMSEL, silent=True)
        world.change(start + 5, TELKOMSEL, silent=False)
    world.run(1200)
    assert 1 <= len(world.moves()) - 1 <= 3, world.moves()


@pytest.mark.slow
def test_an_upload_that_fills_the_modems_queue_moves_nothing():
    """Round trips of two seconds and 5 % loss, all of the site's own making."""
    deep = replace(QUIET, up_bytes_per_s=60_000.0, queue_s=2.0)
    world = RadioWorld(
        policy(),
        traffic_per_s=0,
        behaviours=same_everywhere(QUIET, 1) | {TELKOMSEL: behaviour(deep, 1, 1)},
        phone=phone_in_one_place("upload"),
    )
    world.run(1800)
    assert len(world.phone.uploads) > 10
    assert world.judged_moves() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "link", [n for n in trials.LINKS if n not in {"vsat_geo", "congested_evening"}]
)
def test_a_blackhole_during_an_upload_is_left_long_before_a_phone_leaves(link):
    """The price of patience: a phone leaves the Wi-Fi after 10–20 s of stalled TCP."""
    found = [trials.fault(link, "blackhole, uploading", seed) for seed in range(1, 5)]
    delays = [f.left_after_s for f in found if f is not None]
    assert len(delays) >= 3
    assert None not in delays
    assert statistics.median(delays) < 4.0, delays
    assert max(delays) < 10.0, delays


@pytest.mark.parametrize("link", ["lte_stationary", "fibre", "starlink"])
def test_a_blackhole_of_an_unused_site_is_left_by_the_next_heartbeat(link):
    """And after the gaps that the link is known for, at most 3.5 s."""
    found = [trials.fault(link, "blackhole, idle", seed) for seed in range(1, 5)]
    delays = [f.left_after_s for f in found if f is not None]
    assert delays
    assert all(delay is not None and delay < 17.5 for delay in delays), delays


def test_the_world_repeats_itself():
    """A count that is tuned against must not depend on the run."""
    one, other = (
        trials.day(trials.recorded_behaviours("lte_cell_edge", 1), hours=0.5)
        for _ in range(2)
    )
    assert one.log == other.log
    assert one.counters == other.counters


@pytest.mark.parametrize(
    ("gap_s", "moved_after_s", "wanted"),
    [(2.0, 0.5, True), (2.0, 30.0, True), (3.4, 0.5, True), (3.6, 0.5, False)],
)
def test_a_move_is_needless_if_the_link_came_back_within_three_seconds(
    gap_s, moved_after_s, wanted
):
    """The judge itself."""
    gapped = trials.with_gap(behaviour(QUIET, 1, 1), at_s=100.0, length_s=gap_s)
    world = RadioWorld(
        policy(), behaviours=same_everywhere(QUIET, 1) | {TELKOMSEL: gapped}
    )
    for at_s, left, to, rule in (
        (100 + moved_after_s, TELKOMSEL, XL, "failover"),
        (200.0, XL, TELKOMSEL, "failback"),
    ):
        world.log.append((at_s, SelectUplink(to, left, rule, "made up", None, ())))
    (move,) = world.judged_moves()
    assert move.needless is wanted
    assert move.away_s == pytest.approx(100 - moved_after_s)
    assert move.returned
