"""What checks cost, sessions taken up, a real broker, and the technician's command."""

import json
import subprocess
import sys

import pytest

from support.check_site import (
    HOST,
    NAME,
    RESET_AFTER_HELLO,
    RESOLVERS,
    SHORT,
    everything,
    verdict,
)
from support.waiting import until

pytestmark = pytest.mark.netns

# ---- bytes

DAY_BYTES = 700_000
"""Per uplink and day: the national system each 15 min, the collector each 30."""


def device_bytes(wire, device="wan0"):
    """Return the device's IP bytes both ways: it counts Ethernet's header as well."""
    shown = subprocess.run(
        ["ip", "-n", wire.here, "-s", "-j", "link", "show", device],
        capture_output=True,
        text=True,
        check=True,
    )
    stats = json.loads(shown.stdout)[0]["stats64"]
    return sum(stats[way]["bytes"] - 14 * stats[way]["packets"] for way in ("rx", "tx"))


BYTES = {
    "tcp": (f"tcp://{HOST}:7000", None),
    "refused": (f"tcp://{HOST}:9", None),
    "silent": (f"tcp://{HOST}:7000", "tcp dport 7000 drop"),
    "dns": ("dns://192.0.2.53/kpu.go.id", None),
    "tls": (f"tls://{NAME}:443", None),
    "https": (f"https://{NAME}/", None),
    "https with a body": (f"https://{NAME}/", None),
    "TLS 1.2": (f"https://{NAME}:442/", None),
    "reset": (f"https://{NAME}/", RESET_AFTER_HELLO),
    "swallowed": (f"https://{NAME}/", "tcp dport 443 meta length > 100 drop"),
}


@pytest.mark.parametrize("name", BYTES)
def test_the_bytes_told_are_the_device_s(site, wire, far, cert, name):
    url, rule = BYTES[name]
    everything(far, cert)
    far.web(HOST, 442, cert=cert, tls12=True)
    for netns, device in ((wire.here, "wan0"), (wire.there, "far0")):
        # One packet of the wire is one packet of the counters.
        wire.ip(netns, "link", "set", device, "gso_max_segs", "1")
    site.one(f"tcp://{HOST}:7000")  # the neighbours know each other now
    if rule:
        site.rule(rule)
    target = site.target(url, expect_text="Sirekap" if "body" in name else None)
    before = device_bytes(wire)
    outcomes = site.check(("wan0", target), ("wan0", target), caps=SHORT)
    carried = device_bytes(wire) - before
    told = sum(outcome.wire_bytes for outcome in outcomes)
    assert abs(told - carried) <= carried * 0.1, (told, carried)


@pytest.mark.parametrize("tls12", [False, True], ids=["TLS 1.3", "TLS 1.2"])
@pytest.mark.parametrize("kind", ["tls", "https"])
def test_a_session_is_taken_up_through_another_uplink_too(site, far, cert, kind, tls12):
    far.dns(RESOLVERS[0][0], {NAME: HOST})
    far.web(HOST, 443, cert=cert, tls12=tls12)
    target = site.target(f"{kind}://{NAME}:443")
    full, *resumed = site.check(
        ("wan0", target), ("wan1", target), ("wan0", target), ("wan1", target)
    )
    for outcome in resumed:
        assert verdict(outcome) == "ok"
        assert outcome.wire_bytes < full.wire_bytes / 1.8


def test_after_a_failed_handshake_the_next_one_is_whole(site, far, cert):
    everything(far, cert)
    target = site.target(f"tls://{NAME}:443")
    rules = iter([RESET_AFTER_HELLO, "accept", "accept"])
    outcomes = site.check(
        *[("wan0", target)] * 4, between=lambda: site.rule(next(rules))
    )
    assert [verdict(o) for o in outcomes] == ["ok", "reset", "ok", "ok"]
    assert [o.detail for o in outcomes[2:]] == ["TLSv1.3", "TLSv1.3, resumed"]


