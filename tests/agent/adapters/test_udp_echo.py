"""udp-echo on the real kernel: the agent's prober against the collector's own reflector."""

import asyncio
import contextlib
import socket
import subprocess
import threading

import pytest

from jaga_agent.adapters.clock import BoottimeClock
from jaga_agent.adapters.udp_echo import NO_REFLECTOR, OUTSTANDING
from jaga_agent.wire import echo
from jaga_agent.wire.messages import HealthCode, ModeCode
from support.echo import MASTER, PORT, SITE, Far, probing

STATE = echo.SiteState(
    1, (HealthCode.DOWN, HealthCode.UP), ModeCode.POLLING_DAY, 16, 64
)


@pytest.fixture
def far(wire):
    with Far().running(lambda main: wire.run(main, netns=wire.there)) as running:
        yield running


def nft(netns, rules):
    command = ["ip", "netns", "exec", netns, "nft", "-f", "-"]
    subprocess.run(command, input=rules.encode(), check=True)


def lose(netns, side, percent):
    """Drop this share of what comes in, seen by nobody."""
    nft(
        netns,
        "table ip lossy { chain i { type filter hook input priority 0;"
        f" udp {side} {PORT} numgen random mod 100 < {percent} drop; }}; }}\n",
    )


async def answers(prober, heard, device, address):
    """Probe until it is answered: a link takes a moment to come up."""
    async with asyncio.timeout(10):
        while True:
            prober.send(99, device, address)
            with contextlib.suppress(TimeoutError):
                if (await heard.next(within_s=0.2))[0] == "answered":
                    return


@pytest.mark.netns
def test_each_uplink_is_answered_and_counted(wire, far):
    async def main():
        async with probing() as (prober, heard):
            for n in range(8):
                prober.send(n, f"wan{n % 2}", f"{wire.target}:{PORT}")
                assert heard.verdicts == [], "never from within send"
                verdict, probe_id, rtt_s = await heard.next()
                assert (verdict, probe_id) == ("answered", n)
                assert 0 <= rtt_s < 1
            return heard.samples

    samples = wire.run(main)
    for device in ("wan0", "wan1"):
        own = [s for s in samples if s.device == device]
        assert own[0].counts is None, "the first makes the flow known"
        last = own[-1].counts
        assert (last.up_sent, last.up_lost, last.down_sent, last.down_lost) == (
            2, 0, 2, 0,
        )  # fmt: skip
    # One machine, one clock: the reflector's is ours.
    clock = BoottimeClock().stamp()
    for sample in samples:
        off_ns = sample.clock.epoch_ns + clock.boot_ns - clock.wall_ns
        assert abs(off_ns) < sample.clock.delay_ns // 2 + 50_000_000
    assert far.reflector.counters.counted == 6


LOSSES = {
    "up": (lambda w: lose(w.there, "dport", 20), (0.2, 0.0)),
    "down": (lambda w: lose(w.here, "sport", 20), (0.0, 0.2)),
}


@pytest.mark.netns
@pytest.mark.parametrize(("fault", "want"), LOSSES.values(), ids=LOSSES)
def test_loss_is_told_apart_by_its_way(wire, far, fault, want):
    fault(wire)
    asked = 600

    async def main():
        async with probing() as (prober, heard):
            for n in range(asked):
                prober.send(n, "wan0", f"{wire.target}:{PORT}")
                await asyncio.sleep(0.001)
            with contextlib.suppress(TimeoutError):
                while True:
                    verdict, *_ = await heard.next(within_s=0.5)
                    assert verdict == "answered"
            return heard.samples

    counts = wire.run(main)[-1].counts
    up, down = counts.up_lost / counts.up_sent, counts.down_lost / counts.down_sent
    # Six standard deviations of 600 trials at 20 %: 10 percentage points.
    assert up == pytest.approx(want[0], abs=0.1 if want[0] else 0)
    assert down == pytest.approx(want[1], abs=0.1 if want[1] else 0)
    assert counts.up_sent > asked * 0.9


