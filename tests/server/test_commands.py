"""`jaga-collector` as an operator runs it: answers, and faults told in one line."""

import json
import socket
import sqlite3
import subprocess

import pytest

SITE = "tps-6408012001-001"


def run(*command, **more):
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        **more,
    )


@pytest.fixture
def idle(collector):
    """A collector's folder; no broker, nothing started."""
    return collector(1)


def fails(done):
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("jaga-collector: ")
    return done.stderr


def test_check_config(idle):
    done = run(*idle.command("check-config"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "good; 3 sites" in done.stdout
    idle.config.write_text(idle.config.read_text() + "prot = 1\n")
    assert "web.prot: unknown key; did you mean `port`?" in fails(
        run(*idle.command("check-config"))
    )


def test_no_configuration(idle):
    idle.config.unlink()
    assert "no such file; give its place with --config" in fails(
        run(*idle.command("run"))
    )


def test_port_taken(idle):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", idle.port))
        holder.listen()
        text = fails(run(*idle.command("run")))
    assert f"port {idle.port} is taken; choose another with [web] port" in text


def test_address_of_another_machine(idle):
    idle.config.write_text(idle.config.read_text() + 'host = "192.0.2.1"\n')
    assert "check [web] host and port" in fails(run(*idle.command("run")))


def test_newer_database(idle):
    db = sqlite3.connect(idle.database)
    db.execute("PRAGMA user_version = 99")
    db.close()
    assert "written by a newer collector (version 99" in fails(
        run(*idle.command("run"))
    )


def test_database_is_a_directory(idle):
    idle.database.mkdir()
    assert "check [store] path" in fails(run(*idle.command("run")))


def test_no_database_yet(idle):
    assert "run the collector first" in fails(run(*idle.command("sites")))


def test_version(idle):
    done = run(*idle.command("--version")[:-2])
    assert done.stdout.startswith("jaga-collector 0.")


@pytest.mark.slow
def test_tail_and_sites(broker, room, publisher, simulate, wait_until):
    tail = subprocess.Popen(
        [*room.command("tail"), "--site", SITE], stdout=subprocess.PIPE, text=True
    )
    try:
        site, other = simulate(SITE), simulate("tps-6408012001-002")
        link = publisher(broker.port)
        link.send(site.topic("status"), site.status(), retain=True)
        assert json.loads(tail.stdout.readline())["status"]["online"] is True
        link.all(
            [
                (other.topic("heartbeat"), other.heartbeat()),
                (site.topic("heartbeat"), site.heartbeat()),
                (site.topic("event"), b"poison"),
            ]
        )
        beat = json.loads(tail.stdout.readline())
        assert beat["site"] == SITE
        assert beat["heartbeat"]["boot"] == site.boot.hex()
        assert beat["heartbeat"]["uplinks"][0]["name"] == "telkomsel"
        assert json.loads(tail.stdout.readline())["refused"] == "malformed"
        link.all([(site.topic("history"), site.history([site.event()]))])
        (item,) = json.loads(tail.stdout.readline())["history"]["items"]
        assert item["event"]["rule"] == "failover"
    finally:
        tail.terminate()
        tail.wait(10)
        tail.stdout.close()
    assert tail.returncode == 0
    # The collector's own session has everything, tail or not.
    wait_until(lambda: len(room.records()) == 3, "stored")
    done = run(*room.command("sites"))
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "online" in lines[SITE]
    assert "+telkomsel 40ms +indosat 40ms" in lines[SITE]
    assert "never" in lines["kpu-kutim"]


@pytest.mark.slow
def test_the_service_manager_is_told(idle, tmp_path, monkeypatch):
    path = tmp_path / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        monkeypatch.setenv("WATCHDOG_USEC", "400000")
        idle.start()
        heard = [manager.recv(100) for _ in range(4)]
        assert heard[0] == b"READY=1"
        assert set(heard[1:]) == {b"WATCHDOG=1"}
        assert idle.stop() == 0
        manager.setblocking(False)
        rest = []
        while True:
            try:
                rest.append(manager.recv(100))
            except BlockingIOError:
                break
        assert rest[-1] == b"STOPPING=1"
