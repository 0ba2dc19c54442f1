import asyncio
import secrets
import socket
import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_agent.adapters.clock import BoottimeClock
from jaga_agent.adapters.icmp import OUTSTANDING, IcmpProber, round_trip_s
from jaga_agent.ports import Stamp

MS = 1_000_000


class Heard:
    """A listener that keeps every verdict and lets the test wait for them."""

    def __init__(self):
        self.verdicts = []
        self._more = asyncio.Event()

    def answered(self, probe_id, rtt_s):
        self._keep("answered", probe_id, rtt_s)

    def refused(self, probe_id, reason):
        self._keep("refused", probe_id, reason)

    def not_sent(self, probe_id, reason):
        self._keep("not sent", probe_id, reason)

    def _keep(self, *verdict):
        self.verdicts.append(verdict)
        self._more.set()

    async def next(self, count=1, within_s=10.0):
        """Wait until there are `count` verdicts, and take them."""
        async with asyncio.timeout(within_s):
            while len(self.verdicts) < count:
                self._more.clear()
                await self._more.wait()
        taken, self.verdicts = self.verdicts[:count], self.verdicts[count:]
        return taken if count > 1 else taken[0]

    async def nothing(self, for_s=0.3):
        with pytest.raises(TimeoutError):
            await self.next(within_s=for_s)


class Probing:
    """`async with Probing() as (prober, heard)`."""

    async def __aenter__(self):
        heard = Heard()
        self.prober = IcmpProber(heard, BoottimeClock())
        return self.prober, heard

    async def __aexit__(self, *_):
        self.prober.close()


# ---- arithmetic


@pytest.mark.parametrize(
    ("wall_ms", "boot_ms", "kernel_ms", "want_s"),
    [
        pytest.param(25, 25, 20, 0.020, id="kernel stamp, not our late wakeup"),
        pytest.param(25, 25, None, 0.025, id="no kernel stamp"),
        pytest.param(3_600_025, 25, 3_600_020, 0.025, id="clock stepped forward"),
        pytest.param(-3_599_975, 25, -3_599_980, 0.025, id="clock stepped back"),
        pytest.param(26, 25, 21, 0.025, id="clock stepped by 1 ms"),
        pytest.param(2001, 2000, 1995, 1.995, id="clock slewed by 500 ppm"),
        pytest.param(25, 25, -1, 0.025, id="received before it was sent"),
        pytest.param(25, 25, 40, 0.025, id="stamp after we had it"),
        pytest.param(-5, -5, None, 0.0, id="never negative"),
    ],
)
def test_round_trip(wall_ms, boot_ms, kernel_ms, want_s):
    sent = Stamp(wall_ns=1_795_000_000 * 10**9, boot_ns=10**12)
    received = Stamp(sent.wall_ns + wall_ms * MS, sent.boot_ns + boot_ms * MS)
    kernel_ns = None if kernel_ms is None else sent.wall_ns + kernel_ms * MS
    assert round_trip_s(sent, received, kernel_ns) == pytest.approx(want_s, abs=1e-9)


@given(
    elapsed_ns=st.integers(0, 10**11),
    step_ns=st.integers(-(10**18), 10**18),
    queued_ns=st.integers(0, 10**11),
)
def test_no_step_of_the_clock_spoils_a_round_trip(elapsed_ns, step_ns, queued_ns):
    queued_ns = min(queued_ns, elapsed_ns)
    sent = Stamp(10**18, 10**12)
    received = Stamp(sent.wall_ns + elapsed_ns + step_ns, sent.boot_ns + elapsed_ns)
    rtt_s = round_trip_s(sent, received, received.wall_ns - queued_ns)
    true_s = (elapsed_ns - queued_ns) / 1e9
    # Off by no more than the time in our own queue, or by what passes for slewing.
    assert true_s - 0.001 * elapsed_ns / 1e9 - 3e-4 <= rtt_s
    assert rtt_s <= elapsed_ns / 1e9 * 1.002 + 5e-4


# ---- loopback


@pytest.mark.netns
async def test_loopback_answers():
    async with Probing() as (prober, heard):
        for probe_id in (7, 8):
            prober.send(probe_id, "lo", "127.0.0.1")
            assert heard.verdicts == [], "never from within send"
            verdict, answered, rtt_s = await heard.next()
            assert (verdict, answered) == ("answered", probe_id)
            assert 0 <= rtt_s < 1


