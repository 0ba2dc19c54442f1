"""What the reflector answers, and what it meets with silence. No socket here."""

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_agent.wire import echo
from jaga_agent.wire.messages import HealthCode, ModeCode
from jaga_server.core.flows import FLOWS_PER_SITE, WINDOW, Flow, Flows
from jaga_server.ingest import reflector
from jaga_server.ingest.reflector import DROPPED, TOKEN_S, Reflector

MASTER = bytes(range(32))
SITES = ("tps-6408012001-001", "tps-6408012001-002", "kpu-kutim")
SITE = SITES[0]
STAMPS = {"receive_ns": 10**18, "hold_ns": 5, "error_s": 0.01, "synchronised": True}
STATE = echo.SiteState(0, (HealthCode.UP,), ModeCode.READY, 4, 8)


class Client:
    """Makes an agent's requests and reads their answers."""

    def __init__(self, site=SITE, key=None, flow=7):
        self.site = site
        self.key = key or echo.site_key(MASTER, site)
        self.flow = flow
        self.seq = self.token = 0

    def ask(self, seq=None, **more):
        self.seq = seq or self.seq + 1
        request = echo.Request(
            echo.site_tag(self.site), self.flow, self.seq, self.token, 0, **more
        )
        return echo.encode_request(request, self.key)

    def through(self, reflector, now_s=0.0, **more):
        """Ask; return the answer, None for silence."""
        datagram = self.ask(**more)
        taken = reflector.take(datagram, now_s)
        if taken is None:
            return None
        answer = echo.decode_answer(taken.answer(**STAMPS), datagram, self.key)
        self.token = answer.token
        return answer


@pytest.fixture
def room():
    return Reflector(MASTER, SITES, run_secret=b"run one" * 5)


def settled(counters):
    return counters.counted + counters.uncounted + sum(counters.dropped.values())


def test_the_first_answer_gives_a_token_and_the_second_counts(room):
    client = Client()
    assert client.through(room).received is None
    assert len(room.flows) == 0, "an unknown flow must make no state"
    assert [client.through(room).received for _ in range(3)] == [1, 2, 3]
    assert len(room.flows) == 1
    counters = room.counters
    assert (counters.received, counters.counted, counters.uncounted) == (4, 3, 1)
    assert settled(counters) == counters.received


def test_an_answer_carries_the_stamps(room):
    answer = Client().through(room)
    assert (answer.receive_ns, answer.hold_ns) == (10**18, 5)
    assert answer.synchronised


def test_lost_requests_are_not_counted(room):
    client = Client()
    client.through(room)
    assert client.through(room, seq=2).received == 1
    assert client.through(room, seq=9).received == 2


def test_a_replay_is_met_with_silence(room):
    client = Client()
    client.through(room)
    datagram = client.ask()
    assert room.take(datagram, 0) is not None
    for _ in range(3):
        assert room.take(datagram, 0) is None
    assert room.counters.dropped["replayed"] == 3
    assert room.counters.counted == 1


def test_a_recording_means_nothing_to_the_next_run(room):
    client = Client()
    client.through(room)
    datagram = client.ask(state=STATE)
    assert room.take(datagram, 0).received == 1
    after = Reflector(MASTER, SITES, run_secret=b"run two" * 5)
    taken = after.take(datagram, 0)
    assert taken.received is None
    assert len(after.flows) == 0
    # The agent itself goes on at once.
    assert client.through(after).received is None
    assert client.through(after).received == 1


def test_a_token_is_no_good_for_another_flow_or_site(room):
    client = Client()
    client.through(room)
    for other in (Client(flow=8), Client(site=SITES[1])):
        other.token = client.token
        assert other.through(room).received is None


@pytest.mark.parametrize(
    ("later_s", "counted"),
    [(0, True), (TOKEN_S, True), (2 * TOKEN_S, False), (3 * TOKEN_S, False)],
)
def test_a_token_grows_old(room, later_s, counted):
    client = Client()
    client.through(room, 0.0)
    assert (client.through(room, later_s).received is not None) is counted


