"""One bad file for each way to be wrong; the message names place and fix."""

import pytest

from jaga_server import config, site_list
from jaga_server.core.model import Mode
from jaga_server.errors import ConfigError

GOOD = """[collector]
region = "6408"
district = "Kutai Timur"
sites = "sites.csv"
[mqtt]
host = "127.0.0.1"
tls = false
[store]
path = "collector.db"
"""
HEADER = ",".join(site_list.COLUMNS)
ROW = "tps-6408012001-001,TPS 001,umum,Senyiur,Muara Ancalong,64.08.01.2001,0.5,116.4,XL,,"


@pytest.fixture
def write(tmp_path):
    def file(text=GOOD, rows=(ROW,), header=HEADER):
        (tmp_path / "sites.csv").write_text("\n".join([header, *rows]) + "\n")
        path = tmp_path / "collector.toml"
        path.write_text(text)
        return path

    return file


def test_defaults(write, tmp_path):
    got = config.load(write())
    assert got.mqtt.port == 1883
    assert got.mqtt.receive_maximum == 1000
    assert (got.web_host, got.web_port) == ("127.0.0.1", 8080)
    assert got.timezone == "Asia/Makassar"
    assert got.store == tmp_path / "collector.db"
    assert got.thresholds.interval_ms(Mode.DORMANT) == 300_000
    assert got.kecamatan is None
    assert got.sites[0].providers == ("XL",)


def test_tls_is_on_unless_said_otherwise(write):
    got = config.load(write(GOOD.replace("tls = false\n", "")))
    assert got.mqtt.tls
    assert got.mqtt.port == 8883


def test_unix_socket(write, tmp_path):
    text = GOOD.replace('host = "127.0.0.1"\ntls = false', 'socket = "mqtt.sock"')
    got = config.load(write(text))
    assert got.mqtt.socket == tmp_path / "mqtt.sock"
    assert not got.mqtt.tls
    assert got.mqtt.address == f"unix:{tmp_path}/mqtt.sock"


def test_a_password_is_not_shown(write):
    text = GOOD.replace(
        "tls = false", 'tls = false\nusername = "u"\npassword = "geheim"'
    )
    assert "geheim" not in repr(config.load(write(text)))


BAD = {
    "unknown key": ("tls = false", "tls = false\nhots = 1", ":8: mqtt.hots: unknown key; did you mean `host`?"),
    "unknown section": ("[store]", "[stroe]", ":8: stroe: unknown key; did you mean `store`?"),
    "missing": ('region = "6408"\n', "", ":1: collector.region: missing; add `region = …`: the Kemendagri code"),
    "wrong type": ("tls = false", "tls = 0", ":7: mqtt.tls: 0 will not do; want true or false"),
    "number as text": ("tls = false", 'tls = false\nport = "1883"', ':8: mqtt.port: "1883" will not do; want a port, 1 to 65535'),
    "out of range": ("tls = false", "tls = false\nport = 70000", ":8: mqtt.port: 70000 will not do; want a port"),
    "bool is no number": ("tls = false", "tls = false\nport = true", ":8: mqtt.port: true will not do"),
    "not a number": ("[store]", "[presence]\ninterval_ready_s = nan\n[store]", ":9: presence.interval_ready_s: nan will not do"),
    "pattern": ('"6408"', '"64.08"', ':2: collector.region: "64.08" will not do; want the Kemendagri code without dots'),
    "empty": ('"Kutai Timur"', '" "', ':3: collector.district: " " will not do'),
    "section as key": ("[store]\n", "", ":8: mqtt.path: unknown key"),
    "no TOML": ("[mqtt]", "[mqtt", "not TOML"),
    "no broker": ('host = "127.0.0.1"\n', "", ":5: mqtt: needs either host (and port) or socket"),
    "two brokers": ("tls = false", 'tls = false\nsocket = "s"', ":5: mqtt: needs either host (and port) or socket, not both"),
    "tls file without tls": ("tls = false", 'tls = false\nca = "sites.csv"', ":8: mqtt.ca: has no meaning with tls = false"),
    "cert without key": ("tls = false", 'cert = "sites.csv"', ":5: mqtt.key: missing; `cert` and `key` go together"),
    "no such file": ("tls = false", 'ca = "ca.crt"', ":7: mqtt.ca: there is no file"),
    "password alone": ("tls = false", 'tls = false\npassword = "x"', ":8: mqtt.password: needs mqtt.username"),
    "no such zone": ('district', 'timezone = "WITA"\ndistrict', ':3: collector.timezone: "WITA" is unknown here'),
    "no directory": ('"collector.db"', '"no/collector.db"', ":9: store.path: there is no directory"),
    "no site list": ('"sites.csv"', '"site.csv"', "site list"),
    "echo without a secret": ("[store]", "[echo]\n[store]", ":8: echo.secret_file: missing; add `secret_file = …`: the master"),
    "echo at a name": ("[store]", '[echo]\nsecret_file = "s"\nlisten = "localhost"\n[store]', ':10: echo.listen: "localhost" will not do; want an IPv4 address'),
    "echo port": ("[store]", '[echo]\nsecret_file = "s"\nport = 0\n[store]', ":10: echo.port: 0 will not do; want a port"),
    "presence upside down": ("[store]", "[presence]\noffline_missed = 2\n[store]", ":9: presence.offline_missed: must be more than"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "want"), BAD.values(), ids=BAD)
