import os
import secrets
import socket

import pytest

from jaga_agent.sd_notify import NotifyError, ServiceNotifier


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """Yield (a real datagram socket, its address as systemd writes it)."""
    address = str(tmp_path / "notify")
    if request.param == "abstract":
        address = f"@jaga-{secrets.token_hex(6)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address.replace("@", "\0", 1) if address[0] == "@" else address)
        sock.settimeout(5)
        yield sock, address


@pytest.mark.parametrize(
    ("say", "want"),
    [
        (lambda n: n.ready("guarding wan0"), b"READY=1\nSTATUS=guarding wan0"),
        (lambda n: n.watchdog(), b"WATCHDOG=1"),
        (lambda n: n.watchdog("2 of 3 up"), b"WATCHDOG=1\nSTATUS=2 of 3 up"),
        (lambda n: n.ready("two\nlines"), b"READY=1\nSTATUS=two lines"),
        (lambda n: n.stopping(), b"STOPPING=1"),
    ],
)
def test_says(manager, say, want):
    sock, address = manager
    notifier = ServiceNotifier({"NOTIFY_SOCKET": address})
    say(notifier)
    assert sock.recv(4096) == want
    notifier.close()


def test_without_a_service_manager_nothing_happens():
    notifier = ServiceNotifier({})
    notifier.ready()
    notifier.watchdog()
    notifier.stopping()
    notifier.close()
    assert notifier.watchdog_s is None


@pytest.mark.parametrize(
    ("environ", "want"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_interval(environ, want):
    assert ServiceNotifier(environ).watchdog_s == want


def test_a_manager_that_is_gone_is_an_error_and_one_line(tmp_path):
    notifier = ServiceNotifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    with pytest.raises(NotifyError, match=r"did not take 'READY=1': No such file"):
        notifier.ready()
    notifier.close()


def test_a_manager_that_does_not_read_never_blocks_us(manager):
    _, address = manager
    notifier = ServiceNotifier({"NOTIFY_SOCKET": address})

    def flood():
        for _ in range(10_000):
            notifier.watchdog()

    # Were it to block, the test's own timeout would end it.
    with pytest.raises(NotifyError, match="temporarily unavailable"):
        flood()
    notifier.close()


def test_a_strange_address_is_refused():
    with pytest.raises(NotifyError, match="neither a path nor"):
        ServiceNotifier({"NOTIFY_SOCKET": "vsock:2:1234"})
