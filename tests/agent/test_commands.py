"""Commands as they reach the agent: real keys, real files, a real chain; only what an
order does is written down instead of done."""

import asyncio
import contextlib
import logging
import os
import time
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaga_agent import config as config_module
from jaga_agent.adapters import chain as chain_module
from jaga_agent.adapters import kept, signing
from jaga_agent.adapters.chain import Chain
from jaga_agent.adapters.fakes import FakeClock, MemorySpool
from jaga_agent.core import orders as core
from jaga_agent.core.reason import because
from jaga_agent.errors import KeptError
from jaga_agent.runtime.decisions import Decisions
from jaga_agent.runtime.orders import WAITING, Done, Orders
from jaga_agent.runtime.recorder import Recorder
from jaga_agent.runtime.troubles import Troubles
from jaga_agent.wire.base import decode, encode
from jaga_agent.wire.messages import Event
from jaga_agent.wire.orders import Command, Reply, ReplyCode
from support.operators import Operator
from support.waiting import until_async

REFUSED, ACCEPTED, DONE, FAILED = ReplyCode
BOOT = b"bootboot"
CONFIG = """
[site]
id = "kpu-kutim"
[[uplink]]
name = "telkomsel"
device = "wan0"
[[uplink]]
name = "xl"
device = "wan1"
[mqtt]
host = "collector"
tls = false
"""


class Deeds:
    """Writes down what would be done."""

    def __init__(self):
        self.done = []
        self.impossible = None
        self.gate = None
        self.fails = False

    def refusal(self, task):
        return self.impossible

    async def do(self, task, asked):
        self.done.append(task)
        if self.gate is not None:
            await self.gate.wait()
        if self.fails:
            msg = "boom"
            raise RuntimeError(msg)
        return Done(True, "as ordered")


class Site:
    """An agent's orders; `restart` is the next process on the same card."""

    def __init__(self, home, clock, *, commands=True, boot=BOOT):
        self.home, self.clock, self.boot = home, clock, boot
        text = CONFIG
        if commands:
            text += f'[commands]\nkeys = "{home / "operators"}"\n'
        self.config, _ = config_module.parse(text, name="test")
        self.deeds = Deeds()
        self.spool = MemorySpool(boot)
        self.chain = Chain(home / "state", boot=boot.hex())
        self.replies = []
        self.troubles = Troubles()
        decisions = Decisions(
            self.chain, None, None, clock=clock, boot=boot, troubles=self.troubles
        )
        self.orders = Orders(
            self.config,
            doors=SimpleNamespace(
                verify=signing.verify,
                orders=kept.orders(home / "state"),
                clock=clock,
                spool=self.spool,
            ),
            deeds=self.deeds,
            decisions=decisions,
            recorder=Recorder(self.spool, clock, lambda _: None),
            troubles=self.troubles,
            reply=lambda payload, to: self.replies.append((decode(payload, Reply), to)),
        )
        self._decisions = decisions
        self._task = None

    async def __aenter__(self):
        self.orders.begin()
        (work,) = self.orders.work()
        self._task = asyncio.get_running_loop().create_task(work)
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self.orders.close()
        await self._decisions.close("the test ends")
        self.chain.close()

    async def restarted(self, **more):
        """The next agent, after a SIGKILL of this one: nothing but the card is left."""
        return Site(self.home, self.clock, **{"boot": self.boot, **more})

    @property
    def events(self):
        payloads = [r.payload for r in self.spool.pending(1000) if r.leaf == "event"]
        return [decode(p, Event) for p in payloads]

    def outcomes(self, kind="order"):
        return [e.new for e in self.events if e.kind == kind]

    async def send(self, payload, answers=None, correlation=None):
        """Deliver a command and return the codes of its replies, once it is over."""
        before = len(self.replies)
        self.orders.received(payload, correlation)

        def over():
            codes = [reply.code for reply, _ in self.replies[before:]]
            return len(codes) >= answers if answers else codes and codes[-1] != ACCEPTED

        await until_async(over)
        return [reply.code for reply, _ in self.replies[before:]]


@pytest.fixture(scope="module")
def home_of_keys(tmp_path_factory):
    home = tmp_path_factory.mktemp("ops")
    keys = home / "operators"
    return home, {
        "ani": Operator(keys, "ani"),
        "budi": Operator(keys, "budi"),
        "nobody": Operator(keys, "citra", known=False),
        "thief": Operator(keys, "ani", known=False),
    }


@pytest.fixture
def ani(home_of_keys):
    return home_of_keys[1]["ani"]


@pytest.fixture
def home(home_of_keys, tmp_path):
    (tmp_path / "operators").symlink_to(home_of_keys[0] / "operators")
    return tmp_path


