"""Each way to be wrong in the configuration has one line that names key, line, fix."""

import pytest

from jaga_agent import config
from jaga_agent.core.model import Failback, Mode, Role, TargetKind
from jaga_agent.errors import ConfigError

GOOD = """\
[site]
id = "tps-6408052001-901"

[[uplink]]
name = "telkomsel"
device = "wan0"

[[uplink]]
name = "fibre"
device = "wan2"
preference = 1

[mqtt]
host = "collector.example"
tls = false
"""

KEYED = '[echo]\nkey_file = "k"\n'

# name: (what to replace, with what, line wanted, the rest of the message)
WRONG = {
    "misspelt key": ('device = "wan2"', 'devce = "wan2"', 10, "did you mean `device`?"),
    "misspelt table": ("[mqtt]", "[mqt]", 13, "mqt: unknown key; did you mean `mqtt`?"),
    "unknown key far from any": (
        'host = "collector.example"',
        'host = "c"\nzzz = 1',
        15,
        "mqtt.zzz: unknown key; known: host, port",
    ),
    "missing key": (
        'name = "fibre"\n',
        "",
        8,
        "uplink[2].name: missing; add `name = …`",
    ),
    "wrong type": (
        "preference = 1",
        'preference = "1"',
        11,
        'uplink[2].preference: "1" will not do; want a whole number, 0 to 1000',
    ),
    "out of range": (
        "preference = 1",
        "preference = -1",
        11,
        "-1 will not do; want a whole number, 0 to 1000",
    ),
    "name twice": ('"fibre"', '"telkomsel"', 9, "`telkomsel` is already uplink[1]"),
    "device twice": ('"wan2"', '"wan0"', 10, "`wan0` is already uplink[1]"),
    "bad site id": (
        '"tps-6408052001-901"',
        '"TPS 901"',
        2,
        'site.id: "TPS 901" will not do; want small letters, digits and dashes',
    ),
    "TLS without CA": ("tls = false\n", "", 13, "or say `tls = false` in a lab"),
    "TLS off with certificates": (
        "tls = false\n",
        'tls = false\nca = "ca.crt"\n',
        15,
        "is false, yet certificates are given",
    ),
    "certificate without key": (
        "tls = false\n",
        'ca = "ca.crt"\ncert = "site.crt"\n',
        13,
        "mqtt.key: missing; `cert` and `key` go together",
    ),
    "LAN device is an uplink": (
        "[mqtt]",
        '[lan]\ndevices = ["wan2"]\n[mqtt]',
        14,
        "`wan2` is an uplink's device too",
    ),
    "resolver by name": (
        "[mqtt]",
        '[lan]\ndevices = ["lan0"]\nresolvers = ["dns.google"]\n[mqtt]',
        15,
        "`dns.google` will not do; want IPv4 addresses",
    ),
    "no resolver": (
        "[mqtt]",
        '[lan]\ndevices = ["lan0"]\nresolvers = []\n[mqtt]',
        15,
        "lan.resolvers: [] will not do",
    ),
    "DNS for no LAN": (
        "[mqtt]",
        "[lan]\ndns = true\n[mqtt]",
        14,
        "is true, yet there is no LAN; name its devices in lan.devices",
    ),
    "IPv6 passed through": (
        "[mqtt]",
        '[lan]\nipv6 = "pass"\n[mqtt]',
        14,
        'lan.ipv6: "pass" will not do; want one of',
    ),
    "MTU that IPv4 forbids": (
        "preference = 1",
        "mtu = 500",
        11,
        "uplink[2].mtu: 500 will not do; want a whole number, 576 to 9000",
    ),
    "unknown target kind": (
        "[mqtt]",
        '[[target]]\nname = "x"\nurl = "gopher://1.1.1.1"\n[mqtt]',
        15,
        "begin it with one of icmp://, udp-echo://, tcp://, dns://",
    ),
    "target by name": (
        "[mqtt]",
        '[[target]]\nname = "x"\nurl = "icmp://example.org"\n[mqtt]',
        15,
        "resolved through one provider and blamed on another",
    ),
    "check's interval on a pulse": (
        "[mqtt]",
        '[[target]]\nname = "x"\nurl = "icmp://1.1.1.1"\ninterval_s = 9\n[mqtt]',
        16,
        "target[1].interval_s: icmp goes by decide.probe_interval_s",
    ),
    "CA where nothing is encrypted": (
        "[mqtt]",
        '[[target]]\nname = "x"\nurl = "http://a.example"\nca = "x"\n[mqtt]',
        16,
        "target[1].ca: http checks no certificate; leave it out, or use https://",
    ),
    "text of what has none": (
        "[mqtt]",
        '[[target]]\nname = "x"\nurl = "tls://a.example:1"\nexpect_text = "x"\n[mqtt]',
        16,
        "target[1].expect_text: tls has no answer to read",
    ),
    "no such status": (
        "[mqtt]",
        '[[target]]\nname = "x"\nurl = "http://a.example"\nexpect_status = [99]\n[mqtt]',
        16,
        "target[1].expect_status: [99] will not do; want a list, each a whole number",
    ),
    "no such role": (
        "[mqtt]",
        '[[target]]\nname = "x"\nurl = "http://a.example"\nrole = "boss"\n[mqtt]',
        16,
        'target[1].role: "boss" will not do; want one of "app", "reference"',
    ),
    "udp-echo without a key": (
        "[mqtt]",
        '[[target]]\nname = "x"\nurl = "udp-echo://192.0.2.1:7007"\n[mqtt]',
        15,
        "needs the site's key: run `jaga-collector echo-key tps-6408052001-901`",
    ),
    "udp-echo without a port": (
        "[mqtt]",
        f'{KEYED}[[target]]\nname = "x"\nurl = "udp-echo://192.0.2.1"\n[mqtt]',
        17,
        "add the port, like udp-echo://192.0.2.1:7007",
    ),
    "echo without key_file": (
        "[mqtt]",
        "[echo]\n[mqtt]",
        13,
        "echo.key_file: missing; add `key_file = …`: the key's file, e.g. \"/etc/jaga",
    ),
    "unknown mode": (
        "[[uplink]]",
        'mode = "party"\n[[uplink]]',
        4,
        'site.mode: "party" will not do; want one of "dormant", "ready", "polling-day"',
    ),
}