@pytest.mark.netns
def test_a_wrong_key_is_met_with_silence(wire, far):
    async def main():
        async with probing(key=b"k" * 32) as (prober, heard):
            prober.send(1, "wan0", f"{wire.target}:{PORT}")
            await heard.nothing()

    wire.run(main)
    assert dict(far.reflector.counters.dropped) == {"forged": 1}


@pytest.mark.netns
def test_a_replay_is_met_with_silence(wire, far):
    key = echo.site_key(MASTER, SITE)

    async def main():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.connect((wire.target, PORT))

            def ask(seq, token):
                request = echo.encode_request(
                    echo.Request(echo.site_tag(SITE), 1, seq, token, 0), key
                )
                sock.send(request)
                return request, sock.recv(64)

            request, answer = ask(1, 0)
            token = echo.decode_answer(answer, request, key).token
            request, _ = ask(2, token)
            sock.send(request)
            sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                sock.recv(64)

    wire.run(main)
    assert dict(far.reflector.counters.dropped) == {"replayed": 1}


@pytest.mark.netns
def test_a_closed_port_is_refused_and_spoils_no_other_probe(wire, far):
    wire.sysctl(wire.there, "net.ipv4.icmp_ratelimit=0")

    async def main():
        async with probing() as (prober, heard):
            told = {}
            for n in range(6):
                port = PORT if n % 2 else PORT + 1
                prober.send(n, "wan0", f"{wire.target}:{port}")
            while len(told) < 6:
                verdict, probe_id, reason = await heard.next()
                told[probe_id] = (verdict, reason)
            for n in (0, 2, 4):
                verdict, reason = told[n]
                assert verdict == "refused"
                assert reason == (
                    f"port unreachable (ICMP 3/3 from {wire.target}): {NO_REFLECTOR}"
                )
                assert told[n + 1][0] == "answered"

    wire.run(main)


@pytest.mark.netns
def test_a_router_that_quotes_the_bare_header_is_understood(wire):
    """As RFC 792 allows: eight bytes of the datagram, which is none of ours."""

    async def main():
        async with probing() as (prober, heard):
            prober.send(1, "wan0", f"{wire.target}:{PORT}")
            await heard.nothing(0.1)
            source = next(iter(prober._paths._open.values())).sock.getsockname()[1]
            wire.run(lambda: unreachable(wire, source), netns=wire.there)
            verdict, probe_id, reason = await heard.next()
            assert (verdict, probe_id) == ("refused", 1)
            assert reason == "host prohibited (ICMP 3/10 from 192.0.2.1)"

    # Silence first: nobody may refuse before the test does.
    nft(
        wire.there,
        "table ip t { chain i { type filter hook input priority 0; udp drop; }; }\n".replace(
            "udp drop", "meta l4proto udp drop"
        ),
    )
    wire.run(main)


async def unreachable(wire, source_port):
    import struct

    def checksum(content):
        words = sum(struct.unpack(f"!{len(content) // 2}H", content))
        while words >> 16:
            words = (words & 0xFFFF) + (words >> 16)
        return ~words & 0xFFFF

    quoted = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 68, 0, 0, 64, 17, 0,
        socket.inet_aton("10.9.0.2"), socket.inet_aton(wire.target),
    ) + struct.pack("!HHHH", source_port, PORT, 48, 0)  # fmt: skip
    body = struct.pack("!BBHI", 3, 10, 0, 0) + quoted
    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.bind((wire.target, 0))
        sock.sendto(body, ("10.9.0.2", 0))


@pytest.mark.netns
def test_an_answer_comes_from_the_address_that_was_asked(wire, far):
    # It listens on all; the route back would choose 10.9.0.1 as its source.
    async def main():
        async with probing() as (prober, heard):
            for address in (wire.target, "10.9.0.1"):
                prober.send(1, "wan0", f"{address}:{PORT}")
                assert (await heard.next())[0] == "answered"

    wire.run(main)


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
def test_a_link_that_is_down_is_not_loss(wire, far, fall, rise, want):
    async def main():
        async with probing() as (prober, heard):
            address = f"{wire.target}:{PORT}"
            await answers(prober, heard, "wan0", address)
            fall(wire)
            for probe_id in (2, 3):
                prober.send(probe_id, "wan0", address)
                verdict, told, reason = await heard.next()
                assert (verdict, told) == ("not sent", probe_id)
                assert reason in want
            prober.send(4, "wan1", address)
            assert (await heard.next())[:2] == ("answered", 4)
            rise(wire)
            await answers(prober, heard, "wan0", address)

    wire.run(main)