def test_bad_config(write, old, new, want):
    assert old in GOOD
    path = write(GOOD.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert want in str(caught.value)


ECHO = '[echo]\nsecret_file = "echo.secret"\n'


def test_echo_is_off_unless_asked_for(write):
    assert config.load(write()).echo is None


def test_echo(write, tmp_path):
    (tmp_path / "echo.secret").write_text("5a" * 32 + "\n")
    (tmp_path / "echo.secret").chmod(0o640)
    got = config.load(write(GOOD + ECHO)).echo
    assert (got.listen, got.port, got.master) == ("0.0.0.0", 7007, b"Z" * 32)  # noqa: S104 (the default)
    assert "ZZ" not in repr(got)


BAD_SECRETS = {
    "missing": (None, 0o600, "there is no file"),
    "short": (b"5a" * 16, 0o600, "want 64 hexadecimal digits, this has 32 characters"),
    "not hexadecimal": (b"geheim!!" * 8, 0o600, "want 64 hexadecimal digits"),
    "binary": (bytes(range(128, 192)), 0o600, "not text"),
    "for everybody": (b"5a" * 32, 0o644, "everybody may use"),
}


@pytest.mark.parametrize(
    ("content", "mode", "want"), BAD_SECRETS.values(), ids=BAD_SECRETS
)
def test_bad_secret(write, tmp_path, content, mode, want):
    path = tmp_path / "echo.secret"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        config.load(write(GOOD + ECHO))
    message = str(caught.value)
    assert message.startswith("echo.secret_file: ")
    assert want in message
    assert str(path) in message
    assert "\n" not in message
    assert "geheim" not in message


def test_every_fault_at_once(write):
    text = GOOD.replace("tls = false", "port = 0\nhots = 1").replace('"6408"', "6408")
    with pytest.raises(ConfigError) as caught:
        config.load(write(text))
    assert [line.split(": ")[0].rpartition(":")[2] for line in str(caught.value).split("\n")] == ["2", "7", "8"]  # fmt: skip


BAD_ROWS = {
    "site id": (
        ROW.replace("tps-", "TPS_"),
        "site_id 'TPS_6408012001-001' will not do",
    ),
    "kind": (
        ROW.replace("umum", "besar"),
        "kind 'besar' is not one of umum, khusus, kantor",
    ),
    "no name": (ROW.replace("TPS 001", ""), "name is empty"),
    "no kecamatan": (ROW.replace("Muara Ancalong", " "), "kecamatan is empty"),
    "latitude": (ROW.replace("0.5,", "95,"), "lat '95' is not degrees"),
    "longitude": (ROW.replace("116.4", "east"), "lon 'east' is not degrees"),
    "not a number": (ROW.replace("116.4", "nan"), "lon 'nan' is not degrees"),
    "half a position": (ROW.replace("116.4", ""), "lat and lon go together"),
    "no uplink": (ROW.replace("XL", ""), "uplink1 is empty"),
    "columns": (ROW + ",more", "12 columns instead of 11"),
}


@pytest.mark.parametrize(("row", "want"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_bad_site(write, row, want):
    with pytest.raises(ConfigError) as caught:
        config.load(write(rows=(row,)))
    assert "sites.csv:2: " in str(caught.value)
    assert want in str(caught.value)


def test_every_bad_row_is_told(write):
    rows = (
        ROW,
        ROW,
        ROW.replace("001", "002").replace("umum", "x"),
        ROW.replace("tps", "T"),
    )
    with pytest.raises(ConfigError) as caught:
        config.load(write(rows=rows))
    lines = str(caught.value).split("\n")
    assert [line.split(":")[1] for line in lines] == ["3", "4", "5"]
    assert "stands in line 2 already" in lines[0]


def test_wrong_header_and_empty_list(write):
    with pytest.raises(ConfigError, match="the first line must be site_id,name"):
        config.load(write(header="id,name"))
    with pytest.raises(ConfigError, match="no site in the list"):
        config.load(write(rows=()))


def test_the_real_list(shared_data):
    sites = site_list.read(shared_data / "kutim-sites.csv")
    assert len(sites) == 702
    assert sites[0].name == "Kantor KPU Kutai Timur, Bukit Pelangi"
    assert {site.kind for site in sites} == {"umum", "khusus", "kantor"}
