"""Records on their way: live at once, history at its rate, lost ones again."""

import itertools

import pytest

from jaga_agent.core.handed import GAP_S
from jaga_agent.wire import messages as wire
from jaga_agent.wire.evidence import History, LostRange, unpack
from support.collector_model import World, site_config


@pytest.fixture
def world():
    return World(site_config())


def leaves(world):
    return [leaf for _, leaf, _ in world.sent]


def items(world, n=-1):
    """The kinds and seqs in one of the histories that were sent."""
    payload = [p for _, t, p in [*world.queue, *world.inflight] if "history" in t][n]
    return unpack(wire.decode(payload, History).packed)


def test_what_is_made_while_connected_goes_live_at_once(world):
    world.connect()
    world.record("event")
    world.record("heartbeat")
    assert leaves(world) == ["heartbeat", "event", "heartbeat"]
    assert {t for _, t, _ in world.inflight} == {
        "jaga/1/6408/tps-1/heartbeat",
        "jaga/1/6408/tps-1/event",
    }


def test_a_puback_is_one_hop_s_word(world):
    world.connect()
    world.acknowledge()
    assert world.delivery.waiting == 1
    world.commit()
    world.tell()
    assert world.delivery.waiting == 0
    assert world.delivery.snapshot() == {
        "waiting": 0,
        "lost": 0,
        "watermark_age_s": 0.0,
        "sending_history": False,
    }


def test_newest_state_first_then_new_events_then_history_in_order(world):
    world.record("event")  # 1: old when the connection comes
    world.clock.advance(700)
    for _ in range(3):  # 2 … 7
        world.record("heartbeat")
        world.record("event")
    world.connect()  # 8
    world.settle()
    world.run(10, honest=True)
    live = [(leaf, seq) for leaf, _, seq, _ in world.collector.received]
    assert live[:4] == [("heartbeat", 8), ("event", 3), ("event", 5), ("event", 7)]
    assert live[4:] == [("history", seq) for seq in (1, 2, 4, 6)]


def test_a_full_window_leaves_newest_state_waiting_and_events_in_order(world):
    world.connect(beat=False)
    for _ in range(25):
        world.record("event")
    world.record("heartbeat")
    world.record("heartbeat")
    assert leaves(world) == ["event"] * 20
    world.acknowledge(2)
    assert leaves(world)[20:] == ["heartbeat", "event"]
    world.acknowledge()
    world.acknowledge()
    assert leaves(world)[22:] == ["event"] * 4
    world.run(3)
    assert leaves(world)[26:] == ["history"]
    # The heartbeat that had to wait while a newer one came.
    assert [i.kind.name for i in items(world)] == ["HEARTBEAT"]