@pytest.mark.netns
@pytest.mark.parametrize(
    ("device", "address", "want"),
    [
        ("lo", "sirekap-web.kpu.go.id", "'sirekap-web.kpu.go.id' is not an IPv4"),
        ("lo", "::1", "'::1' is not an IPv4 address"),
        ("nosuchdev", "127.0.0.1", "nosuchdev is gone"),
        ("a-name-that-is-too-long", "127.0.0.1", "a-name-that-is-too-long"),
    ],
)
async def test_what_cannot_be_sent_is_told(device, address, want):
    async with Probing() as (prober, heard):
        prober.send(1, device, address)
        verdict, _, reason = await heard.next()
        assert verdict == "not sent"
        assert want in reason


@pytest.mark.netns
async def test_after_close_nothing_is_sent():
    async with Probing() as (prober, heard):
        prober.close()
        prober.send(1, "lo", "127.0.0.1")
        assert await heard.next() == ("not sent", 1, "the prober is closed")


# ---- two devices between two namespaces


@pytest.fixture(params=["ping socket", "raw socket"])
def site(request, wire):
    """The wire, with ping sockets allowed or (as in a new namespace) not."""
    if request.param == "ping socket":
        wire.sysctl(wire.here, "net.ipv4.ping_group_range=0 2147483647")
    return wire


@pytest.mark.netns
def test_each_device_answers(site):
    async def main():
        async with Probing() as (prober, heard):
            for n in range(10):
                prober.send(n, f"wan{n % 2}", site.target)
            verdicts = await heard.next(10)
            assert sorted(v[:2] for v in verdicts) == [
                ("answered", n) for n in range(10)
            ]
            assert all(0 <= v[2] < 1 for v in verdicts)

    site.run(main)


@pytest.mark.netns
def test_a_reply_on_another_device_is_none(site):
    # What is asked through wan0 is answered through wan1.
    detour = ["route", "add", "10.9.0.2/32", "via", "10.9.1.2", "dev", "far1"]
    site.ip(site.there, *detour)

    async def main():
        async with Probing() as (prober, heard):
            prober.send(1, "wan0", site.target)
            await heard.nothing()
            detour[1] = "del"
            site.ip(site.there, *detour)
            prober.send(2, "wan0", site.target)
            assert (await heard.next())[:2] == ("answered", 2)

    site.run(main)


@pytest.mark.netns
@pytest.mark.parametrize(
    ("fall", "rise", "want"),
    [
        pytest.param(
            lambda w: w.ip(w.here, "link", "set", "wan0", "down"),
            lambda w: w.up(0),
            {"wan0 is down"},
            id="down",
        ),
        pytest.param(
            lambda w: w.ip(w.there, "link", "set", "far0", "down"),
            lambda w: w.ip(w.there, "link", "set", "far0", "up"),
            {"wan0 has no carrier", "wan0: no buffer space available"},
            id="no carrier",
        ),
        pytest.param(
            lambda w: w.unplug(0), lambda w: w.plug(0), {"wan0 is gone"}, id="unplugged"
        ),
    ],
)
def test_a_link_that_is_down_is_not_loss(site, fall, rise, want):
    async def main():
        async with Probing() as (prober, heard):
            prober.send(1, "wan0", site.target)
            assert (await heard.next())[:2] == ("answered", 1)
            fall(site)
            for probe_id in (2, 3):
                prober.send(probe_id, "wan0", site.target)
                verdict, told, reason = await heard.next()
                assert (verdict, told) == ("not sent", probe_id)
                assert reason in want
            prober.send(4, "wan1", site.target)
            assert (await heard.next())[:2] == ("answered", 4)
            rise(site)
            await answers(prober, heard, "wan0", site.target)

    site.run(main)


async def answers(prober, heard, device, address):
    """Probe until it is answered: a link takes a moment to come up."""
    async with asyncio.timeout(10):
        while True:
            prober.send(99, device, address)
            try:
                if (await heard.next(within_s=0.2))[0] == "answered":
                    return
            except TimeoutError:
                continue


@pytest.mark.netns
def test_a_device_that_was_recreated_between_two_probes(site):
    async def main():
        async with Probing() as (prober, heard):
            prober.send(1, "wan0", site.target)
            assert (await heard.next())[:2] == ("answered", 1)
            site.unplug(0)
            site.plug(0)
            await answers(prober, heard, "wan0", site.target)

    site.run(main)


@pytest.mark.netns
def test_what_the_firewall_drops_is_not_sent(site):
    def nft(rules):
        command = ["ip", "netns", "exec", site.here, "nft", "-f", "-"]
        subprocess.run(command, input=rules.encode(), check=True)

    nft(
        "table ip t { chain o { type filter hook output priority 0;"
        f" ip daddr {site.target} drop; }}; }}\n"
    )

    async def main():
        async with Probing() as (prober, heard):
            prober.send(1, "wan0", site.target)
            assert await heard.next() == (
                "not sent",
                1,
                "wan0: operation not permitted",
            )
            nft("flush ruleset\n")
            prober.send(2, "wan0", site.target)
            assert (await heard.next())[:2] == ("answered", 2)

    site.run(main)


