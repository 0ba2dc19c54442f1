"""None forged: a real Mosquitto, set up by jaga-deploy, refuses each and says so."""

import re
import ssl
import subprocess

import pytest

from jaga_agent.wire.topics import FROM_SITE, LEAVES, TO_SITE
from jaga_deploy import authority
from jaga_deploy.broker_config import UNSAID
from jaga_deploy.core import subjects
from jaga_deploy.core.ledger import DAY_S
from lab.field import Field, Files
from support.mqtt_client import (
    NO_SUBSCRIBER,
    NOT_AUTHORIZED,
    Client,
    lines_since,
    raw,
    topic,
)
from support.waiting import until

A, B, LOST = "tps-6408041010-001", "tps-6408041010-002", "tps-6408041010-003"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    directory = tmp_path_factory.mktemp("field")
    with Field(directory, sites=[A, B, LOST], operators=["ani"]) as running:
        running.deploy("site", "revoke", LOST)
        running.reload()
        yield running


@pytest.fixture
def join(place):
    """Connect with these files; all are closed at the end."""
    clients = []

    def connect(files, **how):
        clients.append(Client(files, **how).connect(place))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


WHO = {
    "A": (A, lambda place: place.site(A)),
    "collector": ("collector", lambda place: place.collector()),
    "operator": ("operator-ani", lambda place: place.operator("ani")),
}
MAY_WRITE = {
    *(("A", topic(A, leaf)) for leaf in FROM_SITE),
    *(("collector", topic(site, "watermark")) for site in (A, B)),
    *(("operator", topic(site, "command")) for site in (A, B)),
}
TOPICS = [
    *(topic(site, leaf) for site in (A, B) for leaf in LEAVES),
    "jaga/1/6409/" + A + "/heartbeat",
    topic(A, "heartbeat/more"),
    topic(A, "firmware"),
    "jaga/2/6408/" + A + "/heartbeat",
    "$CONTROL/dynamic-security/v1",
    "other",
]


@pytest.mark.parametrize("who", WHO)
def test_each_writes_its_own_and_nothing_else(who, place, join):
    account, files = WHO[who]
    client = join(files(place))
    for name in TOPICS:
        offset = len(place.broker.log())
        reason = client.publish(name)
        if (who, name) in MAY_WRITE:
            assert reason in (NO_SUBSCRIBER, 0), f"{who} may write {name}"
            continue
        assert reason == NOT_AUTHORIZED, f"{who} may not write {name}"
        lines_since(
            place, offset, f"Denied PUBLISH from {account} .*'{re.escape(name)}'"
        )


MAY_READ = {
    "A": {topic(A, leaf) for leaf in TO_SITE},
    "collector": {
        topic(site, leaf) for site in (A, B) for leaf in (*FROM_SITE, "command")
    },
    "operator": {topic(site, leaf) for site in (A, B) for leaf in ("reply", "status")},
}


@pytest.mark.parametrize("who", WHO)
def test_each_reads_its_own_and_nothing_else(who, place, join):
    account, files = WHO[who]
    offset = len(place.broker.log())
    client = join(files(place)).subscribe(
        "#", "$SYS/#", topic(B, "command"), "$CONTROL/#"
    )
    # What is asked for is in the log with the account that asked.
    for name in ("#", r"\$SYS/#", topic(B, "command")):
        lines_since(place, offset, f"{account} 1 {name}$")
    for site in (A, B):
        for files_of, leaves in (
            (place.site(site), FROM_SITE),
            (place.collector(), ["watermark"]),
            (place.operator("ani"), ["command"]),
        ):
            # With the reader's own certificate another connection would take its place.
            writer = client if files_of == client.files else join(files_of)
            for leaf in leaves:
                writer.publish(topic(site, leaf), b"secret")
    # What comes last has overtaken nothing.
    last, writer = (
        (topic(B, "status"), place.site(B))
        if who == "operator"
        else (topic(A, "command"), place.operator("ani"))
    )
    join(writer).publish(last, b"last")
    until(lambda: (last, b"last") in client.heard)
    assert {name for name, _ in client.heard} == MAY_READ[who]


def test_a_will_in_another_sites_name_is_never_sent(place, join):
    reader = join(place.collector()).subscribe(topic("+", "status"))
    offset = len(place.broker.log())
    forger = Client(place.site(A), will=topic(B, "status")).connect(place)
    asked = rf" as {A} .*\n.*: Will message specified.*\n.*: \t{topic(B, 'status')}$"
    lines_since(place, offset, asked)
    honest = Client(place.site(B), will=topic(B, "status")).connect(place)
    for account, client in ((A, forger), (B, honest)):
        offset = len(place.broker.log())
        client.drop()
        lines_since(place, offset, f"Client {account} closed its connection")
    until(lambda: reader.heard)
    assert reader.heard == [(topic(B, "status"), b"forged")]  # of B itself, once


