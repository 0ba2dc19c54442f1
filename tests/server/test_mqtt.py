"""The consumer against a real Mosquitto: windows, generations, outages."""

import queue
import signal
import threading

import pytest

from jaga_server.adapters.mqtt import Consumer
from jaga_server.config import Mqtt
from jaga_server.errors import BrokerError
from jaga_server.ingest.counters import Counters

REGION = "6408"
TOPIC = "jaga/1/6408/tps-1/heartbeat"


class Client:
    """A consumer with what it hands over."""

    def __init__(self, port, **settings):
        self.inbox = queue.Queue(5000)
        self.counters = Counters()
        self.hearing = threading.Event()
        self.lost = threading.Event()
        settings = {"host": "127.0.0.1", "port": port, "tls": False} | settings
        self.consumer = Consumer(
            Mqtt(**settings), REGION, self.inbox, self.counters, self._hear
        )

    def _hear(self, connected):
        if connected:
            self.hearing.set()
        else:
            self.hearing.clear()
            self.lost.set()

    def start(self):
        self.consumer.start()
        assert self.hearing.wait(20)
        return self

    def take(self, count):
        return [self.inbox.get(timeout=15) for _ in range(count)]

    def close(self):
        self.consumer.close(5)
        assert not self.consumer.alive


@pytest.fixture
def client():
    made = []

    def make(port, **settings):
        made.append(Client(port, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_the_window_is_ours_and_moves_with_acknowledgements(
    broker, client, publisher, wait_until
):
    one = client(broker.port, receive_maximum=50).start()
    publisher(broker.port).all([(TOPIC, b"%d" % n) for n in range(120)])
    first = one.take(50)
    with pytest.raises(queue.Empty):
        one.inbox.get(timeout=0.3)
    one.consumer.acknowledge([m.token for m in first])
    second = one.take(50)
    one.consumer.acknowledge([m.token for m in second])
    assert [m.payload for m in first + second + one.take(20)] == [
        b"%d" % n for n in range(120)
    ]


def test_what_was_not_acknowledged_comes_again(broker, client, publisher):
    one = client(broker.port).start()
    publisher(broker.port).all([(TOPIC, b"%d" % n) for n in range(10)])
    got = one.take(10)
    one.consumer.acknowledge([m.token for m in got[:4]])
    one.close()
    second = client(broker.port).start()
    again = second.take(6)
    # The broker may accept the second before it has read the first's last bytes: what it
    # then repeats of the acknowledged comes before, and is no loss.
    while again[-1].payload != got[-1].payload:
        again += second.take(1)
    assert [m.payload for m in again[-6:]] == [m.payload for m in got[4:]]


def test_a_late_acknowledgement_takes_nothing_from_the_next_connection(
    make_broker, client, publisher
):
    broker = make_broker("autosave_interval 3600\n")
    broker.start()
    one = client(broker.port).start()
    publisher(broker.port).all([(TOPIC, b"old %d" % n) for n in range(5)])
    old = one.take(5)
    # Killed: the broker forgets the session and counts its packet ids from 1 again.
    broker.stop(signal.SIGKILL)
    assert one.lost.wait(10)
    broker.start()
    assert one.hearing.wait(30)
    publisher(broker.port).all([(TOPIC, b"new %d" % n) for n in range(5)])
    new = one.take(5)
    assert [m.token.packet_id for m in new] == [m.token.packet_id for m in old]
    one.consumer.acknowledge([m.token for m in old])
    one.close()
    assert one.counters.late_acknowledgements == 5
    again = client(broker.port).start().take(5)
    assert [m.payload for m in again] == [m.payload for m in new]


def test_retained_statuses_come_and_are_marked(broker, client, publisher):
    topic = "jaga/1/6408/tps-1/status"
    link = publisher(broker.port)
    link.send(topic, b"kept", retain=True).wait_for_publish(5)
    one = client(broker.port, share="control-room").start()
    (kept,) = one.take(1)
    assert (kept.payload, kept.retained) == (b"kept", True)
    link.all([(topic, b"live")])
    (live,) = one.take(1)
    assert (live.payload, live.retained) == (b"live", False)


def test_members_of_a_share_divide_the_messages(broker, client, publisher, wait_until):
    both = [
        client(broker.port, share="rooms", client_id=name).start()
        for name in ("a", "b")
    ]
    publisher(broker.port).all([(TOPIC, b"%d" % n) for n in range(100)])
    wait_until(lambda: sum(one.inbox.qsize() for one in both) == 100, "all come, once")
    assert all(one.inbox.qsize() for one in both)


def test_a_full_queue_holds_the_broker_back(broker, client, publisher, wait_until):
    one = client(broker.port)
    one.inbox = one.consumer._inbox = queue.Queue(10)
    one.start()
    publisher(broker.port).all([(TOPIC, b"%d" % n) for n in range(200)])
    wait_until(one.inbox.full, "the queue is full")
    for n in range(200):
        got = one.inbox.get(timeout=5)
        assert got.payload == b"%d" % n
        one.consumer.acknowledge([got.token])


def test_a_fault_in_the_client_ends_one_connection_not_the_thread(
    broker, client, publisher, monkeypatch, caplog
):
    one = client(broker.port).start()
    with monkeypatch.context() as patch:

        def broken(*_):
            raise RuntimeError("a fault")  # noqa: EM101

        patch.setattr(one.consumer._client, "loop_read", broken)
        publisher(broker.port).send(TOPIC, b"1")
        assert one.lost.wait(10)
    assert one.hearing.wait(20)
    assert one.consumer.alive
    assert one.take(1)[0].payload == b"1"
    assert "unexpected RuntimeError: a fault" in caplog.text


def test_wrong_password_says_what_to_do(make_broker, client, wait_until, caplog):
    broker = make_broker("allow_anonymous false\n")
    broker.start()
    one = client(broker.port, username="room", password="wrong")  # noqa: S106 (it is wrong on purpose)
    one.consumer.start()
    wait_until(lambda: "not connected" in caplog.text, "it says so")
    assert "check [mqtt] username, password" in caplog.text
    assert one.consumer.alive


def test_unix_socket(broker, client, publisher):
    one = client(None, host=None, socket=broker.socket_path)
    one.start()
    publisher(broker.port).all([(TOPIC, b"1")])
    assert one.take(1)[0].payload == b"1"


def test_files_that_are_no_certificates(tmp_path):
    (tmp_path / "ca.crt").write_text("not a certificate")
    with pytest.raises(BrokerError, match="PEM"):
        Client(1, tls=True, ca=tmp_path / "ca.crt")
