"""What runs inside a test's network namespace; JSON lines in, JSON lines out.

worker.py serve NAME     answer every line on TCP port 7 with NAME
worker.py agent CONFIG   obey commands: the reconciler on the real kernel
worker.py client         obey commands: TCP connections only
"""

import asyncio
import collections
import errno
import json
import os
import socket
import sys
import time
from contextlib import aclosing, suppress
from dataclasses import asdict

TARGET = ("203.0.113.1", 7)
PATIENCE_S = 2.0


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def serve(name):
    async def answer(reader, writer):
        while line := await reader.readline():
            if line.startswith(b"give "):
                writer.write(bytes(int(line.split()[1])))
            else:
                writer.write(f"{name}\n".encode())
            await writer.drain()
        writer.close()

    class Dns(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, addr):
            self.transport.sendto(b"answer", addr)

    with suppress(OSError):  # who serves without the target's address has no DNS
        await asyncio.get_running_loop().create_datagram_endpoint(
            Dns, local_addr=(TARGET[0], 53)
        )
    # Every address, and only of this test's namespace; also by IPv6 where there is one.
    server = await asyncio.start_server(answer, None, TARGET[1])
    say("ready")
    async with server:
        await server.serve_forever()


class Connections:
    def __init__(self):
        self.open = {}

    async def connect(self, key=None, device=None):
        """Connect, ask who is there; keep the connection if it has a key."""
        sock = socket.socket()
        sock.setblocking(False)
        if device is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await loop.sock_connect(sock, TARGET)
        except (TimeoutError, OSError) as error:
            sock.close()
            return type(error).__name__
        answer = await self._ask(sock)
        if key is None:
            sock.close()
        else:
            self.open[key] = sock
        return answer

    async def echo(self, key):
        return await self._ask(self.open[key])

    async def upload(self, size_bytes):
        """Send so much in one line on a new connection; return who took it."""
        return await self._exchange(bytes(size_bytes) + b"\n", 1)

    async def download(self, size_bytes):
        """Ask for so much on a new connection; return how much came, or what failed."""
        return await self._exchange(f"give {size_bytes}\n".encode(), size_bytes)

    async def _exchange(self, request, wanted_bytes):
        try:
            async with asyncio.timeout(PATIENCE_S):
                reader, writer = await asyncio.open_connection(*TARGET)
                writer.write(request)
                got = await reader.readexactly(wanted_bytes)
                got += await reader.readline() if wanted_bytes == 1 else b""
        except (TimeoutError, OSError) as error:
            return type(error).__name__
        writer.close()
        return got.decode().strip() if wanted_bytes == 1 else len(got)

    async def attempt(self, address, source=None, kind="tcp"):
        """Try an IPv6 address; return what came of it and after how many ms."""
        types = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
        loop = asyncio.get_running_loop()
        began = time.perf_counter()
        with socket.socket(socket.AF_INET6, types[kind]) as sock:
            sock.setblocking(False)
            if source is not None:
                sock.bind((source, 0))
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await loop.sock_connect(sock, (address, TARGET[1]))
                    await loop.sock_sendall(sock, b"who\n")
                    outcome = (await loop.sock_recv(sock, 100)).decode().strip()
            except (TimeoutError, OSError) as error:
                outcome = type(error).__name__
        return outcome, (time.perf_counter() - began) * 1000

    async def flood(self, seconds):
        """Send datagrams without pause; return how many times each outcome was met."""
        met = collections.Counter()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                try:
                    # Unconnected: each one is routed anew.
                    sock.sendto(b"x", (TARGET[0], 9))
                    met["sent"] += 1
                except OSError as error:
                    met[errno.errorcode[error.errno]] += 1
        return met

    async def ask_dns(self, times=1):
        """Send datagrams to port 53, where nothing answers or something does."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(PATIENCE_S)
            answers = 0
            for _ in range(times):
                sock.sendto(b"query", (TARGET[0], 53))
                with suppress(OSError):
                    answers += sock.recv(100) == b"answer"
            return answers

    async def knock(self, port):
        """Connect to a port where nobody listens; return how it ends."""
        sock = socket.socket()
        sock.setblocking(False)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.get_running_loop().sock_connect(sock, (TARGET[0], port))
        except (TimeoutError, OSError) as error:
            return type(error).__name__
        finally:
            sock.close()

    async def _ask(self, sock):
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await loop.sock_sendall(sock, b"who\n")
                return (await loop.sock_recv(sock, 100)).decode().strip() or "closed"
        except (TimeoutError, OSError) as error:
            return type(error).__name__


class Agent(Connections):
    def __init__(self, config):
        super().__init__()
        from jaga_agent.adapters.conntrack import NetlinkConntrack
        from jaga_agent.adapters.devices import SysDevices
        from jaga_agent.adapters.firewall import NftFirewall
        from jaga_agent.adapters.flow_counters import NftFlowCounters
        from jaga_agent.adapters.netlink import NetlinkKernel
        from jaga_agent.adapters.sysctl import ProcSettings
        from jaga_agent.core.routes import RoutedUplink, RoutingConfig
        from jaga_agent.reconcile import Reconciler

        self.kernel = NetlinkKernel(
            event_buffer_bytes=config.get("event_buffer", 1 << 20)
        )
        routing = RoutingConfig(
            tuple(RoutedUplink(*uplink) for uplink in config["uplinks"]),
            tuple(config["lan"]),
            config.get("refuse_ipv6", True),
        )
        self.devices = SysDevices(routing.devices)
        self.flow_counters = NftFlowCounters(routing)
        self.reconciler = Reconciler(
            routing,
            kernel=self.kernel,
            conntrack=NetlinkConntrack(),
            firewall=NftFirewall(config.get("nft", "nft")),
            settings=ProcSettings(),
            clock=self,
        )
        self.events = []
        if config.get("uid"):
            os.setgroups([])
            os.setresgid(*[config["uid"]] * 3)
            os.setresuid(*[config["uid"]] * 3)

    def now(self):
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sync(self, active=None):
        return _plain(await self.reconciler.sync(active))

    async def switch(self, active, previous=None):
        return _plain(await self.reconciler.switch(active, previous))

    async def observe(self):
        return {
            d: asdict(link) for d, link in (await self.reconciler.observe()).items()
        }

    async def prune(self):
        return await self.reconciler.prune()

    async def read_devices(self):
        return {device: asdict(seen) for device, seen in self.devices.read().items()}

    async def read_flows(self):
        found = self.flow_counters.read()
        return found and {name: asdict(flows) for name, flows in found.items()}

    async def cost_us(self, what, rounds=1000):
        """Return the mean time of one reading."""
        read = {"devices": self.devices, "flows": self.flow_counters}[what].read
        began = time.perf_counter_ns()
        for _ in range(rounds):
            read()
        return (time.perf_counter_ns() - began) / rounds / 1000

    async def watch(self):
        """Start to listen; return once the kernel's events are subscribed."""
        listening = asyncio.Event()

        async def listen():
            async with aclosing(self.kernel.watch()) as events:
                async for event in events:
                    self.events.append((event.value, self.now()))
                    listening.set()

        self.listener = asyncio.create_task(listen())
        await listening.wait()

    async def events_since(self, count):
        """Wait for more events than `count`, or until patience ends."""
        for _ in range(int(PATIENCE_S * 1000)):
            if len(self.events) > count:
                break
            await asyncio.sleep(0.001)
        return self.events[count:]

    async def block(self, seconds):
        """Stop the event loop, as an overloaded Pi would."""
        time.sleep(seconds)  # noqa: ASYNC251 to block is the purpose


def _plain(report):
    fields = {name: getattr(report, name) for name in report.__dataclass_fields__}
    fields["failures"] = [
        f"{type(failure).__name__}: {failure}" for failure in report.failures
    ]
    fields.pop("links", None)
    return fields


async def obey(subject):
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    say("ready")
    while line := await reader.readline():
        name, arguments = json.loads(line)
        try:
            reply = {"ok": await getattr(subject, name)(**arguments)}
        except Exception as error:  # noqa: BLE001 handed to the test, which raises it
            reply = {"error": f"{type(error).__name__}: {error}"}
        say(json.dumps(reply))


def main():
    match sys.argv[1:]:
        case ["serve", name]:
            asyncio.run(serve(name))
        case ["client"]:
            asyncio.run(obey(Connections()))
        case ["agent", config]:

            async def agent():
                await obey(Agent(json.loads(config)))

            asyncio.run(agent())


main()