def test_another_sites_session_cannot_be_taken(place, join):
    victim = join(place.site(B), client_id=B)
    thief = join(place.site(A), client_id=B)
    assert thief.publish(topic(A, "heartbeat")) in (NO_SUBSCRIBER, 0)
    assert victim.publish(topic(B, "heartbeat")) in (NO_SUBSCRIBER, 0)
    assert (victim.gone, thief.gone) == ([], [])


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=30)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """Another CA, by the same tool, that issues the same names."""
    path = tmp_path_factory.mktemp("stranger") / "ca"
    field = Field(path.parent, sites=[A])
    return field.site(A)


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("self-signed")
    cert, key = folder / "site.crt", folder / "site.key"
    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-noenc", "-subj", f"/O=Jaga/OU=site/CN={A}", "-days", "9"),
        *("-keyout", str(key), "-out", str(cert)),
    )
    return Files(cert, cert, key)


@pytest.fixture(scope="module")
def expired(place):
    """A site whose year is over: its certificate was issued then, by the same CA."""
    from jaga_deploy.adapters import clock

    now_s = clock.wall_s()
    # The CA is younger than that, so its own begin is what a certificate begins with.
    name = "tps-expired"
    ca = authority.Authority(place.ca)
    ca.issue(subjects.site(name), 1, now_s - DAY_S + 2)
    files = place.site(name)
    until(lambda: clock.wall_s() > now_s + 2)
    return files


def tls_1_2(files):
    context = files.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def no_certificate(files):
    return ssl.create_default_context(cafile=files.ca)


def of_another_ca(place, files):
    context = ssl.create_default_context(cafile=place.ca / "ca.crt")
    context.load_cert_chain(files.cert, files.key)
    return context


# Mosquitto begins the line in two ways, by when OpenSSL tells it.
VERIFY = "error:[0-9A-F]+:SSL routines:.*:certificate verify failed"
DOORS = {
    "unknown CA, same names": ("stranger", of_another_ca, "UNKNOWN_CA", VERIFY),
    "self-signed": ("self_signed", of_another_ca, "UNKNOWN_CA", VERIFY),
    "expired": ("expired", of_another_ca, "CERTIFICATE_EXPIRED", VERIFY),
    "revoked": (LOST, of_another_ca, "CERTIFICATE_REVOKED", VERIFY),
    "the broker's own": ("server", of_another_ca, "UNSUPPORTED_CERTIFICATE", VERIFY),
    "no certificate": (
        A,
        lambda place, files: no_certificate(files),
        "CERTIFICATE_REQUIRED",
        "error:[0-9A-F]+:SSL routines:.*:peer did not return a certificate",
    ),
    "TLS 1.2": (
        A,
        lambda place, files: tls_1_2(files),
        "PROTOCOL_VERSION",
        "error:[0-9A-F]+:SSL routines:.*:unsupported protocol",
    ),
}


@pytest.mark.parametrize("how", DOORS)
def test_the_door_stays_shut(how, place, request):
    who, context, alert, said = DOORS[how]
    if who.startswith("tps-"):
        files = place.site(who)
    elif who == "server":
        folder = place.ca / "brokers" / place.address
        files = Files(place.ca / "ca.crt", folder / "server.crt", folder / "server.key")
    else:
        files = request.getfixturevalue(who)
    offset = len(place.broker.log())
    with pytest.raises(ssl.SSLError, match=alert):
        raw(place, context(place, files), speak=False)
    lines_since(place, offset, said)


def test_plain_text_is_not_answered(place):
    offset = len(place.broker.log())
    assert not raw(place)[0].startswith(b"\x20")
    lines_since(place, offset, "error:[0-9A-F]+:SSL routines:.*:wrong version number")


def test_a_session_is_resumed_with_its_certificate(place):
    context = place.site(A).context()
    _, reused, session = raw(place, context)
    assert not reused
    answer, reused, _ = raw(place, context, session)
    assert reused
    assert answer.startswith(b"\x20")


def test_the_log_of_the_service_keeps_refusals_and_leaves_messages_out(place, join):
    """The drop-in's grep, on what the broker really says."""
    client = join(place.site(A), will=topic(B, "status"))
    client.subscribe(topic(A, "command"))
    client.publish(topic(A, "heartbeat"))
    client.publish(topic(B, "heartbeat"))
    client.close()
    with pytest.raises(ssl.SSLError):
        raw(place, no_certificate(place.site(A)), speak=False)
    until(lambda: "did not return a certificate" in place.broker.log())
    drop_in = (place.config / "jaga-broker.conf").read_text()
    # As bash reads it between double quotes.
    pattern = re.search(r'-Ev "([^"]*)"', drop_in)[1].replace("\\\\", "\\")
    assert pattern == UNSAID
    kept = subprocess.run(
        ["grep", "-Ev", pattern],
        input=place.broker.log(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for wanted in (
        f"Denied PUBLISH from {A}",
        f"{A} 1 {topic(A, 'command')}",
        f"New client connected from .* as {A} ",
        rf" as {A} .*\n.*: Will message specified.*\n.*: \t{topic(B, 'status')}\n",
        "did not return a certificate",
    ):
        assert re.search(wanted, kept), wanted
    for unwanted in ("Received", "Sending", "No will", "(QoS"):
        assert unwanted not in kept