@pytest.fixture
def clock():
    return FakeClock(wall_ms=time.time_ns() // 1_000_000, source=time.perf_counter)


@pytest.fixture
async def site(home, clock):
    async with Site(home, clock) as site:
        yield site


def hold(signer, **more):
    return signer.order("hold", **{"arguments": {"for_s": "60"}, **more})


async def test_an_order_is_done_answered_and_told_everywhere(site, ani, caplog):
    order = hold(ani)
    with caplog.at_level(logging.WARNING):
        assert await site.send(ani.sign(order)) == [ACCEPTED, DONE]
    assert site.deeds.done == [core.Hold(60)]
    assert all(to == order.id == reply.order for reply, to in site.replies)
    reply = site.replies[-1][0]
    assert (reply.detail, reply.boot, reply.clock_age_s) == ("as ordered", BOOT, 0)
    assert site.outcomes() == ["accepted", "done"]
    told = site.events[-1].evidence
    assert (told["operator"], told["action"]) == ("ani", "hold")
    assert told["order"] == order.id.hex()
    entries = chain_module.load(site.home / "state").entries
    assert [(e.kind, e.new) for e in entries] == [
        ("order", "accepted"),
        ("order", "done"),
    ]
    assert entries[0].values["order"] == order.id.hex()
    assert entries[0].hash.startswith(site.events[0].evidence["hash"])
    assert f"order done operator=ani action=hold id={order.id.hex()}" in caplog.text


def altered(operator):
    return operator.sign(hold(operator))[:-1] + b"\x00"


def unsigned(operator):
    return encode(Command(encode(hold(operator)), b""))


def by_another_key(operator, keys):
    """Says that it is ani's, and is signed by somebody else's key."""
    return keys["thief"].sign(hold(operator))


FORGERIES = {
    "an altered signature": (lambda ani, _: altered(ani), "not signed by operator ani"),
    "no signature, as from the broker's own account": (
        lambda ani, _: unsigned(ani),
        "not signed by operator ani",
    ),
    "somebody else's key": (by_another_key, "not signed by operator ani"),
    "another operator's key": (
        lambda ani, keys: keys["budi"].sign(hold(ani)),
        "not signed by operator ani",
    ),
    "an unknown operator": (
        lambda _, keys: keys["nobody"].sign(hold(keys["nobody"])),
        "no key of an operator citra",
    ),
    "an operator who is a path": (
        lambda ani, _: ani.sign(hold(ani, operator="../operators/ani")),
        "no key of an operator ../operators/ani",
    ),
    "another site's": (
        lambda ani, _: ani.sign(hold(ani, site="tps-1")),
        "meant for site tps-1",
    ),
    "expired": (
        lambda ani, _: ani.sign(hold(ani, expires_ms=ani.order("x").issued_ms - 5000)),
        "after it had expired",
    ),
    "of the future": (
        lambda ani, _: ani.sign(
            hold(
                ani,
                issued_ms=ani.order("x").issued_ms + 10**6,
                expires_ms=ani.order("x").issued_ms + 10**6 + 5000,
            )
        ),
        "in the future",
    ),
    "an action that is none": (
        lambda ani, _: ani.sign(ani.order("format-card")),
        "no action format-card",
    ),
    "arguments amiss": (
        lambda ani, _: ani.sign(ani.order("switch-to", arguments={"uplink": "axis"})),
        "no uplink axis",
    ),
    "no order at all": (
        lambda ani, _: ani.sign_body(b"\xc1"),
        "not an order",
    ),
    "no command at all": (lambda *_: b"hello", "not an order"),
    "nothing": (lambda *_: b"", "not an order"),
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
async def test_refused_with_a_line_an_event_and_an_answer(
    site, ani, home_of_keys, forgery, caplog
):
    make, wanted = forgery
    payload = make(ani, home_of_keys[1])
    with caplog.at_level(logging.WARNING):
        assert await site.send(payload, correlation=b"c" * 16) == [REFUSED]
    assert wanted in site.replies[0][0].detail
    assert site.outcomes() == ["refused"]
    assert wanted in site.events[0].reason
    assert "order refused" in caplog.text
    assert wanted in caplog.text
    assert site.deeds.done == []
    assert [e.new for e in chain_module.load(site.home / "state").entries] == [
        "refused"
    ]


async def test_nobody_is_obeyed_where_no_keys_are(home, clock, ani):
    async with Site(home, clock, commands=False) as site:
        assert await site.send(ani.sign(hold(ani))) == [REFUSED]
        assert "[commands] is not configured" in site.replies[0][0].detail
    (home / "operators").unlink()
    async with Site(home, clock) as site:
        assert await site.send(ani.sign(hold(ani))) == [REFUSED]
        assert "there is no folder" in site.replies[0][0].detail


async def test_a_key_that_is_taken_away_counts_from_that_moment(site, ani, home):
    assert await site.send(ani.sign(hold(ani))) == [ACCEPTED, DONE]
    (home / "operators").unlink()
    (home / "operators").mkdir()
    assert await site.send(ani.sign(hold(ani))) == [REFUSED]


async def test_a_key_that_is_damaged_is_named(site, ani, home):
    (home / "operators").unlink()
    (home / "operators").mkdir()
    (home / "operators" / "ani.pub.pem").write_text("no key")
    assert await site.send(ani.sign(hold(ani))) == [REFUSED]
    assert "the key of operator ani cannot be used" in site.replies[0][0].detail


async def test_a_second_delivery_is_answered_the_same_and_not_done_again(site, ani):
    payload = ani.sign(hold(ani))
    assert await site.send(payload) == [ACCEPTED, DONE]
    first = site.replies[-1][0]
    assert await site.send(payload) == [DONE]
    assert site.replies[-1][0].detail == first.detail
    assert len(site.deeds.done) == 1
    assert site.outcomes() == ["accepted", "done", "refused"]
    assert "not done again" in site.events[-1].reason


async def test_a_second_delivery_while_it_is_being_done(site, ani):
    site.deeds.gate = asyncio.Event()
    payload = ani.sign(hold(ani))
    assert await site.send(payload, answers=1) == [ACCEPTED]
    assert await site.send(payload, answers=1) == [ACCEPTED]
    site.deeds.gate.set()
    await until_async(lambda: site.replies[-1][0].code == DONE)
    assert len(site.deeds.done) == 1


@pytest.mark.parametrize("boot", [BOOT, b"another!"], ids=["SIGKILL", "power loss"])
async def test_replayed_after_a_restart(home, clock, ani, boot):
    orders = [ani.sign(hold(ani)) for _ in range(20)]
    async with Site(home, clock) as site:
        for payload in orders:
            assert await site.send(payload) == [ACCEPTED, DONE]
        again = await site.restarted(boot=boot)
        async with again:
            # The oldest outcomes are forgotten: their counters are not.
            codes = [(await again.send(payload))[0] for payload in orders]
            assert codes == [REFUSED] * 4 + [DONE] * 16
            assert again.deeds.done == []
            assert again.outcomes() == ["refused"] * 20


async def test_a_counter_is_on_the_card_before_anything_is_done(home, clock, ani):
    payload = ani.sign(order := hold(ani))
    async with Site(home, clock) as site:
        site.deeds.gate = asyncio.Event()
        assert await site.send(payload, answers=1) == [ACCEPTED]
        await until_async(lambda: site.deeds.done)
        memory = kept.orders(home / "state").load()
        assert memory.counters == {"ani": order.counter}
        # The power goes, in the middle of it.
        async with await site.restarted() as again:
            await again.orders.end_forsaken(but=None)
            assert again.replies[-1][0].code == FAILED
            assert "the agent ended" in again.replies[-1][0].detail
            assert await again.send(payload) == [FAILED]
            assert again.deeds.done == []


async def test_a_card_that_takes_nothing_lets_nothing_be_done(site, ani, home):
    class Full:
        def save(self, value):
            msg = "orders.json: cannot be written: No space left on device"
            raise KeptError(msg)

    works = site.orders._file
    site.orders._file = Full()
    payload = ani.sign(hold(ani))
    assert await site.send(payload) == [REFUSED]
    assert "No space left" in site.replies[-1][0].detail
    assert site.deeds.done == []
    site.orders._file = works
    assert await site.send(ani.sign(hold(ani))) == [ACCEPTED, DONE]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\x00" * 100, b'{"counters": 5}', None]
)
async def test_a_damaged_memory_obeys_only_what_is_newer(home, clock, ani, content):
    old = ani.sign(hold(ani))
    path = home / "state" / kept.ORDERS
    path.parent.mkdir()
    path.write_bytes(os.urandom(64) if content is None else content)
    async with Site(home, clock) as site:
        assert "damaged" in " ".join(site.troubles.all())
        assert await site.send(old) == [REFUSED]
        clock.advance(301)
        assert await site.send(ani.sign(hold(ani))) == [REFUSED]
        now_ms = clock.wall_ms()
        new = hold(
            ani, counter=now_ms * 1000, issued_ms=now_ms, expires_ms=now_ms + 60_000
        )
        assert await site.send(ani.sign(new)) == [ACCEPTED, DONE]
    assert kept.orders(home / "state").load().counters["ani"] == new.counter


async def test_a_damaged_memory_without_a_clock_obeys_nobody(home, clock, ani):
    path = home / "state" / kept.ORDERS
    path.parent.mkdir()
    path.write_bytes(b"{")
    clock.step_wall(0, age_s=-1)
    async with Site(home, clock) as site:
        at_ms = round(clock.now() * 1000)
        order = hold(ani, boot=BOOT, boot_expires_ms=at_ms + 60_000)
        assert await site.send(ani.sign(order)) == [REFUSED]
        assert "damaged" in site.replies[-1][0].detail


async def test_a_site_that_woke_in_1970_obeys_what_names_a_moment_of_its_boot(
    home, clock, ani
):
    clock.step_wall(-clock.wall_ms(), age_s=-1)
    async with Site(home, clock) as site:
        at_ms = round(clock.now() * 1000)
        assert await site.send(ani.sign(hold(ani))) == [REFUSED]
        late = hold(ani, boot=BOOT, boot_expires_ms=at_ms - 1)
        assert await site.send(ani.sign(late)) == [REFUSED]
        other = hold(ani, boot=b"another!", boot_expires_ms=at_ms + 60_000)
        assert await site.send(ani.sign(other)) == [REFUSED]
        good = hold(ani, boot=BOOT, boot_expires_ms=at_ms + 60_000)
        assert await site.send(ani.sign(good)) == [ACCEPTED, DONE]


async def test_what_is_impossible_is_refused_and_stays_so(site, ani):
    site.deeds.impossible = because("order.impossible", detail="not now")
    payload = ani.sign(hold(ani))
    assert await site.send(payload) == [REFUSED]
    site.deeds.impossible = None
    assert await site.send(payload) == [REFUSED]
    assert site.deeds.done == []


async def test_a_fault_of_ours_ends_the_order_and_not_the_agent(site, ani, caplog):
    site.deeds.fails = True
    assert await site.send(ani.sign(hold(ani))) == [ACCEPTED, FAILED]
    assert "boom" in site.replies[-1][0].detail
    site.deeds.fails = False
    assert await site.send(ani.sign(hold(ani))) == [ACCEPTED, DONE]


@pytest.mark.slow
async def test_a_flood_of_forgeries_costs_few_events_and_is_counted(site, ani):
    payload = unsigned(ani)
    for _ in range(30):
        for _ in range(WAITING):
            site.orders.received(payload, None)
        await until_async(site.orders._queue.empty, 30)
        if len(site.outcomes()) >= 20:
            break
    for _ in range(3 * WAITING):
        site.orders.received(payload, None)
    await until_async(site.orders._queue.empty, 30)
    assert len(site.outcomes()) <= 21
    site.clock.advance(60)
    site.orders.received(payload, None)
    tally = "too many to tell"
    await until_async(lambda: any(tally in e.reason for e in site.events))
    # And whoever has a key is heard, also to be refused.
    order = hold(ani)
    good = hold(ani, expires_ms=order.expires_ms + 600_000)
    assert await site.send(ani.sign(order)) == [REFUSED]
    assert await site.send(ani.sign(good)) == [ACCEPTED, DONE]


@given(st.integers(0, 2**16), st.integers(0, 7))
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_byte_is_flipped_nothing_is_done(home_of_keys, tmp_path, at, bit):
    ani = home_of_keys[1]["ani"]
    if not (tmp_path / "operators").exists():
        (tmp_path / "operators").symlink_to(home_of_keys[0] / "operators")
    payload = ani.sign(hold(ani))
    _refuse_altered(tmp_path, payload, at % len(payload), bit)


@pytest.mark.slow
def test_every_byte_once(home_of_keys, home):
    payload = home_of_keys[1]["ani"].sign(hold(home_of_keys[1]["ani"]))
    for at in range(len(payload)):
        _refuse_altered(home, payload, at, at % 8)


def _refuse_altered(home, payload, at, bit):
    flipped = payload[:at] + bytes((payload[at] ^ 1 << bit,)) + payload[at + 1 :]

    async def main():
        clock = FakeClock(wall_ms=time.time_ns() // 1_000_000)
        site = Site(home, clock)
        site.orders.begin()
        assert not await site.orders._take(flipped, None)
        await site._decisions.close("")
        site.chain.close()
        return site.deeds.done, site.outcomes()

    assert asyncio.run(main()) == ([], ["refused"])


async def test_garbage_never_ends_the_agent(site, ani):
    for size in (0, 1, 10, 100, 1000, 40_000):
        site.orders.received(os.urandom(size), os.urandom(16))
        await until_async(site.orders._queue.empty)
    bomb = msgspec.msgpack.encode([b"\xdd\xff\xff\xff\xff" * 100, b""])
    assert await site.send(bomb, correlation=b"c" * 16) == [REFUSED]
    assert await site.send(ani.sign(hold(ani))) == [ACCEPTED, DONE]
