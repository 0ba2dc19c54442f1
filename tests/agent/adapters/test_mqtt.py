import asyncio
import contextlib
import gc
import logging
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from jaga_agent.adapters.mqtt import MqttBroker, Settings, tls_context
from jaga_agent.adapters.mqtt.client import Tickets
from jaga_agent.errors import BrokerError
from jaga_agent.ports import Will
from lab import Broker
from support.ports import free_port
from support.waiting import until_async

STATUS = "jaga/1/6408/tps-6408052001-901/status"
BEAT = "jaga/1/6408/tps-6408052001-901/heartbeat"


class Mosquitto(Broker):
    """The lab's broker, started and ended beside the event loop."""

    def __init__(self, directory, port=None, *lines, anonymous=True):
        if not anonymous:
            lines = ("allow_anonymous false", *lines)
        options = "".join(f"{line}\n" for line in lines)
        super().__init__(directory, port=port, options=options)

    async def up(self):
        await asyncio.to_thread(self.start)

    async def kill(self):
        await asyncio.to_thread(self.stop, signal.SIGKILL)

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    async def __aenter__(self):
        await self.up()
        return self

    async def __aexit__(self, *_):
        await self.kill()


class Subscriber:
    """mosquitto_sub, as the collector's stand-in: `topic payload` lines."""

    def __init__(self, port, *options):
        self._command = ["mosquitto_sub", "-V", "5", "-p", str(port), "-q", "1"]
        self._command += ["-t", "jaga/#", "-F", "%t %p", *options]
        self._port = port

    async def __aenter__(self):
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdout=asyncio.subprocess.PIPE
        )
        # It says nowhere that it has subscribed: speak to it until it hears.
        ready = ["mosquitto_pub", "-p", str(self._port), "-t", "jaga/ready", "-m", "1"]
        async with asyncio.timeout(10):
            heard = asyncio.ensure_future(self._process.stdout.readline())
            while not heard.done():
                speaker = await asyncio.create_subprocess_exec(*ready)
                await speaker.wait()
                await asyncio.wait([heard], timeout=0.1)
        return self

    async def __aexit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.communicate()

    async def line(self, within_s=10):
        async with asyncio.timeout(within_s):
            while True:
                line = (await self._process.stdout.readline()).decode().strip()
                if not line.startswith("jaga/ready"):
                    return line