@pytest.mark.netns
def test_unreachable_is_refused_at_once_and_spoils_no_other_probe(site):
    # No limit on ICMP errors, but for the five in a row that Linux gives a peer when it
    # has no route.
    site.sysctl(site.there, "net.ipv4.icmp_ratelimit=0")

    async def main():
        async with Probing() as (prober, heard):
            for n in range(3):
                prober.send(2 * n, "wan0", "198.51.100.7")
                prober.send(2 * n + 1, "wan0", site.target)
            verdicts = await heard.next(6, within_s=5)
            told = {v[1]: (v[0], v[2]) for v in verdicts}
            for n in range(3):
                want = ("refused", "host unreachable (ICMP 3/1 from 10.9.0.1)")
                assert told[2 * n] == want
                assert told[2 * n + 1][0] == "answered"
            # The error waits in the socket until the next call: it is not that one's.
            prober.send(20, "wan0", "198.51.100.7")
            subprocess.run(["sleep", "0.1"], check=True)  # noqa: ASYNC221 (the loop must stand still)
            prober.send(21, "wan0", site.target)
            later = {v[1]: v[0] for v in await heard.next(2)}
            assert later == {20: "refused", 21: "answered"}

    site.run(main)


@pytest.mark.netns
@pytest.mark.parametrize(
    "address",
    [
        pytest.param("10.9.0.77", id="silent neighbour"),
        # A socket bound to a device asks on the link for what has no route there.
        pytest.param("203.0.113.9", id="no route"),
    ],
)
def test_who_is_silent_on_the_link_is_refused_by_our_own_kernel(wire, address):
    # A raw socket is not told: the kernel's own error comes by way of lo.
    wire.sysctl(wire.here, "net.ipv4.ping_group_range=0 2147483647")
    wire.sysctl(wire.here, "net.ipv4.neigh.wan0.retrans_time_ms=100")

    async def main():
        async with Probing() as (prober, heard):
            prober.send(1, "wan0", address)
            want = ("refused", 1, "host unreachable (ICMP 3/1 from 10.9.0.2)")
            assert await heard.next() == want

    wire.run(main)


class Responder:
    """Answers echo requests of `there` by hand: late, twice, wrongly, or not at all."""

    def __init__(self, wire, loop):
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._sock.setblocking(False)
        self._loop = loop

    async def request(self, within_s=5):
        """Return (who asked, identifier, sequence, payload) of the next request."""
        async with asyncio.timeout(within_s):
            while True:
                packet, (source, _) = await self._loop.sock_recvfrom(self._sock, 512)
                kind, _, _, identifier, sequence = struct.unpack_from(
                    "!BBHHH", packet, 20
                )
                if kind == 8:
                    return source, identifier, sequence, packet[28:]

    def reply(
        self, request, *, source="192.0.2.1", nonce=None, sequence=None, ident=None
    ):
        to, identifier, seq, payload = request
        body = struct.pack(
            "!HH",
            identifier if ident is None else ident,
            seq if sequence is None else sequence,
        ) + (payload if nonce is None else nonce)
        words = sum(struct.unpack(f"!{len(body) // 2}H", body))
        while words >> 16:
            words = (words & 0xFFFF) + (words >> 16)
        with socket.socket(
            socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP
        ) as sender:
            sender.bind((source, 0))
            sender.sendto(struct.pack("!BBH", 0, 0, ~words & 0xFFFF) + body, (to, 0))

    def close(self):
        self._sock.close()


def with_responder(site, main):
    """Run `main(prober, heard, responder)`: the responder in `there`'s own thread."""
    site.sysctl(site.there, "net.ipv4.icmp_echo_ignore_all=1")

    async def there(here):
        responder = Responder(site, asyncio.get_running_loop())
        try:
            return await here(responder)
        finally:
            responder.close()

    async def run():
        loop = asyncio.get_running_loop()
        async with Probing() as (prober, heard):
            ready, done = asyncio.Event(), asyncio.Event()
            box = {}

            async def serve(responder):
                their = asyncio.get_running_loop()
                stop = asyncio.Event()
                box.update(responder=responder, loop=their, stop=stop)
                loop.call_soon_threadsafe(ready.set)
                await stop.wait()

            thread = asyncio.to_thread(site.run, lambda: there(serve), netns=site.there)
            task = asyncio.create_task(thread)
            try:
                await asyncio.wait_for(ready.wait(), 10)

                def far(coroutine):
                    future = asyncio.run_coroutine_threadsafe(coroutine, box["loop"])
                    return asyncio.wrap_future(future)

                async def reply(*args, **kwargs):
                    box["responder"].reply(*args, **kwargs)

                await main(
                    prober,
                    heard,
                    lambda: far(box["responder"].request()),
                    lambda *a, **k: far(reply(*a, **k)),
                )
            finally:
                box["loop"].call_soon_threadsafe(box["stop"].set)
                await task
                done.set()

    site.run(run)