def load(tmp_path, text):
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return config.load(path)[0]


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_wrong(tmp_path, case):
    old, new, line, said = case
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace(old, new, 1))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/agent.toml:{line}: ")
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("lan", "serves"),
    [
        ("", False),
        ('[lan]\ndevices = ["lan0"]\n', True),
        ('[lan]\ndevices = ["lan0"]\ndns = false\n', False),
    ],
)
def test_the_lans_dns_is_ours_unless_said_otherwise(tmp_path, lan, serves):
    assert load(tmp_path, GOOD + lan).serves_dns is serves


def test_every_fault_is_told_at_once_in_the_files_order(tmp_path):
    text = GOOD.replace('"tps-6408052001-901"', "901").replace('"wan2"', '"wan 2"')
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text + "prot = 1\n[decide]\nhold_down_s = nan\n")
    lines = [line.split(": ", 2) for line in str(caught.value).splitlines()]
    assert [(place.rpartition(":")[2], key) for place, key, _ in lines] == [
        ("2", "site.id"),
        ("10", "uplink[2].device"),
        ("16", "mqtt.prot"),
        ("18", "decide.hold_down_s"),
    ]


def test_a_password_is_not_shown(tmp_path):
    with pytest.raises(ConfigError, match=r":16: mqtt\.password: this") as caught:
        load(tmp_path, GOOD + "password = 71830\n")
    assert "71830" not in str(caught.value)


def test_syntax_errors_name_the_line(tmp_path):
    with pytest.raises(ConfigError, match=r"not TOML: .*line 1"):
        load(tmp_path, GOOD.replace("[site]", "[site", 1))


def test_no_such_file(tmp_path):
    with pytest.raises(ConfigError, match="no such file; give its place with --config"):
        config.load(tmp_path / "none.toml")