def test_a_day_of_checks_is_within_its_budget(site, far, cert):
    """The national system each 15 min, the collector each 30, a new name each time."""
    everything(far, cert)
    far.web(HOST, 8883, cert=cert)
    sirekap = site.target(f"https://{NAME}/")
    collector = site.target(f"tls://{NAME}:8883")
    first, again = {}, {}
    for name, target in (("sirekap", sirekap), ("collector", collector)):
        full, resumed = site.check(("wan0", target), ("wan0", target))
        assert (verdict(full), verdict(resumed)) == ("ok", "ok")
        first[name], again[name] = full.wire_bytes, resumed.wire_bytes
    # The agent starts a few times a day at worst: ten full handshakes with each.
    day = (
        10 * (first["sirekap"] + first["collector"])
        + 86 * again["sirekap"]
        + 38 * again["collector"]
    )
    assert again["sirekap"] < first["sirekap"] < 8000
    assert day <= DAY_BYTES, (first, again, day)


# ---- a broker that wants a client's certificate


@pytest.fixture
def broker(wire, authority, cert, tmp_path):
    file = tmp_path / "mosquitto.conf"
    file.write_text(
        f"listener 8883 {HOST}\ncafile {authority.root}\ncertfile {cert.chain}\n"
        f"keyfile {cert.key}\nrequire_certificate true\nuser root\n"
    )
    process = subprocess.Popen(
        ["ip", "netns", "exec", wire.there, "mosquitto", "-c", file],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        listening = ["ip", "netns", "exec", wire.there, "ss", "-Hltn", "sport 8883"]
        until(lambda: subprocess.check_output(listening), "Mosquitto listens")
        yield
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.usefixtures("broker")
def test_a_broker_that_wants_a_certificate_of_us_is_reached(site, far):
    far.dns(RESOLVERS[0][0], {NAME: HOST})
    target = site.target(f"tls://{NAME}:8883")
    outcomes = site.check(("wan0", target), ("wan0", target))
    assert [(verdict(o), o.detail) for o in outcomes] == [("ok", "TLSv1.3")] * 2


# ---- the technician's command


def command(wire, config, *more):
    there = ["ip", "netns", "exec", wire.here, sys.executable, "-m", "jaga_agent"]
    return subprocess.run(
        [*there, "check", "--config", config, *more],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def agent_toml(tmp_path, authority):
    path = tmp_path / "agent.toml"
    path.write_text(
        '[site]\nid = "tps-1"\n[mqtt]\nhost = "x"\ntls = false\n'
        '[[uplink]]\nname = "telkomsel"\ndevice = "wan0"\n'
        '[[uplink]]\nname = "fibre"\ndevice = "wan1"\n'
        f'[[target]]\nname = "sirekap"\nurl = "https://{NAME}/"\n'
        f'ca = "{authority.root}"\n'
        '[[target]]\nname = "dns"\nurl = "dns://192.0.2.53/kpu.go.id"\n'
    )
    return path


@pytest.mark.slow
def test_the_command_shows_each_target_through_each_uplink(
    site, wire, far, cert, agent_toml
):
    everything(far, cert)
    ran = command(wire, agent_toml)
    assert (ran.returncode, ran.stderr) == (0, "")
    head, *lines = ran.stdout.splitlines()
    assert head.split() == [
        *("uplink", "target", "verdict"),
        *("DNS", "connect", "TLS", "answer", "bytes"),
    ]
    assert [line.split()[:4] for line in lines if not line.startswith(" ")] == [
        ["telkomsel", "(wan0)", "sirekap", "ok"],
        ["telkomsel", "(wan0)", "dns", "ok"],
        ["fibre", "(wan1)", "sirekap", "ok"],
        ["fibre", "(wan1)", "dns", "ok"],
    ]
    site.rule(f'iifname "far0" {RESET_AFTER_HELLO}')
    ran = command(wire, agent_toml)
    assert ran.returncode == 1
    assert "telkomsel (wan0)  sirekap  RESET" in ran.stdout
    assert "fibre (wan1)      sirekap  ok" in ran.stdout
    ran = command(wire, agent_toml, "--uplink", "fibre")
    assert ran.returncode == 0
    assert "telkomsel" not in ran.stdout


def test_the_command_s_advice(wire, agent_toml):
    ran = command(wire, agent_toml, "--uplink", "indosat")
    assert ran.returncode == 1
    assert ran.stderr.endswith("no uplink `indosat`; name one of: telkomsel, fibre\n")
    text = agent_toml.read_text()
    agent_toml.write_text(text[: text.index("[[target]]")])
    ran = command(wire, agent_toml)
    assert ran.returncode == 1
    assert "no target to check; add one: [[target]]" in ran.stderr