@pytest.mark.netns
def test_late_replies_are_reported_with_their_true_round_trip(site):
    async def main(prober, heard, request, reply):
        prober.send(1, "wan0", site.target)
        first = await request()
        prober.send(2, "wan0", site.target)
        second = await request()
        await heard.nothing(for_s=0.5)
        await reply(second)
        await reply(first)
        answered = {v[1]: v[2] for v in await heard.next(2)}
        assert 0.5 <= answered[1] < 5
        assert 0.5 <= answered[2] <= answered[1]

    with_responder(site, main)


@pytest.mark.netns
@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"source": "10.9.0.1"}, id="from another address"),
        pytest.param({"nonce": secrets.token_bytes(4)}, id="with another nonce"),
        pytest.param({"nonce": b""}, id="without the payload"),
        pytest.param({"sequence": 1}, id="of another sequence number"),
        pytest.param({"ident": 2}, id="of another identifier"),
    ],
)
def test_a_wrong_reply_is_no_reply_and_a_duplicate_counts_once(site, wrong):
    async def main(prober, heard, request, reply):
        prober.send(1, "wan0", site.target)
        asked = await request()
        await reply(asked, **wrong)
        await heard.nothing(for_s=0.2)
        await reply(asked)
        await reply(asked)
        assert (await heard.next())[:2] == ("answered", 1)
        await heard.nothing(for_s=0.2)

    with_responder(site, main)


@pytest.mark.netns
def test_what_is_remembered_is_bounded(site):
    async def main(prober, heard, request, reply):
        asked = []
        for probe_id in range(OUTSTANDING + 10):
            prober.send(probe_id, "wan0", site.target)
            asked.append(await request())
        await reply(asked[0])
        await heard.nothing(for_s=0.2)
        await reply(asked[10])
        assert (await heard.next())[:2] == ("answered", 10)
        await reply(asked[-1])
        assert (await heard.next())[:2] == ("answered", OUTSTANDING + 9)

    with_responder(site, main)


@pytest.mark.netns
def test_a_listener_that_raises_stops_nothing(site):
    async def main():
        loop = asyncio.get_running_loop()
        caught = asyncio.Event()
        loop.set_exception_handler(lambda *_: caught.set())
        async with Probing() as (prober, heard):
            heard.answered = None  # not callable: as bad as it gets
            prober.send(1, "wan0", site.target)
            await asyncio.wait_for(caught.wait(), 5)
            del heard.answered
            prober.send(2, "wan0", site.target)
            assert (await heard.next())[:2] == ("answered", 2)

    site.run(main)


# ---- without privileges

AS_NOBODY = """
import asyncio, os, sys
from jaga_agent.adapters.clock import BoottimeClock
from jaga_agent.adapters.icmp import IcmpProber
from jaga_agent.errors import ProbeError
os.setgroups([]); os.setgid(65534); os.setuid(65534)
class Listener:
    def __init__(self):
        self.told = asyncio.Event()
    def answered(self, probe_id, rtt_s):
        print("answered", probe_id); self.told.set()
    def refused(self, *what):
        print("refused", *what); self.told.set()
    not_sent = refused
async def main():
    listener = Listener()
    prober = IcmpProber(listener, BoottimeClock())
    prober.send(1, "wan0", "192.0.2.1")
    await asyncio.wait_for(listener.told.wait(), 10)
    prober.close()
try:
    asyncio.run(main())
except ProbeError as error:
    print(error)
"""


@pytest.mark.netns
@pytest.mark.parametrize(
    ("groups", "want"),
    [
        ("0 2147483647", "answered 1"),
        ("1 0", "no ICMP socket is allowed: needs net.ipv4.ping_group_range"),
    ],
)
def test_without_capabilities(wire, groups, want):
    wire.sysctl(wire.here, f"net.ipv4.ping_group_range={groups}")
    done = subprocess.run(
        ["ip", "netns", "exec", wire.here, sys.executable, "-c", AS_NOBODY],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(want)
    assert done.stdout.count("\n") == 1