def test_defaults_are_sound(tmp_path):
    loaded = load(tmp_path, GOOD)
    assert loaded.site.region == "6408"
    assert loaded.site.mode is Mode.POLLING_DAY
    assert [(t.name, t.host) for t in loaded.pulse_targets] == [
        ("cloudflare", "1.1.1.1"),
        ("google", "8.8.8.8"),
        ("quad9", "9.9.9.9"),
    ]
    assert loaded.policy.targets == ("cloudflare", "google", "quad9")
    assert loaded.check_targets == ()
    assert loaded.resolvers == (("1.1.1.1", 53), ("8.8.8.8", 53), ("9.9.9.9", 53))
    assert loaded.decide.failback is Failback.AFTER_HOLD_DOWN


SIREKAP = """
[[target]]
name = "google"
url = "https://sirekap-web.kpu.go.id/"
role = "app"
expect_status = [200, 204]
expect_text = "Sirekap"
ca = "/etc/jaga/sirekap-ca.crt"
interval_s = 1800

[[target]]
name = "dns"
url = "dns://8.8.4.4/kpu.go.id"
"""


def test_without_a_pulse_target_the_defaults_are_used_beside_the_checks(tmp_path):
    loaded = load(tmp_path, GOOD + SIREKAP)
    assert loaded.policy.targets == ("cloudflare", "8.8.8.8", "quad9")
    sirekap, dns = loaded.check_targets
    assert (sirekap.host, sirekap.port, sirekap.path) == (
        "sirekap-web.kpu.go.id",
        443,
        "/",
    )
    assert (sirekap.kind, sirekap.role) == (TargetKind.HTTPS, Role.APP)
    assert (sirekap.expect_status, sirekap.expect_text) == ((200, 204), "Sirekap")
    assert (sirekap.ca, sirekap.interval_s) == ("/etc/jaga/sirekap-ca.crt", 1800)
    assert (dns.query_name, dns.interval_s) == ("kpu.go.id", 900)
    assert loaded.resolvers == (("8.8.4.4", 53),)


def test_with_one_pulse_target_there_are_no_others(tmp_path):
    own = '[[target]]\nname = "own"\nurl = "udp-echo://192.0.2.1:7007"\n'
    echo = '[echo]\nkey_file = "echo.key"\n'
    assert load(tmp_path, GOOD + SIREKAP + own + echo).policy.targets == ("own",)


ECHO = """
[echo]
key_file = "echo.key"
[[target]]
name = "collector"
url = "udp-echo://192.0.2.1:7007"
"""


def test_a_udp_echo_target(tmp_path):
    loaded = load(tmp_path, GOOD + ECHO)
    (target,) = loaded.pulse_targets
    assert target.kind is TargetKind.UDP_ECHO
    assert target.address == "192.0.2.1:7007"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param(b"", "want 64 hexadecimal digits, this has 0", id="empty"),
        pytest.param(b"ab" * 31 + b"\n", "this has 62", id="short"),
        pytest.param(b"g" * 64, "want 64 hexadecimal digits", id="not hexadecimal"),
        pytest.param(b"\xff" * 64, "not text", id="binary"),
    ],
)
def test_a_bad_echo_key_says_where_to_get_one(tmp_path, content, said):
    path = tmp_path / "echo.key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        config.echo_key(path)
    message = str(caught.value)
    assert message.startswith(f"echo.key_file: {path}: ")
    assert said in message
    assert message.endswith("; get it with: jaga-collector echo-key SITE")
    if content:
        assert content.decode("latin-1") not in message


def test_an_echo_key(tmp_path):
    (tmp_path / "echo.key").write_text("0F" * 32 + "\n")
    assert config.echo_key(tmp_path / "echo.key") == b"\x0f" * 32


def test_uplinks_are_ranked_by_preference_then_by_place(tmp_path):
    ranked = load(tmp_path, GOOD).policy.uplinks
    assert [(u.name, u.preference) for u in ranked] == [("telkomsel", 1), ("fibre", 1)]


def test_hash_follows_the_text(tmp_path):
    path = tmp_path / "agent.toml"
    path.write_text(GOOD)
    first = config.load(path)[1]
    path.write_text(GOOD + "# a remark\n")
    assert config.load(path)[1] != first
