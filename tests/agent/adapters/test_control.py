import asyncio
import json
import os
import signal
import socket
import stat
import sys

import pytest

from jaga_agent.adapters.control import StatusServer, ask, order, watch
from jaga_agent.errors import ConfigError, NotRunningError, StatusError


@pytest.fixture
async def server(tmp_path):
    calls = []

    def status():
        calls.append(1)
        return {"active": "fibre", "calls": len(calls)}

    server = StatusServer(tmp_path / "agent.sock", {"status": status})
    await server.start()
    yield tmp_path / "agent.sock"
    await server.close()
    assert not (tmp_path / "agent.sock").exists()


async def in_thread(work, *args, **kwargs):
    return await asyncio.to_thread(work, *args, **kwargs)


async def test_asked_once(server):
    assert await in_thread(ask, server) == {"active": "fibre", "calls": 1}


async def test_only_owner_and_group_may_ask(server):
    assert stat.S_IMODE(server.stat().st_mode) == 0o660


async def test_watched(server):
    def three():
        answers = watch(server, interval_s=0.1)
        got = [next(answers)["calls"] for _ in range(3)]
        answers.close()
        return got

    assert await in_thread(three) == [1, 2, 3]


async def raw(path, *lines):
    reader, writer = await asyncio.open_unix_connection(path)
    writer.writelines(lines)
    writer.write_eof()
    answers = [json.loads(line) async for line in reader]
    writer.close()
    await writer.wait_closed()
    return answers


@pytest.mark.parametrize(
    ("line", "want"),
    [
        (b'{"get":"secrets"}\n', "unknown 'secrets'; known: status"),
        (b"GET / HTTP/1.1\r\n", "not a request"),
        (b'{"get":"status","watch":-1}\n', "not a request"),
        (b'{"get":"status","do":"reboot"}\n', "not a request"),
        (b"[" * 20_000, "too long"),
    ],
)
async def test_a_bad_request_is_answered_and_harms_nobody(server, line, want):
    (answer,) = await raw(server, line)
    assert want in answer["error"]
    assert (await in_thread(ask, server))["active"] == "fibre"


async def test_several_requests_on_one_connection(server):
    answers = await raw(server, b'{"get":"status"}\n', b'{"get":"status"}\n')
    assert [a["calls"] for a in answers] == [1, 2]


async def test_too_many_clients_are_told(server):
    idle = [await asyncio.open_unix_connection(server) for _ in range(16)]
    with pytest.raises(StatusError, match="too many clients"):
        await in_thread(ask, server)
    for _, writer in idle:
        writer.close()
        await writer.wait_closed()
    async with asyncio.timeout(10):
        while True:
            try:
                await in_thread(ask, server)
            except StatusError:
                continue
            break


async def test_close_hangs_up_on_watchers(tmp_path):
    path = tmp_path / "agent.sock"
    server = StatusServer(path, {"status": dict})
    await server.start()
    seen = asyncio.Event()
    loop = asyncio.get_running_loop()

    def follow():
        for _ in watch(path, interval_s=0.1):
            loop.call_soon_threadsafe(seen.set)

    follower = asyncio.create_task(in_thread(follow))
    await asyncio.wait_for(seen.wait(), 5)
    await server.close()
    with pytest.raises(StatusError, match="hung up"):
        await asyncio.wait_for(follower, 5)


async def test_a_second_agent_is_refused(server):
    second = StatusServer(server, {})
    with pytest.raises(
        StatusError, match=rf"another jaga-agent is running \(pid {os.getpid()}, "
    ):
        await second.start()
    assert (await in_thread(ask, server))["active"] == "fibre"


DEAD = """
import asyncio, sys
from pathlib import Path
from jaga_agent.adapters.control import StatusServer
async def main():
    await StatusServer(Path(sys.argv[1]), {"status": dict}).start()
    print("up", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_the_socket_of_a_dead_agent_is_replaced(tmp_path):
    path = tmp_path / "agent.sock"
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DEAD, path, stdout=asyncio.subprocess.PIPE
    )
    assert await child.stdout.readline() == b"up\n"
    server = StatusServer(path, {"status": lambda: {"alive": True}})
    with pytest.raises(StatusError, match=f"pid {child.pid}"):
        await server.start()
    child.send_signal(signal.SIGKILL)
    await child.wait()
    assert path.is_socket()
    with pytest.raises(StatusError, match=r"not running .* systemctl start jaga-agent"):
        await in_thread(ask, path)
    await server.start()
    assert await in_thread(ask, path) == {"alive": True}
    await server.close()


async def test_an_impossible_path_is_one_clear_line(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / ("x" * 120), tmp_path / "file" / "agent.sock"):
        with pytest.raises(StatusError, match="cannot serve the status socket"):
            await StatusServer(path, {}).start()


def test_not_running_is_said_with_what_to_do(tmp_path):
    with pytest.raises(StatusError, match=r"start it: sudo systemctl start jaga-agent"):
        ask(tmp_path / "agent.sock")


def test_an_agent_that_hangs_is_said(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "agent.sock"))
        listener.listen()
        with pytest.raises(StatusError, match=r"does not answer within 0\.2 s"):
            ask(tmp_path / "agent.sock", timeout_s=0.2)


ASK_AS_NOBODY = """
import os, sys
from pathlib import Path
from jaga_agent.adapters.control import ask
from jaga_agent.errors import StatusError
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    ask(Path(sys.argv[1]))
except StatusError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
async def test_without_permission_sudo_is_named(server, monkeypatch):
    for directory in [server.parent, *server.parent.parents][:4]:
        mode = directory.stat().st_mode
        if not mode & stat.S_IXOTH:
            directory.chmod(mode | stat.S_IXOTH)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        ASK_AS_NOBODY,
        str(server),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert out.decode().strip() == f"no permission for {server}; use sudo"


async def test_an_order_is_obeyed_or_refused_in_words(tmp_path):
    done = []

    def add(uplink, used_bytes):
        if uplink == "none":
            msg = "no uplink is named 'none'"
            raise ConfigError(msg)
        done.append((uplink, used_bytes))
        return {"uplink": uplink}

    path = tmp_path / "agent.sock"
    with pytest.raises(NotRunningError, match="sudo systemctl start jaga-agent"):
        await in_thread(order, path, "add", uplink="xl", used_bytes=5)
    server = StatusServer(path, {"status": dict}, {"add": add})
    await server.start()
    try:
        answer = await in_thread(order, path, "add", uplink="xl", used_bytes=5)
        assert (answer, done) == ({"uplink": "xl"}, [("xl", 5)])
        for arguments, said in (
            ({"uplink": "none", "used_bytes": 0}, "refused: no uplink is named 'none'"),
            ({"uplink": "xl"}, "refused: not this order's arguments: .*used_bytes"),
        ):
            with pytest.raises(StatusError, match=said):
                await in_thread(order, path, "add", **arguments)
        with pytest.raises(StatusError, match="unknown 'sing'; known: add, status"):
            await in_thread(ask, path, "sing")
        assert len(done) == 1
    finally:
        await server.close()
