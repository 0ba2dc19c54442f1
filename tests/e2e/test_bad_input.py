"""Each bad input: one clear line for the person who must act, and a non-zero exit."""

import json
import socket
import sqlite3
import subprocess
from contextlib import closing

import pytest

from demo.stage import BIN

AGENT = """\
[site]
id = "tps-6408052001-901"

[[uplink]]
name = "telkomsel"
device = "lo"

[mqtt]
host = "127.0.0.1"
tls = false

[state]
directory = "{home}"
socket = "{home}/agent.sock"
journal = ""
run_directory = "{home}"
"""


@pytest.fixture
def home(tmp_path):
    (tmp_path / "agent.toml").write_text(AGENT.format(home=tmp_path))
    return tmp_path


def fails(*command, **options):
    """Run to the end; return the one line it said."""
    ran = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        **options,
    )
    assert ran.returncode not in (0, None), ran
    assert "Traceback" not in ran.stderr
    said = [line for line in ran.stderr.splitlines() if line.strip()]
    assert len(said) == 1, ran.stderr
    return said[0]


def change(home, old, new):
    path = home / "agent.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("command", ["run", "check-config"])
def test_no_configuration(command, home):
    said = fails(BIN / "jaga-agent", command, "--config", home / "none.toml")
    assert (
        said
        == f"jaga-agent: {home}/none.toml: no such file; give its place with --config"
    )


@pytest.mark.parametrize("command", ["run", "check-config"])
def test_missing_key(command, home):
    change(home, 'host = "127.0.0.1"\n', "")
    said = fails(BIN / "jaga-agent", command, "--config", home / "agent.toml")
    assert "agent.toml:8: mqtt.host: missing; add `host = …`" in said


@pytest.mark.parametrize("command", ["run", "check-config"])
def test_unknown_key(command, home):
    change(home, "device =", "devise =")
    said = fails(BIN / "jaga-agent", command, "--config", home / "agent.toml")
    assert "agent.toml:6: uplink[1].devise: unknown key; did you mean `device`?" in said


def test_a_device_that_does_not_exist(home):
    change(home, '"lo"', '"wan7"')
    said = fails(BIN / "jaga-agent", "check-config", "--config", home / "agent.toml")
    hint, _, present = said.partition("or name one of: ")
    assert "device wan7 does not exist here; plug it in, " in hint
    assert "lo" in present.split(", ")


@pytest.mark.netns
def test_a_certificate_that_is_not_there(home):
    change(home, "tls = false", f'ca = "{home}/ca.crt"')
    said = fails(BIN / "jaga-agent", "check-config", "--config", home / "agent.toml")
    assert f"mqtt.ca: there is no file {home}/ca.crt; copy it there" in said
    said = fails(
        *("unshare", "--net", BIN / "jaga-agent", "run"),
        *("--config", home / "agent.toml"),
    )
    assert f"{home}/ca.crt is not a readable PEM certificate" in said


def test_no_permission(home):
    said = fails(
        *("setpriv", "--bounding-set=-net_admin", BIN / "jaga-agent", "run"),
        *("--config", home / "agent.toml"),
    )
    assert "no permission to change routes (CAP_NET_ADMIN); use sudo, or start" in said


def test_no_agent_to_ask(home):
    said = fails(BIN / "jaga-agent", "status", "--socket", home / "agent.sock")
    assert "jaga-agent is not running" in said
    assert "sudo systemctl start jaga-agent" in said


@pytest.mark.netns
def test_a_spool_from_a_newer_version(home):
    with closing(sqlite3.connect(home / "spool.sqlite3")) as db:
        db.execute("PRAGMA user_version = 999")
    # In a namespace of its own: should it start after all, it touches nothing.
    said = fails(
        *("unshare", "--net", BIN / "jaga-agent", "run"),
        *("--config", home / "agent.toml"),
    )
    assert "spool.sqlite3" in said
    assert "newer" in said


def test_a_journal_that_is_none(home):
    (home / "journal.jsonl").write_text(json.dumps({"hello": 1}))
    said = fails(BIN / "jaga-agent", "replay", home / "journal.jsonl")
    assert ":1: not a journal of this version" in said


@pytest.fixture
def collector(tmp_path, shared_data, free_port):
    def write(port=None, store="collector.sqlite3", extra=""):
        path = tmp_path / "collector.toml"
        path.write_text(
            f'[collector]\nregion = "6408"\ndistrict = "Kutai Timur"\n'
            f'sites = "{shared_data}/kutim-sites.csv"\n{extra}'
            f'[mqtt]\nhost = "127.0.0.1"\nport = {free_port()}\ntls = false\n'
            f'[store]\npath = "{store}"\n[web]\nport = {port or free_port()}\n'
        )
        return path

    return write


def test_the_pages_port_is_taken(collector):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = fails(BIN / "jaga-collector", "run", "--config", collector(port))
    assert f"port {port} is taken" in said


def test_a_database_from_a_newer_version(collector, tmp_path):
    with closing(sqlite3.connect(tmp_path / "collector.sqlite3")) as db:
        db.execute("PRAGMA user_version = 999")
    said = fails(BIN / "jaga-collector", "run", "--config", collector())
    assert "collector.sqlite3" in said
    assert "999" in said


@pytest.mark.parametrize("command", ["run", "check-config", "tail", "sites"])
def test_an_unknown_collector_key(command, collector):
    path = collector(extra='kecamatam = "x.geojson"\n')
    said = fails(BIN / "jaga-collector", command, "--config", path)
    assert "collector.toml:5: " in said
    assert "collector.kecamatam" in said
    assert "did you mean" in said
    assert said.rstrip("?`").endswith("kecamatan")