async def retained(port):
    """Return the retained messages, as a collector that starts now sees them."""
    process = await asyncio.create_subprocess_exec(
        *["mosquitto_sub", "-V", "5", "-p", str(port), "-t", "jaga/#", "-W", "1"],
        *["-F", "%t %p", "--retained-only"],
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    return out.decode().splitlines()


class Listener:
    """Keeps what it is told; the test waits for it."""

    def __init__(self):
        self.told = []
        self.changed = asyncio.Event()

    def connected(self, session_present):
        self._keep("connected", session_present)

    def disconnected(self, reason):
        self._keep("disconnected", reason)

    def acknowledged(self, token):
        self._keep("acknowledged", token)

    def rejected(self, token, reason):
        self._keep("rejected", token, reason)

    def message(self, message):
        self._keep("message", message)

    def _keep(self, *what):
        self.told.append(what)
        self.changed.set()

    async def until(self, *wanted, within_s=15):
        """Wait for the next of one kind (and drop what came before); return it."""
        async with asyncio.timeout(within_s):
            while True:
                for n, what in enumerate(self.told):
                    if what[: len(wanted)] == wanted:
                        self.told = self.told[n + 1 :]
                        return what
                self.changed.clear()
                await self.changed.wait()


class Agent:
    """`async with Agent(port=…) as (broker, listener)`; closed at the end."""

    listener_class = Listener

    def __init__(self, *, will_delay_s=1, will_topic=STATUS, **settings):
        fast = {"backoff_s": 0.05, "backoff_cap_s": 0.4, "refused_s": (0.1, 0.2)}
        base = {"host": "127.0.0.1", "client_id": "tps-6408052001-901"}
        self.settings = Settings(**{**base, **fast, **settings})
        self.wills = 0
        self._delay_s = will_delay_s
        self._topic = will_topic

    def next_will(self):
        self.wills += 1
        return Will(self._topic, f"offline {self.wills}".encode(), self._delay_s)

    async def __aenter__(self):
        self.listener = self.listener_class()
        self.broker = MqttBroker(self.settings, self.listener, self.next_will)
        self.broker.start()
        return self.broker, self.listener

    async def __aexit__(self, *_):
        await self.broker.close(last_topic=STATUS, last_payload=b"goodbye")


@pytest.fixture
async def mosquitto(tmp_path):
    async with Mosquitto(tmp_path) as broker:
        yield broker


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def mqtt_threads():
    return [t for t in threading.enumerate() if t.name == "mqtt"]


# ---- the ordinary course


async def test_published_and_acknowledged(mosquitto):
    async with Subscriber(mosquitto.port) as collector:
        async with Agent(port=mosquitto.port) as (broker, listener):
            assert not broker.publish(BEAT, b"too early", token=1)
            assert await listener.until("connected") == ("connected", False)
            assert broker.publish(STATUS, b"online", token=None, retain=True)
            assert broker.publish(BEAT, b"beat", token=7)
            assert await listener.until("acknowledged") == ("acknowledged", 7)
            assert await collector.line() == f"{STATUS} online"
            assert await collector.line() == f"{BEAT} beat"
            assert listener.told == []
        assert await collector.line() == f"{STATUS} goodbye"
    assert mqtt_threads() == []


@pytest.mark.slow
async def test_closing_leaves_the_last_word_and_no_will(mosquitto):
    async with Agent(port=mosquitto.port) as (_, listener):
        await listener.until("connected")
    await asyncio.sleep(1.5)
    assert await retained(mosquitto.port) == [f"{STATUS} goodbye"]


async def test_the_window_bounds_what_is_in_flight(mosquitto):
    async with Agent(port=mosquitto.port, max_inflight=5) as (broker, listener):
        await listener.until("connected")
        taken = [broker.publish(BEAT, b"", token=n) for n in range(1, 9)]
        assert taken == [True] * 5 + [False] * 3
        for n in range(1, 6):
            assert await listener.until("acknowledged") == ("acknowledged", n)
        assert broker.publish(BEAT, b"", token=6)


async def test_the_window_is_not_above_the_broker_s(tmp_path):
    lines = ["max_inflight_messages 3"]
    async with (
        Mosquitto(tmp_path, None, *lines) as mosquitto,
        Agent(port=mosquitto.port, max_inflight=20) as (broker, listener),
    ):
        await listener.until("connected")
        assert [broker.publish(BEAT, b"", token=n) for n in range(1, 6)].count(
            True
        ) == 3
        await listener.until("acknowledged", 3)


async def test_ten_thousand_in_a_row(mosquitto):
    async with Agent(port=mosquitto.port) as (broker, listener):
        await listener.until("connected")
        token = 0
        async with asyncio.timeout(50):
            while token < 10_000:
                if broker.publish(BEAT, bytes(120), token=token + 1):
                    token += 1
                else:
                    listener.changed.clear()
                    await listener.changed.wait()
        await listener.until("acknowledged", 10_000)


async def test_over_a_unix_socket(tmp_path):
    async with (
        Mosquitto(tmp_path) as mosquitto,
        Agent(transport="unix", host=str(mosquitto.socket_path)) as (broker, listener),
    ):
        await listener.until("connected")
        assert broker.publish(BEAT, b"", token=1)
        await listener.until("acknowledged", 1)


def presence_alone(tmp_path):
    """A broker that takes nothing but the site's status."""
    acl = tmp_path / "acl"
    acl.write_text(f"topic write {STATUS}\n")
    acl.chmod(0o644)
    tmp_path.chmod(0o755)
    return Mosquitto(tmp_path, None, f"acl_file {acl}")


async def test_a_topic_that_is_not_allowed_is_rejected(tmp_path):
    async with (
        presence_alone(tmp_path) as mosquitto,
        Agent(port=mosquitto.port) as (broker, listener),
    ):
        await listener.until("connected")
        assert broker.publish(BEAT, b"", token=1)
        assert await listener.until("rejected") == ("rejected", 1, "Not authorized")
        assert broker.publish(STATUS, b"", token=2)
        await listener.until("acknowledged", 2)


# ---- what comes

WATERMARK = "jaga/1/6408/tps-6408052001-901/watermark"


async def say(port, topic, payload, *options):
    speaker = await asyncio.create_subprocess_exec(
        *["mosquitto_pub", "-V", "5", "-p", str(port), "-q", "1"],
        *["-t", topic, "-m", payload, *options],
    )
    assert await speaker.wait() == 0


async def test_each_connection_is_told_the_retained_message_anew(mosquitto):
    await say(mosquitto.port, WATERMARK, "through 7", "-r")
    topics = (WATERMARK, STATUS)
    async with Agent(port=mosquitto.port, subscriptions=topics) as (broker, listener):
        for _ in range(3):
            await listener.until("connected")
            told = await listener.until("message")
            assert (told[1].topic, told[1].payload) == (WATERMARK, b"through 7")
            broker.reconnect_now("again")
            await listener.until("disconnected")


async def test_what_came_while_we_were_away_is_told_after_connected(mosquitto):
    day_s = 86_400
    slow = {"backoff_s": day_s, "backoff_cap_s": day_s, "subscriptions": (WATERMARK,)}
    async with Agent(port=mosquitto.port, **slow) as (broker, listener):
        await listener.until("connected")
        await say(mosquitto.port, WATERMARK, "hear me")
        await listener.until("message")
        broker._connection.give_up("the cable is cut")
        await listener.until("disconnected")
        for n in range(20):
            await say(mosquitto.port, WATERMARK, f"missed {n}")
        broker.reconnect_now("the cable is whole")
        await until_async(lambda: "missed 19" in str(listener.told))
    assert listener.told[0] == ("connected", True)
    # The first may come again: whether its PUBACK went out in time is chance.
    missed = [m.payload for _, m in listener.told[1:] if m.payload != b"hear me"]
    assert missed == [f"missed {n}".encode() for n in range(20)]


async def test_a_listener_that_raises_ends_nothing(mosquitto, caplog):
    class Clumsy(Listener):
        def message(self, message):
            super().message(message)
            raise ValueError("clumsy")  # noqa: EM101

    loop = asyncio.get_running_loop()
    raised = []
    loop.set_exception_handler(lambda _, context: raised.append(context["exception"]))
    agent = Agent(port=mosquitto.port, subscriptions=(WATERMARK,))
    agent.listener_class = Clumsy
    async with agent as (broker, listener):
        await listener.until("connected")
        for n in (1, 2):
            await say(mosquitto.port, WATERMARK, str(n))
            assert (await listener.until("message"))[1].payload == str(n).encode()
        assert broker.publish(BEAT, b"", token=1)
        await listener.until("acknowledged", 1)
    assert [str(error) for error in raised] == ["clumsy"] * 2


# ---- broker away


async def test_a_broker_that_dies_and_returns(tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "jaga_agent")
    port = free_port()
    agent = Agent(port=port)
    async with agent as (broker, listener):
        told = await listener.until("disconnected")
        assert (
            told[1]
            == f"127.0.0.1:{port} refused the connection: is the broker running there?"
        )
        await until_async(lambda: agent.wills >= 4)
        assert listener.told == [], "told once, however often it failed"
        mosquitto = Mosquitto(tmp_path, port)
        async with mosquitto:
            await listener.until("connected")
            await mosquitto.kill()
            await listener.until("disconnected")
            assert not broker.publish(BEAT, b"", token=1)
            await mosquitto.up()
            await listener.until("connected")
            assert broker.publish(BEAT, b"", token=1)
            await listener.until("acknowledged", 1)
        await listener.until("disconnected")
    loud = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(loud) == 3, "the first failure of each cycle, and no more"
    assert all(r.exc_info is None for r in loud)


async def test_the_session_is_kept_at_the_broker(mosquitto):
    async with Agent(port=mosquitto.port) as (broker, listener):
        assert await listener.until("connected") == ("connected", False)
        broker.reconnect_now("a failover")
        assert await listener.until("disconnected") == ("disconnected", "a failover")
        assert await listener.until("connected") == ("connected", True)


async def test_what_was_in_flight_is_neither_kept_nor_told_twice(tmp_path):
    port = free_port()
    mosquitto = Mosquitto(tmp_path, port)
    async with mosquitto, Agent(port=port) as (broker, listener):
        await listener.until("connected")
        mosquitto.freeze()
        for token in (1, 2, 3):
            assert broker.publish(BEAT, b"lost" * token, token=token)
        await mosquitto.kill()
        await listener.until("disconnected")
        await mosquitto.up()
        await listener.until("connected")
        async with Subscriber(port) as collector:
            await asyncio.sleep(0.3)
            assert broker.publish(BEAT, b"again", token=1)
            assert await collector.line() == f"{BEAT} again"
        await listener.until("acknowledged", 1)
        await asyncio.sleep(0.3)
        assert listener.told == []


@pytest.mark.slow
async def test_old_connections_leave_nothing_behind(mosquitto):
    async with Agent(port=mosquitto.port) as (broker, listener):
        await listener.until("connected")
        gc.collect()
        before = descriptors()
        for n in range(20):
            broker.publish(BEAT, bytes(1000), token=n + 1)
            broker.reconnect_now("again")
            await listener.until("connected")
        await until_async(lambda: len(mqtt_threads()) == 1 and descriptors() <= before)


@pytest.mark.slow
async def test_a_frozen_broker_is_noticed_by_the_keep_alive(mosquitto):
    async with Agent(port=mosquitto.port, keepalive_s=2) as (_, listener):
        await listener.until("connected")
        mosquitto.freeze()
        told = await listener.until("disconnected", within_s=10)
        assert told[1] == "connection lost: silent for 2 s"


async def test_a_second_agent_of_the_same_site_takes_over(mosquitto):
    slow = {"backoff_s": 60, "backoff_cap_s": 60, "port": mosquitto.port}
    async with Agent(**slow) as (_, listener):
        await listener.until("connected")
        async with Agent(**slow) as (_, other):
            await other.until("connected")
            told = await listener.until("disconnected")
            # Mosquitto 2.0.11 closes without a word, later ones say why.
            assert told[1] in (
                "the broker ended the connection: Session taken over",
                "connection lost: the other side closed it",
            )


@pytest.mark.slow
async def test_the_will_is_not_spoken_when_we_come_back(mosquitto):
    async with Subscriber(mosquitto.port) as collector:
        async with Agent(port=mosquitto.port, will_delay_s=1) as (broker, listener):
            await listener.until("connected")
            # Back within the delay: nobody hears of it.
            broker.reconnect_now("a failover")
            await listener.until("connected")
            await asyncio.sleep(2)
        assert await collector.line() == f"{STATUS} goodbye"


@pytest.mark.slow
async def test_the_will_is_spoken_when_we_do_not_come_back(mosquitto):
    # A wait anywhere up to a day: with full jitter a shorter one may end before the will.
    day_s = 86_400
    agent = Agent(
        port=mosquitto.port, will_delay_s=1, backoff_s=day_s, backoff_cap_s=day_s
    )
    async with Subscriber(mosquitto.port) as collector, agent as (broker, listener):
        await listener.until("connected")
        broker._connection.give_up("the cable is cut")
        assert await collector.line() == f"{STATUS} offline 1"
        # Each connection has a will of its own.
        broker.reconnect_now("the cable is whole")
        await listener.until("connected")
        broker._connection.give_up("the cable is cut")
        assert await collector.line() == f"{STATUS} offline 2"


# ---- refused for good


async def test_bad_credentials_are_told_once_and_tried_again(tmp_path, caplog):
    passwords = tmp_path / "passwords"
    subprocess.run(  # noqa: ASYNC221 (nothing else runs yet)
        ["mosquitto_passwd", "-b", "-c", passwords, "site", "right"], check=True
    )
    passwords.chmod(0o644)
    tmp_path.chmod(0o755)
    lines = [f"password_file {passwords}"]
    agent = Agent(username="site", password="wrong", port=free_port())  # noqa: S106 (it is wrong)
    async with (
        Mosquitto(tmp_path, agent.settings.port, *lines, anonymous=False),
        agent as (_, listener),
    ):
        told = await listener.until("disconnected")
        assert told[1].startswith("the broker refused us: not authorised")
        await until_async(lambda: agent.wills >= 4)
        assert listener.told == []
        assert "right" not in repr(agent.settings)
        assert "wrong" not in repr(agent.settings)
    assert [r.levelname for r in caplog.records] == ["WARNING"]


async def test_unreachable_and_then_refused_is_told_again(tmp_path):
    agent = Agent(port=free_port())
    async with agent as (_, listener):
        await listener.until("disconnected")
        async with Mosquitto(tmp_path, agent.settings.port, anonymous=False):
            told = await listener.until("disconnected")
            assert told[1].startswith("the broker refused us")


# ---- TLS


def openssl(directory, *args):
    subprocess.run(["openssl", *args], cwd=directory, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Two authorities; a broker's and a site's certificate of each."""
    directory = tmp_path_factory.mktemp("tls")
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for ca in ("ca", "other-ca"):
        files = ["-keyout", f"{ca}.key", "-out", f"{ca}.crt"]
        openssl(
            directory, "req", "-x509", *new, *files, "-subj", f"/CN={ca}", "-days", "2"
        )
        for name in ("broker", "site"):
            files = ["-keyout", f"{ca}-{name}.key", "-out", f"{ca}-{name}.csr"]
            openssl(directory, "req", *new, *files, "-subj", f"/CN={name}")
            extension = directory / "extension"
            extension.write_text("subjectAltName=IP:127.0.0.1\n")
            signing = ["-CA", f"{ca}.crt", "-CAkey", f"{ca}.key", "-CAcreateserial"]
            openssl(
                directory,
                *["x509", "-req", "-in", f"{ca}-{name}.csr", *signing, "-days", "2"],
                *["-extfile", "extension", "-out", f"{ca}-{name}.crt"],
            )
    for path in [directory, *directory.iterdir()]:
        path.chmod(0o755)
    return directory


def tls_lines(certificates):
    return [
        f"cafile {certificates}/ca.crt",
        f"certfile {certificates}/ca-broker.crt",
        f"keyfile {certificates}/ca-broker.key",
        "require_certificate true",
        "use_identity_as_username true",
        "tls_version tlsv1.3",
    ]


async def test_over_tls_with_a_certificate(tmp_path, certificates):
    c = certificates
    tls = tls_context(c / "ca.crt", c / "ca-site.crt", c / "ca-site.key")
    async with (
        Mosquitto(tmp_path, None, *tls_lines(c), anonymous=False) as mosquitto,
        Agent(port=mosquitto.port, tls=tls) as (broker, listener),
    ):
        await listener.until("connected")
        assert broker.publish(BEAT, bytes(5000), token=1)
        await listener.until("acknowledged", 1)
        broker.reconnect_now("a failover")
        await listener.until("connected")


async def test_a_broker_of_another_authority_is_not_trusted(tmp_path, certificates):
    tls = tls_context(certificates / "other-ca.crt")
    async with (
        Mosquitto(tmp_path, None, *tls_lines(certificates)) as mosquitto,
        Agent(port=mosquitto.port, tls=tls) as (_, listener),
    ):
        told = await listener.until("disconnected")
        assert f"the certificate of 127.0.0.1:{mosquitto.port} is not good" in told[1]


async def test_a_certificate_that_the_broker_refuses(tmp_path, certificates):
    c = certificates
    tls = tls_context(c / "ca.crt", c / "other-ca-site.crt", c / "other-ca-site.key")
    reasons = []
    async with Mosquitto(tmp_path, None, *tls_lines(c)) as mosquitto:
        # The broker's alert and its hanging up race each other; now and then the end of
        # the connection is all that is left to see.
        while len(reasons) < 5 and not any("UNKNOWN_CA" in r for r in reasons):
            async with Agent(port=mosquitto.port, tls=tls) as (_, listener):
                reasons.append((await listener.until("disconnected"))[1])
    assert reasons[-1].startswith("the broker refuses this site's certificate:"), (
        reasons
    )
    assert "UNKNOWN_CA" in reasons[-1]


@pytest.mark.parametrize(
    ("ca", "cert", "key", "want"),
    [
        ("gone.crt", None, None, "mqtt.ca: .*gone.crt is not a readable PEM"),
        ("ca.crt", "ca-site.crt", "gone.key", "mqtt.cert and mqtt.key"),
        ("ca.crt", "ca-site.crt", "other-ca-site.key", "mqtt.cert and mqtt.key"),
        ("extension", None, None, "mqtt.ca: .*extension is not a readable PEM"),
    ],
)
def test_files_that_cannot_be_used_are_named(certificates, ca, cert, key, want):
    with pytest.raises(BrokerError, match=want):
        tls_context(
            certificates / ca,
            certificates / cert if cert else None,
            certificates / key if key else None,
        )


# ---- hanging


class Blackhole:
    """A port of loopback that takes no connection and refuses none: its queue is full."""

    def __enter__(self):
        self._held = [socket.socket() for _ in range(3)]
        listener, *fill = self._held
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        self.port = listener.getsockname()[1]
        for sock in fill:
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(("127.0.0.1", self.port))
        return self

    def __exit__(self, *_):
        for sock in self._held:
            sock.close()


async def test_a_connect_that_hangs_ends_by_itself():
    with Blackhole() as hole:
        agent = Agent(port=hole.port, connect_timeout_s=0.3)
        async with agent as (_, listener):
            told = await listener.until("disconnected")
            assert told[1] == f"no answer from 127.0.0.1:{hole.port} within 0.3 s"


class Mute:
    """Takes connections and says nothing, as behind a portal that swallows TLS."""

    async def __aenter__(self):
        self.taken = asyncio.Event()
        self.writers = []
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _take(self, _, writer):
        self.writers.append(writer)
        self.taken.set()

    async def __aexit__(self, *_):
        self._server.close()
        for writer in self.writers:
            writer.close()


async def test_a_broker_that_never_answers_ends_by_itself():
    async with Mute() as mute:
        agent = Agent(port=mute.port, attempt_timeout_s=0.3)
        async with agent as (_, listener):
            told = await listener.until("disconnected")
            assert told[1] == "no answer from the broker within 0.3 s"


@pytest.mark.parametrize("stage", ["connect", "handshake", "connack"])
async def test_reconnect_now_does_not_wait_for_what_hangs(
    stage, tmp_path, certificates
):
    patience = {"connect_timeout_s": 60, "attempt_timeout_s": 60}
    async with contextlib.AsyncExitStack() as stack:
        if stage == "connect":
            hole = stack.enter_context(Blackhole())
        else:
            hole = await stack.enter_async_context(Mute())
        tls = tls_context(certificates / "ca.crt") if stage == "handshake" else None
        agent = Agent(port=hole.port, tls=tls, **patience)
        broker, listener = await stack.enter_async_context(agent)
        await until_async(lambda: agent.wills == 1)
        if stage != "connect":
            await asyncio.wait_for(hole.taken.wait(), 5)
        await asyncio.sleep(0.1)
        for n in (2, 3):
            broker.reconnect_now("failover to fibre")
            await until_async(lambda n=n: agent.wills >= n)
        # Those that hung are woken, not waited for.
        await until_async(lambda: len(mqtt_threads()) == 1)
        assert listener.told == []


async def test_after_a_failover_it_is_back_within_a_second(mosquitto):
    agent = Agent(port=mosquitto.port, backoff_s=60, backoff_cap_s=60)
    async with agent as (broker, listener):
        await listener.until("connected")
        mosquitto.freeze()
        broker.publish(BEAT, b"into the void", token=1)
        broker.reconnect_now("wan0 is dead")
        assert not broker.publish(BEAT, b"", token=2), "at once"
        await listener.until("disconnected", "wan0 is dead")
        mosquitto.process.send_signal(signal.SIGCONT)
        await listener.until("connected", within_s=5)


async def test_reconnect_now_ends_a_pause(tmp_path):
    agent = Agent(port=free_port(), backoff_s=600, backoff_cap_s=600)
    async with agent as (broker, listener):
        await listener.until("disconnected")
        async with Mosquitto(tmp_path, agent.settings.port):
            broker.reconnect_now("the uplink is back")
            await listener.until("connected", within_s=5)


async def test_attempts_that_hang_are_bounded(mosquitto, monkeypatch):
    stuck = threading.Event()
    resolve = socket.getaddrinfo

    def hang(*args, **kwargs):
        if threading.current_thread().name == "mqtt":
            stuck.wait(30)
        return resolve(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        async with Agent(port=mosquitto.port) as (broker, listener):
            for _ in range(30):
                broker.reconnect_now("flapping")
                await asyncio.sleep(0.02)
            async with asyncio.timeout(10):
                while len(mqtt_threads()) < 2:
                    broker.reconnect_now("flapping")
                    await asyncio.sleep(0.02)
            assert len(mqtt_threads()) <= 9
            stuck.set()
            await listener.until("connected")
    finally:
        stuck.set()


@pytest.mark.slow
async def test_closing_is_bounded_whatever_hangs(mosquitto):
    async with asyncio.timeout(10):
        async with Agent(port=mosquitto.port) as (_, listener):
            await listener.until("connected")
            mosquitto.freeze()
        with Blackhole() as hole:
            async with Agent(port=hole.port, connect_timeout_s=60):
                await asyncio.sleep(0.1)
    assert mqtt_threads() == []


# ---- callbacks that raise


async def test_a_listener_that_raises_kills_nothing(mosquitto):
    caught = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: caught.append(context))
    async with Agent(port=mosquitto.port) as (broker, listener):
        listener.connected = None
        listener.acknowledged = None
        broker._listener = listener
        await until_async(lambda: broker.publish(BEAT, b"", token=1))
        await until_async(lambda: len(caught) == 2)
        del listener.connected
        del listener.acknowledged
        broker.reconnect_now("again")
        await listener.until("connected")
        assert broker.publish(BEAT, b"", token=2)
        await listener.until("acknowledged", 2)


async def test_a_callback_that_raises_ends_the_connection_not_the_agent(
    mosquitto, monkeypatch, caplog
):
    from jaga_agent.adapters.mqtt.connection import Connection

    def broken(*_):
        msg = "a bug in a callback"
        raise KeyError(msg)

    async with Agent(port=mosquitto.port) as (broker, listener):
        await listener.until("connected")
        with monkeypatch.context() as patch:
            # paho keeps the bound method: break what that one calls.
            patch.setattr(Connection, "_hand_over", _raise_for_puback(broken))
            assert broker.publish(BEAT, b"", token=1)
            told = await listener.until("disconnected")
        assert "a bug in a callback" in told[1]
        await listener.until("connected")
        assert broker.publish(BEAT, b"", token=1)
        await listener.until("acknowledged", 1)
    assert "the MQTT client failed" in caplog.text


def _raise_for_puback(broken):
    from jaga_agent.adapters.mqtt.connection import Connection

    hand_over = Connection._hand_over

    def raising(self, work, *args):
        if work.__name__ == "_puback":
            broken()
        hand_over(self, work, *args)

    return raising


async def test_a_will_that_cannot_be_made_is_tried_again(mosquitto, caplog):
    agent = Agent(port=mosquitto.port)
    make, failures = agent.next_will, [OSError("disk full"), OSError("disk full")]

    def next_will():
        if failures:
            raise failures.pop()
        return make()

    agent.next_will = next_will
    async with agent as (_, listener):
        told = await listener.until("disconnected")
        assert told[1] == "the agent failed: see its log"
        await listener.until("connected")
    assert caplog.text.count("the MQTT connection failed") == 2


# ---- economy


class Meter:
    """A relay of loopback that counts what passes, connection by connection."""

    def __init__(self, port):
        self._target = port
        self.passed = []
        """Bytes each way, of each connection in turn: from the site, to it."""
        self.seen = b""
        """What the site sent, of all connections."""

    async def __aenter__(self):
        self._tasks = set()
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _relay(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        counts = [0, 0]
        self.passed.append(counts)
        far_reader, far_writer = await asyncio.open_connection(
            "127.0.0.1", self._target
        )

        async def carry(source, sink, way):
            with contextlib.suppress(OSError):
                while block := await source.read(65536):
                    counts[way] += len(block)
                    if way == 0:
                        self.seen += block
                    sink.write(block)
            sink.close()

        try:
            await asyncio.gather(
                carry(reader, far_writer, 0), carry(far_reader, writer, 1)
            )
        finally:
            writer.close()
            far_writer.close()


def site_tls(certificates):
    c = certificates
    return tls_context(c / "ca.crt", c / "ca-site.crt", c / "ca-site.key")


async def test_tls_is_taken_up_again_with_the_certificate_s_identity(
    tmp_path, certificates, caplog
):
    """The broker knows the site by its certificate alone, which is not sent again."""
    caplog.set_level(logging.DEBUG, "jaga_agent")
    acl = tmp_path / "acl"
    acl.write_text(f"user site\ntopic write {BEAT}\n")
    acl.chmod(0o644)
    tmp_path.chmod(0o755)
    lines = [*tls_lines(certificates), f"acl_file {acl}"]
    async with (
        Mosquitto(tmp_path, None, *lines, anonymous=False) as mosquitto,
        Meter(mosquitto.port) as meter,
        Agent(port=meter.port, tls=site_tls(certificates)) as (broker, listener),
    ):
        for n in range(4):
            await listener.until("connected")
            assert broker.publish(BEAT, b"", token=n)
            await listener.until("acknowledged", n)
            broker.reconnect_now("a failover")
        await listener.until("connected")
        full, *again = [sum(counts) for counts in meter.passed[:4]]
    assert "TLS session taken up again: False" in caplog.text
    assert caplog.text.count("TLS session taken up again: True") == 4
    # A certificate each way, in full; with the field's larger ones it saves more.
    assert max(again) < 0.65 * full, meter.passed


async def test_a_restarted_broker_has_forgotten_the_tickets(
    tmp_path, certificates, caplog
):
    caplog.set_level(logging.DEBUG, "jaga_agent")
    port = free_port()
    mosquitto = Mosquitto(tmp_path, port, *tls_lines(certificates))
    async with mosquitto, Agent(port=port, tls=site_tls(certificates)) as (_, listener):
        await listener.until("connected")
        await mosquitto.kill()
        await listener.until("disconnected")
        await mosquitto.up()
        await listener.until("connected")
    assert caplog.text.count("taken up again: False") >= 2
    assert "taken up again: True" not in caplog.text


async def test_a_broker_that_breaks_off_over_a_ticket_gets_a_full_handshake(
    tmp_path, certificates, caplog
):
    """As an OpenSSL server does that asks for certificates and was not prepared."""
    caplog.set_level(logging.INFO, "jaga_agent")
    lines = tls_lines(certificates)
    async with Mosquitto(tmp_path, None, *lines) as mosquitto:
        refused = []

        async def refuse_tickets(reader, writer):
            hello = await reader.read(65536)
            if len(hello) > 700:  # only with a ticket is the first flight as long
                refused.append(len(hello))
                # A fatal alert, internal_error.
                writer.write(bytes.fromhex("15030300020250"))
                writer.close()
                return
            far_reader, far_writer = await asyncio.open_connection(
                "127.0.0.1", mosquitto.port
            )
            far_writer.write(hello)

            async def carry(source, sink):
                with contextlib.suppress(OSError):
                    while block := await source.read(65536):
                        sink.write(block)
                sink.close()

            await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))

        server = await asyncio.start_server(refuse_tickets, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        # No second attempt within the test: the first one falls back by itself.
        patience = {"backoff_s": 86_400, "backoff_cap_s": 86_400}
        async with Agent(port=port, tls=site_tls(certificates), **patience) as (
            broker,
            listener,
        ):
            await listener.until("connected")
            broker.reconnect_now("a failover")
            await listener.until("connected")
            assert len(refused) == 1
        server.close()
    assert "TLS was not taken up again" in caplog.text


def test_a_ticket_is_for_one_host_and_one_use():
    class Session:
        has_ticket = True

    tickets = Tickets()
    first, other = ("a.example", 8883), ("b.example", 8883)
    assert tickets.take(first) is None
    session = Session()
    tickets.keep(first, session)
    assert tickets.take(first) is session
    assert tickets.take(first) is None
    tickets.keep(first, session)
    assert tickets.take(other) is None
    assert tickets.take(first) is None
    tickets.keep(first, None)
    assert tickets.take(first) is None


async def test_a_topic_is_said_once_in_a_connection(mosquitto):
    async with (
        Subscriber(mosquitto.port) as collector,
        Meter(mosquitto.port) as meter,
        Agent(port=meter.port) as (broker, listener),
    ):
        for round_ in range(2):
            await listener.until("connected")
            meter.seen = b""
            assert broker.publish(STATUS, b"online", token=None, retain=True)
            for n in range(5):
                assert broker.publish(BEAT, b"beat %d" % n, token=n + 1)
                topic = BEAT.replace("heartbeat", "event")
                assert broker.publish(topic, b"event %d" % n, token=n + 11)
            await listener.until("acknowledged", 15)
            assert await collector.line() == f"{STATUS} online"
            heard = [await collector.line() for _ in range(10)]
            assert heard[::2] == [f"{BEAT} beat {n}" for n in range(5)]
            assert {line.split()[0] for line in heard[1::2]} == {topic}
            assert meter.seen.count(BEAT.encode()) == 1
            assert meter.seen.count(topic.encode()) == 1
            if round_ == 0:
                broker.reconnect_now("again")


@pytest.mark.parametrize(("maximum", "said"), [(0, 10), (1, 6)])
async def test_no_more_aliases_than_the_broker_lets_us(tmp_path, maximum, said):
    async with (
        Mosquitto(tmp_path, None, f"max_topic_alias {maximum}") as mosquitto,
        Meter(mosquitto.port) as meter,
        Agent(port=meter.port) as (broker, listener),
    ):
        await listener.until("connected")
        for n in range(5):
            assert broker.publish(BEAT, b"", token=n + 1)
            assert broker.publish(BEAT.replace("beat", "beet"), b"", token=n + 11)
        await listener.until("acknowledged", 15)
        assert meter.seen.count(b"tps-6408052001-901/heart") == said


async def test_a_refused_topic_keeps_its_alias(tmp_path):
    async with (
        presence_alone(tmp_path) as mosquitto,
        Agent(port=mosquitto.port) as (broker, listener),
    ):
        await listener.until("connected")
        for n in (1, 2):
            assert broker.publish(BEAT, b"", token=n)
            assert await listener.until("rejected") == ("rejected", n, "Not authorized")
        assert broker.publish(STATUS, b"", token=3)
        await listener.until("acknowledged", 3)


@pytest.mark.slow
async def test_what_is_sent_in_time_is_the_keep_alive(mosquitto):
    ping = b"\xc0\x00"
    async with (
        Meter(mosquitto.port) as meter,
        Agent(port=meter.port, keepalive_s=3) as (broker, listener),
    ):
        await listener.until("connected")
        meter.seen = b""
        for n in range(1, 6):
            assert broker.publish(BEAT, b"beat", token=n)
            await listener.until("acknowledged", n)
            await asyncio.sleep(1.5)
        assert ping not in meter.seen
        # And one is sent where nothing else is.
        await until_async(lambda: ping in meter.seen)
