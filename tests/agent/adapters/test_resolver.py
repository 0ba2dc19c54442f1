"""The resolver's door, on a real dnsmasq."""

import os
import subprocess

import pytest

from jaga_agent.adapters.resolver import Dnsmasq
from jaga_agent.errors import ResolverError
from lab.namespace import end, find, popen
from support.ports import free_port
from support.waiting import until


@pytest.fixture
def dnsmasq(tmp_path):
    """dnsmasq on loopback; its log says what it was told."""
    (tmp_path / "servers").touch()
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = popen(
            [
                "dnsmasq",
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                f"--pid-file={tmp_path / 'pid'}",
                f"--user={os.environ.get('USER') or 'root'}",
                "--no-resolv",
                "--no-hosts",
                f"--servers-file={tmp_path / 'servers'}",
                f"--port={free_port()}",
                "--listen-address=127.0.0.1",
                "--bind-interfaces",
                "--log-facility=-",
            ],
            stderr=out,
        )
    until((tmp_path / "pid").is_file, "dnsmasq's pid file")
    yield log
    end([process])


def used(log):
    return log.read_text().count("using nameserver 192.0.2.7#53")


def test_it_uses_what_it_is_told_and_is_told_once(dnsmasq, tmp_path):
    door = Dnsmasq(tmp_path)
    assert door.load("server=192.0.2.7@lo\n") is True
    told = until(lambda: used(dnsmasq), "dnsmasq uses the server")
    assert door.load("server=192.0.2.7@lo\n") is False
    assert Dnsmasq(tmp_path).load("server=192.0.2.7@lo\n") is False, "after a restart"
    assert door.load("server=192.0.2.8@lo\n") is True
    until(lambda: "192.0.2.8#53" in dnsmasq.read_text(), "the other server")
    assert used(dnsmasq) == told
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "pid", "servers"]


def test_a_resolver_that_does_not_run_reads_the_list_when_it_starts(tmp_path):
    door = Dnsmasq(tmp_path)
    with pytest.raises(ResolverError, match="sudo systemctl start jaga-dns"):
        door.load("server=192.0.2.7@lo\n")
    assert (tmp_path / "servers").read_text() == "server=192.0.2.7@lo\n"


@pytest.mark.skipif(find("dnsmasq") is None, reason="needs dnsmasq")
def test_one_that_was_away_is_told_when_it_is_back(tmp_path, request):
    door = Dnsmasq(tmp_path)
    with pytest.raises(ResolverError):
        door.load("server=192.0.2.7@lo\n")
    request.getfixturevalue("dnsmasq")
    assert door.load("server=192.0.2.7@lo\n") is True


def test_an_old_pid_file_hurts_nobody(tmp_path):
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            (tmp_path / "pid").write_text(f"{stranger.pid}\n")
            with pytest.raises(ResolverError, match="does not run"):
                Dnsmasq(tmp_path).load("server=192.0.2.7@lo\n")
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_missing_directory_names_the_service(tmp_path):
    with pytest.raises(ResolverError, match=r"cannot write .*: No such file"):
        Dnsmasq(tmp_path / "none").load("server=192.0.2.7@lo\n")
