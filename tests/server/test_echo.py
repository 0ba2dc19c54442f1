"""The collector's reflector end to end: its port, its keys, what page and metrics show."""

import contextlib
import os
import socket
import subprocess

import pytest

from collector_lab import SITES
from jaga_agent.wire import echo
from jaga_agent.wire.messages import HealthCode, ModeCode
from jaga_server.adapters import clock
from support.ports import free_port

SITE = SITES[0]
STATE = echo.SiteState(
    1, (HealthCode.DOWN, HealthCode.UP), ModeCode.POLLING_DAY, 16, 64
)


# Those marked slow run a collector, and some of its commands, as processes of their own.
slow = pytest.mark.slow


@pytest.fixture
def port():
    return free_port(socket.SOCK_DGRAM)


@pytest.fixture
def room(broker, collector, port):
    """A collector that runs with a reflector and hears the broker."""
    room = collector(
        broker.port,
        extra=f'[echo]\nlisten = "127.0.0.1"\nport = {port}\nsecret_file = "s"\n',
    )
    (room.folder / "s").write_text("0f" * 32)
    (room.folder / "s").chmod(0o600)
    room.start()
    room.wait_connected()
    return room


@pytest.fixture
def site_key(room):
    def ask(site):
        command = room.command("echo-key", site)
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return ask


class Client:
    """One flow of a site."""

    def __init__(self, port, key, site=SITE):
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.settimeout(5)
        self._sock.connect(("127.0.0.1", port))
        self._key, self._tag = key, echo.site_tag(site)
        self._seq = self._token = 0

    def ask(self, state=None, place=1):
        self._seq += 1
        request = echo.encode_request(
            echo.Request(self._tag, 77, self._seq, self._token, place, state), self._key
        )
        self._sock.send(request)
        answer = echo.decode_answer(self._sock.recv(64), request, self._key)
        self._token = answer.token
        return answer

    def close(self):
        self._sock.close()


@pytest.fixture
def client(port, site_key):
    answer = site_key(SITE)
    assert answer.returncode == 0, answer.stderr
    with contextlib.closing(Client(port, echo.key_of_text(answer.stdout))) as client:
        yield client


@slow
def test_the_key_of_a_site(site_key):
    answer = site_key(SITE)
    want = echo.site_key(b"\x0f" * 32, SITE)
    assert answer.stdout == want.hex() + "\n"
    assert site_key(SITES[1]).stdout != answer.stdout


def test_no_key_for_a_site_that_is_not_on_the_list(site_key):
    answer = site_key("tps-9")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "site 'tps-9' is not on the site list" in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_no_key_without_a_reflector(broker, collector):
    room = collector(broker.port)
    command = room.command("echo-key", SITE)
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert "no reflector is configured: add [echo]" in answer.stderr


@slow
def test_a_site_of_which_only_echoes_come_is_overdue_and_told(
    room, client, publisher, simulate, broker, wait_until
):
    def view():
        return room.get(f"/api/1/sites/{SITE}")["site"]

    assert client.ask(STATE).received is None
    answer = client.ask(STATE)
    assert answer.received == 1
    assert abs(answer.receive_ns - clock.wall_ns()) < 60e9
    wait_until(lambda: view()["presence"] == "overdue", "the site is heard")
    seen = view()
    assert seen["condition"] == "degraded"
    assert seen["last_seen_ms"] == seen["last_resort"]["at_ms"]
    assert seen["last_resort"] == {
        "at_ms": answer.receive_ns // 1_000_000,
        "through": None,
        "active": None,
        "uplinks": ["down", "up"],
        "waiting": 16,
        "silent_s": 64,
    }
    # With its birth the uplinks have names; with a heartbeat it needs no last resort.
    site = simulate(SITE)
    link = publisher(broker.port)
    link.all([(site.topic("status"), site.status(online=True))])

    def named():
        client.ask(STATE)
        return (view()["last_resort"] or {}).get("through")

    assert wait_until(named, "an echo after the birth") == "indosat"
    assert view()["last_resort"]["active"] == "indosat"
    link.all([(site.topic("heartbeat"), site.heartbeat())])
    # Not its presence: the birth alone makes it online.
    wait_until(lambda: view()["last_resort"] is None, "the heartbeat is heard")
    assert (view()["presence"], view()["active"]) == ("online", site.uplinks[0])


@slow
def test_what_was_heard_survives_a_restart(room, client, wait_until):
    client.ask(STATE)
    client.ask(STATE)

    def present():
        return room.get(f"/api/1/sites/{SITE}")["site"]["presence"]

    wait_until(lambda: present() == "overdue", "the site is heard")
    assert room.stop() == 0
    room.start()
    assert present() == "overdue"
    # An unknown flow again: the new run of the reflector has to give its own token.
    assert client.ask(STATE).received is None
    assert client.ask(STATE).received == 1


@slow
def test_metrics_count_every_datagram_once(room, client, port, wait_until):
    client.ask()
    client.ask()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.connect(("127.0.0.1", port))
        stranger.send(b"hello")
        stranger.send(b"\x21" + bytes(39))
        stranger.send(b"\x11" + bytes(39))
        stranger.send(b"\x11\x00" + echo.site_tag(SITE).to_bytes(4, "big") + bytes(34))
    wait_until(lambda: room.metrics()["jaga_echo_received_total"] == 6, "all six came")
    got = {
        name.removeprefix("jaga_echo_"): value
        for name, value in room.metrics().items()
        if name.startswith("jaga_echo_") and not name.endswith("_created")
    }
    assert got == {
        "received_total": 6,
        "counted_total": 1,
        "uncounted_total": 1,
        'dropped_total{reason="malformed"}': 1,
        'dropped_total{reason="version"}': 1,
        'dropped_total{reason="unknown site"}': 1,
        'dropped_total{reason="forged"}': 1,
        'dropped_total{reason="replayed"}': 0,
        "unanswered_total": 0,
        "flows": 1,
        "flows_evicted_total": 0,
    }


@slow
def test_a_port_that_is_taken_is_one_clear_line(room, broker, collector, port):
    second = collector(broker.port, extra=f'[echo]\nport = {port}\nsecret_file = "s"\n')
    (second.folder / "s").write_text("0f" * 32)
    (second.folder / "s").chmod(0o600)
    done = subprocess.run(
        second.command("run"), capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert line == (
        f"jaga-collector: echo 0.0.0.0:{port}/udp: {os.strerror(98)}; choose another"
        " [echo] listen or port, or stop what has it"
    )


def test_the_clock_says_how_wrong_it_may_be():
    of = clock.error()
    assert 0 <= of.error_s <= clock.UNKNOWN_ERROR.error_s
