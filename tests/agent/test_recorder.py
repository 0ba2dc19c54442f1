"""Records: spooled first, published in order, forgotten only when acknowledged."""

import pytest

from jaga_agent import report
from jaga_agent.adapters.fakes import FakeBroker, FakeClock, MemorySpool
from jaga_agent.errors import SpoolError
from jaga_agent.ports import Will
from jaga_agent.runtime.recorder import Recorder
from jaga_agent.wire import messages as wire


class Desk:
    """A recorder between a spool and a broker, as the agent joins them."""

    def __init__(self, *, window=20, spool=None):
        self.spool = spool or MemorySpool()
        self.recorder = Recorder(self.spool, FakeClock(), "6408", "tps-1")
        self.broker = FakeBroker(self, lambda: Will("t", b"", 30), max_inflight=window)

    def connected(self, session_present):
        self.recorder.connected(self.broker)

    def disconnected(self, reason):
        self.recorder.disconnected()

    def acknowledged(self, token):
        self.recorder.acknowledged(token)

    def record(self, count=1):
        for _ in range(count):
            self.recorder.record(lambda s: report.lifecycle(s, "started", "test"))

    def sent(self):
        return [wire.decode(p.payload, wire.Event).seq for p in self.broker.published]


def test_records_wait_for_the_broker_and_go_in_order():
    desk = Desk()
    desk.record(3)
    assert desk.sent() == []
    assert desk.recorder.waiting == 3
    desk.broker.go_online()
    desk.record()
    assert desk.sent() == [1, 2, 3, 4]
    assert {p.topic for p in desk.broker.published} == {"jaga/1/6408/tps-1/event"}
    desk.broker.acknowledge(4)
    assert desk.recorder.waiting == 0
    assert desk.recorder.last_seq == 4


def test_a_full_window_is_refilled_by_each_acknowledgement():
    desk = Desk(window=2)
    desk.broker.go_online()
    desk.record(5)
    assert desk.sent() == [1, 2]
    desk.broker.acknowledge()
    assert desk.sent() == [1, 2, 3]
    desk.broker.acknowledge(9)
    desk.broker.acknowledge(9)
    assert desk.sent() == [1, 2, 3, 4, 5]
    assert desk.recorder.waiting == 0


def test_what_was_not_acknowledged_is_sent_again_and_nothing_else():
    desk = Desk()
    desk.broker.go_online()
    desk.record(3)
    desk.broker.acknowledge()
    desk.broker.go_offline()
    desk.record()
    assert desk.recorder.waiting == 3
    desk.broker.go_online()
    assert desk.sent() == [1, 2, 3, 2, 3, 4]


def test_more_than_one_batch_waits_and_all_of_it_goes():
    desk = Desk(window=1000)
    desk.record(450)
    desk.broker.go_online()
    while desk.recorder.waiting:
        before = desk.recorder.waiting
        desk.broker.acknowledge()
        assert desk.recorder.waiting < before
    assert desk.sent() == list(range(1, 451))


class FullSpool(MemorySpool):
    full = True

    def append(self, seq, leaf, payload):
        if self.full:
            msg = "the card is full"
            raise SpoolError(msg)
        return super().append(seq, leaf, payload)


def test_a_spool_that_refuses_is_told_once_and_counted(caplog):
    desk = Desk(spool=FullSpool())
    desk.broker.go_online()
    desk.record(3)
    assert desk.recorder.unspooled == 3
    assert desk.sent() == []
    said = [r.message for r in caplog.records if r.levelname == "ERROR"]
    assert said == ["spool: the card is full; records are lost until it takes them"]
    desk.spool.full = False
    desk.record()
    assert desk.sent() == [1]
    assert "takes records again; 3 were lost" in caplog.text


@pytest.mark.parametrize("leaf", ["heartbeat", "event", "status"])
def test_topics(leaf):
    assert Desk().recorder.topic(leaf) == f"jaga/1/6408/tps-1/{leaf}"
