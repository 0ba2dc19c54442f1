"""What `systemctl status` shows of the agent follows what it does at once."""

import socket

import pytest

from lab import Lab
from support.guard import SITE, Guard

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]

WATCHDOG_S = 240
"""Twice the longest of these tests: no word in them is the watchdog's own."""


@pytest.fixture
def said():
    """Yield (the lab, a call that returns the agent's next word to the service manager)."""
    with Lab.create() as lab, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        address = str(lab.directory / "notify")
        sock.bind(address)
        sock.settimeout(60)
        environ = {
            "NOTIFY_SOCKET": address,
            "WATCHDOG_USEC": str(WATCHDOG_S * 1_000_000),
        }
        with Guard(lab, environ=environ):
            yield lab, lambda: sock.recv(4096).decode().splitlines()


def test_it_names_the_uplink_that_carries_the_site_as_soon_as_it_does(said):
    lab, word = said

    def status(active):
        return f"STATUS={SITE}: active {active}; broker not connected"

    assert word() == ["READY=1", status("no uplink")]
    assert word() == ["WATCHDOG=1", status("telkomsel")]
    lab.uplinks["telkomsel"].blackhole()
    assert word() == ["WATCHDOG=1", status("indosat")]