@pytest.mark.netns
@pytest.mark.parametrize(
    ("device", "address", "want"),
    [
        ("lo", "127.0.0.1", "'127.0.0.1' is not an address and a port"),
        ("lo", "127.0.0.1:0", "is not an address and a port"),
        ("lo", "127.0.0.1:65536", "is not an address and a port"),
        ("lo", "collector.example:7007", "no address of collector.example is known"),
        ("nosuchdev", "127.0.0.1:7007", "nosuchdev is gone"),
        ("a-name-that-is-too-long", "127.0.0.1:7007", "a-name-that-is-too-long"),
    ],
)
async def test_what_cannot_be_sent_is_told(device, address, want):
    async with probing() as (prober, heard):
        prober.send(1, device, address)
        verdict, _, reason = await heard.next()
        assert verdict == "not sent"
        assert want in reason


@pytest.mark.netns
async def test_after_close_nothing_is_sent():
    async with probing() as (prober, heard):
        prober.close()
        prober.send(1, "lo", "127.0.0.1:7007")
        assert await heard.next() == ("not sent", 1, "the prober is closed")


@pytest.mark.netns
def test_a_name_is_asked_of_the_uplink_it_is_used_through(wire, far):
    asked = []

    def resolve(device, host):
        asked.append((device, host))
        return wire.target

    async def main():
        async with probing(resolve=resolve) as (prober, heard):
            prober.send(1, "wan1", f"collector.example:{PORT}")
            assert (await heard.next())[0] == "answered"

    wire.run(main)
    assert asked == [("wan1", "collector.example")]


@pytest.mark.netns
def test_the_last_resort_arrives_once_the_flow_is_known(wire, far):
    state = [None]

    async def main():
        async with probing(state=lambda: state[0]) as (prober, heard):
            for told in (STATE, STATE, None):
                state[0] = told
                prober.send(1, "wan1", f"{wire.target}:{PORT}")
                assert (await heard.next())[0] == "answered"

    wire.run(main)
    (told,) = far.states
    assert told[:3] == (SITE, STATE, 1)


@pytest.mark.netns
def test_noise_and_forgeries_are_not_answers(wire):
    """Whoever answers without the key answers nothing."""
    listening = threading.Event()

    async def there():
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((wire.target, PORT))
            sock.setblocking(False)
            listening.set()
            while True:
                request, source = await loop.sock_recvfrom(sock, 64)
                if request == b"end":
                    return
                seq = echo.seq_of_request(request)
                answer = echo.Answer(seq, 1, 1, 10**18, 0, 0.1, True)
                for forged in (
                    b"",
                    request,
                    echo.encode_answer(answer, request, b"k" * 32),
                    echo.encode_answer(answer, b"\0" * 40, echo.site_key(MASTER, SITE)),
                ):
                    await loop.sock_sendto(sock, forged, source)

    thread = threading.Thread(target=lambda: wire.run(there, netns=wire.there))
    thread.start()
    assert listening.wait(10)

    async def main():
        try:
            async with probing() as (prober, heard):
                for n in range(3):
                    prober.send(n, "wan0", f"{wire.target}:{PORT}")
                await heard.nothing()
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"end", (wire.target, PORT))

    try:
        wire.run(main)
    finally:
        thread.join(10)
    assert not thread.is_alive()


@pytest.mark.netns
def test_memory_is_bounded(wire):
    nft(
        wire.there,
        "table ip t { chain i { type filter hook input priority 0;"
        " meta l4proto udp drop; }; }\n",
    )

    async def main():
        async with probing() as (prober, heard):
            for n in range(2 * OUTSTANDING):
                prober.send(n, "wan0", f"192.0.2.1:{1000 + n}")
            (path,) = prober._paths._open.values()
            assert len(path.outstanding) == OUTSTANDING
            assert len(path.flows) == 16
            assert heard.verdicts == []

    wire.run(main)
