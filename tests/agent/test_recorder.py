"""Records: numbered and spooled before anything else; a spool that refuses is counted."""

import pytest

from jaga_agent.adapters.fakes import FakeClock, MemorySpool
from jaga_agent.errors import SpoolError
from jaga_agent.runtime.recorder import Recorder
from support.collector_model import beat, event, histogram


@pytest.mark.parametrize(
    ("make", "leaf"),
    [(beat, "heartbeat"), (event, "event"), (histogram, "histogram")],
)
def test_it_is_kept_before_anybody_is_told(make, leaf):
    spool, told = MemorySpool(), []

    def recorded(record):
        assert spool.pending(10)[-1] == record
        told.append((record.leaf, record.seq))

    recorder = Recorder(spool, FakeClock(), recorded)
    assert recorder.record(make)
    assert recorder.record(make)
    assert told == [(leaf, 1), (leaf, 2)]
    assert recorder.last_seq == 2


class FullSpool(MemorySpool):
    full = True

    def append(self, seq, leaf, payload):
        if self.full:
            msg = "the card is full"
            raise SpoolError(msg)
        return super().append(seq, leaf, payload)


def test_a_spool_that_refuses_is_told_once_and_counted(caplog):
    spool, told = FullSpool(), []
    recorder = Recorder(spool, FakeClock(), told.append)
    assert [recorder.record(event) for _ in range(3)] == [False] * 3
    assert recorder.unspooled == 3
    assert told == []
    said = [r.message for r in caplog.records if r.levelname == "ERROR"]
    assert said == ["spool: the card is full; records are lost until it takes them"]
    spool.full = False
    assert recorder.record(event)
    assert [r.seq for r in told] == [1]
    assert "takes records again; 3 were lost" in caplog.text