def test_a_known_flow_needs_no_token(room):
    # Answers get lost, requests do not: it must go on counting.
    client = Client()
    client.through(room, 0.0)
    client.through(room, 1.0)
    assert client.through(room, 100 * TOKEN_S).received == 2


SILENCE = {
    "another site's key": (Client(key=echo.site_key(MASTER, SITES[1])).ask(), "forged"),
    "another district's key": (Client(key=echo.site_key(b"x" * 32, SITE)).ask(), "forged"),
    "a site that is not on the list": (Client(site="tps-9").ask(), "unknown site"),
    "the next version": (b"\x21" + Client().ask()[1:], "version"),
    "an answer": (b"\x12" + Client().ask()[1:], "malformed"),
    "too short": (Client().ask()[:39], "malformed"),
    "too long": (Client().ask() + b"\0", "malformed"),
    "nothing": (b"", "malformed"),
}  # fmt: skip


@pytest.mark.parametrize(("datagram", "reason"), SILENCE.values(), ids=SILENCE)
def test_silence_and_the_reason_is_counted(room, datagram, reason):
    assert room.take(datagram, 0) is None
    assert dict(room.counters.dropped) == {reason: 1}
    assert reason in DROPPED
    assert settled(room.counters) == 1
    assert len(room.flows) == 0


def test_two_sites_may_share_a_tag(monkeypatch):
    monkeypatch.setattr(echo, "site_tag", lambda _site: 5)
    room = Reflector(MASTER, SITES, run_secret=b"run" * 9)
    for site in SITES:
        client = Client(site=site)
        assert client.through(room).received is None
        assert room.take(client.ask(), 0).site == site
    stranger = Client(key=b"k" * 32)
    assert stranger.through(room) is None
    assert dict(room.counters.dropped) == {"forged": 1}


def test_flows_are_bounded_and_a_site_pushes_out_its_own_only(room):
    quiet = Client(site=SITES[1])
    quiet.through(room)
    quiet.through(room)
    for flow in range(100):
        client = Client(flow=flow)
        client.through(room)
        assert client.through(room).received == 1
    assert len(room.flows) == FLOWS_PER_SITE + 1
    assert room.flows.evicted == 100 - FLOWS_PER_SITE
    assert quiet.through(room).received == 2


def test_the_longest_unused_flow_goes_first():
    flows = Flows()
    for number in range(FLOWS_PER_SITE):
        flows.begin(SITE, number)
    assert flows.known(SITE, 0) is not None
    flows.begin(SITE, 99)
    assert flows.known(SITE, 0) is not None
    assert flows.known(SITE, 1) is None


@given(st.lists(st.integers(1, 3 * WINDOW), max_size=200))
def test_no_sequence_counts_twice(sequence):
    flow, taken, newest = Flow(), set(), 0
    for seq in sequence:
        fresh = flow.take(seq)
        if seq in taken or newest - seq >= WINDOW:
            assert not fresh
        else:
            assert fresh
        if fresh:
            taken.add(seq)
        newest = max(newest, seq)
    assert flow.received == len(taken)
    assert flow.seen < 1 << WINDOW, "the window is bounded"


@given(
    st.binary(max_size=64)
    | st.binary(min_size=39, max_size=39).map(lambda b: b"\x11" + b)
)
def test_noise_makes_no_answer_and_no_state(datagram):
    room = Reflector(MASTER, SITES, run_secret=b"run" * 9)
    assert room.take(datagram, 0) is None
    assert len(room.flows) == 0
    assert sum(room.counters.dropped.values()) == 1


def test_every_answer_is_as_long_as_its_request(room):
    client = Client()
    for _ in itertools.repeat(None, 3):
        datagram = client.ask(state=STATE)
        taken = room.take(datagram, 0)
        assert len(taken.answer(**STAMPS)) == len(datagram)
        assert dataclasses.replace(taken.request, state=None) != taken.request


def test_a_token_is_never_the_one_that_says_there_is_none(room, monkeypatch):
    monkeypatch.setattr(reflector.hmac, "digest", lambda *_: bytes(32))
    assert room._token(SITE, 1, 2) != 0