@pytest.mark.parametrize(
    ("mode", "cadence_s"),
    [("polling-day", 300), ("ready", 900), ("dormant", 3600)],
)
def test_histograms_go_by_the_stage_s_cadence(mode, cadence_s):
    world = World(site_config(mode))
    world.connect()
    world.settle()
    world.tell()
    world.run(5, honest=True)
    for _ in range(4 * cadence_s // 300):
        world.run(300, honest=True)
        world.record("histogram")
    world.run(cadence_s, honest=True)
    sent = [at for at, _, _ in world.of("history")]
    assert 4 <= len(sent) <= 5
    assert {round(b - a) for a, b in itertools.pairwise(sent)} == {cadence_s}
    assert world.delivery.waiting == 4 * cadence_s // 300


def test_nothing_is_sent_while_a_batch_is_in_flight_or_the_debt_unpaid(world):
    for _ in range(1000):
        world.record("heartbeat")
    world.connect()
    world.acknowledge()
    world.run(60)
    assert len(world.of("history")) == 1
    world.run(60, honest=True)
    world.settle()
    world.run(60, honest=True)
    world.assert_within_rate(8000)
    world.tell()
    assert world.delivery.waiting == 0
    took_s = world.of("history")[-1][0] - world.of("history")[1][0]
    sizes = sum(size for _, _, size in world.of("history")[1:-1])
    assert took_s == pytest.approx((sizes + 215 * 5) / 8000, rel=0.25)


def test_a_busy_uplink_gets_a_quarter(world):
    world.busy = True
    for _ in range(2000):
        world.record("heartbeat")
    world.connect()
    world.settle()
    world.run(20, honest=True)
    world.assert_within_rate(2000)
    assert max(size for _, _, size in world.of("history")) < 3500
    slow = len(world.of("history"))
    world.busy = False
    world.run(60, honest=True)
    world.assert_within_rate(8000)
    world.tell()
    assert world.delivery.waiting == 0
    assert slow >= 8


def test_the_retained_watermark_is_waited_for_and_spares_a_repeat(world):
    for _ in range(50):
        world.record("heartbeat")
    world.connect()
    world.collector._commit(world.spool.boot, range(1, 51))
    world.acknowledge()
    world.run(0.5)
    assert world.of("history") == []
    world.commit()
    world.tell()
    world.run(60, honest=True)
    assert world.of("history") == []


def test_a_connection_that_ends_before_the_puback(world):
    world.connect()
    world.record("event")
    world.cut()
    world.connect(beat=False)
    # The event is news, the heartbeat history.
    assert leaves(world) == ["heartbeat", "event", "event"]
    world.settle()
    world.run(10, honest=True)
    assert [(leaf, seq) for leaf, _, seq, _ in world.collector.received] == [
        ("event", 2),
        ("history", 1),
    ]


def gap(world):
    """Let the broker drop the second of three live heartbeats, after its PUBACK."""
    world.connect()
    world.settle()
    world.record("heartbeat")
    world.acknowledge(drop=True)
    world.record("heartbeat")
    world.settle()
    world.tell()


def test_a_gap_is_sent_again_once_a_watermark_five_seconds_later_shows_it(world):
    gap(world)
    world.run(GAP_S - 0.1, honest=True)
    world.tell()
    assert world.of("history") == []
    world.run(0.2, honest=True)
    world.tell()
    world.settle()
    assert [seq for leaf, _, seq, _ in world.collector.received] == [1, 3, 2]
    world.tell()
    assert world.delivery.waiting == 0


def test_a_gap_is_sent_by_no_repeat_of_the_same_watermark(world):
    gap(world)
    same = wire.encode(world.collector.watermark())
    world.delivery.watermark(same)
    for _ in range(10):
        world.run(60, honest=True)
        world.delivery.watermark(same)
    assert world.of("history") == []


def test_a_record_that_is_never_committed_is_not_sent_for_ever(world):
    world.collector.refuses = {2}
    world.connect()
    for _ in range(8640):  # a day
        world.record("heartbeat")
        world.settle()
        world.tell()
        world.run(10, honest=True)
    times = [at for leaf, _, seq, at in world.collector.received if seq == 2]
    assert 5 < len(times) < 40


def test_no_watermark_at_all_makes_no_repeats(world):
    world.connect()
    for _ in range(500):
        world.record("heartbeat")
        world.acknowledge()
        world.run(10)
    assert len(world.of("heartbeat")) == 501
    assert world.of("history") == []
    world.commit()
    world.tell()
    assert world.delivery.waiting == 0


def set_back(collector, boot):
    collector.committed[boot] = set(range(1, 41))


def to_an_older_state(collector, boot):
    set_back(collector, boot)
    collector.revision = 0


def to_another_store(collector, boot):
    set_back(collector, boot)
    collector.store = b"store--2"


def to_before_this_boot(collector, boot):
    """Its later revisions are all that tells of the time since."""
    del collector.committed[boot]


@pytest.mark.parametrize(
    ("how", "kept"),
    [
        (set_back, 40),
        (to_an_older_state, 40),
        (to_another_store, 40),
        (to_before_this_boot, 0),
    ],
)
def test_a_collector_set_back_gets_it_all_again(world, how, kept):
    world.connect()
    for _ in range(100):
        world.record("heartbeat")
        world.settle()
    world.tell()
    assert world.delivery.waiting == 0
    how(world.collector, world.spool.boot)
    world.tell()
    assert world.delivery.waiting == 101 - kept
    world.run(20, honest=True)
    world.settle()
    world.tell()
    assert world.delivery.waiting == 0
    again = [r[2] for r in world.collector.received if r[0] == "history"]
    assert again == list(range(kept + 1, 102))


def test_what_was_dropped_is_told_and_told_again_if_that_is_lost():
    world = World(site_config())
    world.spool._max_records = 10
    for _ in range(30):
        world.record("heartbeat")
    assert world.delivery.snapshot()["lost"] == 20
    world.connect()
    world.acknowledge(drop=True)
    world.run(3)
    world.acknowledge(drop=True)  # the history with the range
    world.record("heartbeat")
    world.settle()
    world.tell()
    boot = world.spool.boot
    told = [LostRange(boot, 1, 21), LostRange(boot, 1, 22)]
    for _ in range(60):
        world.run(10, honest=True)
        world.settle()
        world.record("heartbeat")
        world.settle()
        world.tell()
    assert world.delivery.snapshot()["lost"] == 0
    assert world.collector.lost
    assert set(world.collector.lost) <= set(told)


def test_a_restarted_process_sends_what_is_not_covered(world):
    for _ in range(5):
        world.record("heartbeat")
    world.connect()
    world.acknowledge(drop=True)
    world.cut()
    world.start()
    world.connect()
    world.settle()
    world.run(5, honest=True)
    world.tell()
    assert world.delivery.waiting == 0
    assert [r[2] for r in world.collector.received] == [7, 1, 2, 3, 4, 5, 6]


def test_a_history_that_the_broker_refuses_is_not_pressed_on_it(world):
    for _ in range(1000):
        world.record("heartbeat")
    world.connect()
    world.settle()
    world.run(2.1)
    (token, _, _) = world.inflight.popleft()
    world.delivery.rejected(token)
    world.run(500, honest=True)
    assert len(world.of("history")) == 1
    world.cut()
    world.connect(beat=False)
    world.run(200, honest=True)
    world.settle()
    world.tell()
    assert world.delivery.waiting == 0


def test_a_watermark_that_cannot_be_read_is_told_and_dropped(world, caplog):
    world.connect()
    world.delivery.watermark(b"rubbish")
    assert "a watermark that cannot be read was dropped" in caplog.text
    assert world.delivery.snapshot()["watermark_age_s"] is None


@pytest.mark.parametrize("leaf", ["heartbeat", "event", "status"])
def test_topics(world, leaf):
    assert world.delivery.topic(leaf) == f"jaga/1/6408/tps-1/{leaf}"
