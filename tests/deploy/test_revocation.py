"""What a reload and a restart of the real Mosquitto do after a revocation.

docs/broker.md tells operators what these show.
"""

import signal
import ssl

import pytest

from jaga_agent.wire.topics import SITE_PATTERN
from lab.field import Field
from support.mqtt_client import (
    NO_SUBSCRIBER,
    NOT_AUTHORIZED,
    Client,
    lines_since,
    raw,
    topic,
)
from support.waiting import until

A, LOST = "tps-6408041010-001", "tps-6408041010-003"
REVOKED = "error:[0-9A-F]+:SSL routines:.*:certificate verify failed"


@pytest.fixture
def place(tmp_path):
    assert SITE_PATTERN.fullmatch(LOST)
    with Field(tmp_path, sites=[A, LOST]) as running:
        yield running


@pytest.fixture
def join(place):
    clients = []

    def connect(files, **how):
        clients.append(Client(files).connect(place, **how))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


def test_a_reload_shuts_out_at_once_and_cuts_nobody_else(place, join):
    """SIGHUP reads list and rights; connections that stand lose their rights only."""
    keeps, lost = join(place.site(A)), join(place.site(LOST))
    reader = join(place.collector()).subscribe("#")
    context = place.site(LOST).context()
    lost.close()
    _, _, ticket = raw(place, context)
    own = place.site(A).context()
    lost = join(place.site(LOST))
    place.deploy("site", "revoke", LOST)
    place.reload()

    # The connection stands, and is good for nothing.
    assert lost.publish(topic(LOST, "heartbeat")) == NOT_AUTHORIZED
    lines_since(place, 0, f"Denied PUBLISH from {LOST} ")
    assert lost.gone == []
    # A new one is refused, a resumed session too: its ticket died with the reload.
    offset = len(place.broker.log())
    with pytest.raises(ssl.SSLError, match="REVOKED"):
        raw(place, context, speak=False)
    with pytest.raises(ssl.SSLError, match="REVOKED"):
        raw(place, context, ticket, speak=False)
    until(lambda: len(lines_since(place, offset, REVOKED)) == 2)
    # The others noticed nothing, and new ones come in.
    assert keeps.publish(topic(A, "heartbeat"), b"on") in (0, NO_SUBSCRIBER)
    until(lambda: (topic(A, "heartbeat"), b"on") in reader.heard)
    assert keeps.gone == []
    assert reader.gone == []
    keeps.close()
    _, _, ticket = raw(place, own)
    assert raw(place, own, ticket)[1]
    place.reload()
    answer, reused, _ = raw(place, own, ticket)
    assert (answer[:1], reused) == (b"\x20", False)


def test_a_restart_ends_the_connection_of_the_revoked(place, join):
    lost = join(place.site(LOST))
    place.deploy("site", "revoke", LOST)
    place.restart()
    until(lambda: lost.gone)
    with pytest.raises(ssl.SSLError, match="REVOKED"):
        raw(place, place.site(LOST).context(), speak=False)
    assert raw(place, place.site(A).context())[0].startswith(b"\x20")


def test_a_lost_card_is_replaced_under_the_same_name(place, join):
    """Old certificate out, new one in, by one reload; the account keeps its rights."""
    old = place.site(LOST).context()
    place.deploy("site", "revoke", LOST)
    place.deploy("site", "issue", LOST)
    place.reload()
    with pytest.raises(ssl.SSLError, match="REVOKED"):
        raw(place, old, speak=False)
    new = join(place.site(LOST))
    assert new.publish(topic(LOST, "heartbeat")) in (0, NO_SUBSCRIBER)


def test_what_waits_for_the_revoked_is_not_delivered_to_them(place, join):
    """A session kept by the broker is worth nothing without its certificate."""
    lost = join(place.site(LOST), session_s=600).subscribe(topic(LOST, "watermark"))
    place.deploy("site", "revoke", LOST)
    place.reload()
    collector = join(place.collector())
    collector.publish(topic(LOST, "watermark"))
    # Refused by rights, and so answered after what was decided before it.
    assert lost.publish(topic(LOST, "event")) == NOT_AUTHORIZED
    assert lost.heard == []


def test_an_expired_list_locks_everybody_out(place):
    """Why jaga-deploy's lists last as long as the CA, and `list` warns (issue 1826)."""
    from jaga_deploy.adapters import clock
    from jaga_deploy.authority import Authority
    from jaga_deploy.core.ledger import DAY_S

    now_s = clock.wall_s()
    Authority(place.ca).make_crl(now_s - DAY_S + 1, days=1)
    until(lambda: clock.wall_s() > now_s + 2)
    place.reload()
    with pytest.raises(ssl.SSLError, match="alert"):
        raw(place, place.site(A).context(), speak=False)
    place.deploy("crl")
    place.reload()
    assert raw(place, place.site(A).context())[0].startswith(b"\x20")


def test_renewed_and_old_certificate_both_let_in(place):
    old = place.site(A).context()
    place.deploy("site", "renew", A, "--new-key")
    place.reload()
    for context in (old, place.site(A).context()):
        assert raw(place, context)[0].startswith(b"\x20")


def test_sessions_and_retained_messages_outlive_sigkill_of_the_broker(place, join):
    """As far as the last save: a reload (SIGHUP) writes nothing, a SIGUSR1 does."""
    site = join(place.site(A))
    site.publish(topic(A, "status"), b"online", retain=True)
    assert place.broker.process is not None
    place.broker.process.send_signal(signal.SIGUSR1)
    until((place.directory / "mosquitto" / "mosquitto.db").exists)
    place.restart(signal.SIGKILL)
    reader = join(place.collector()).subscribe(topic("+", "status"))
    until(lambda: reader.heard == [(topic(A, "status"), b"online")])
