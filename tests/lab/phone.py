"""The phone at the polling site: measures what its user would feel.

    python3 -m lab.phone LOG [--interval-ms 50] [--timeout-s 2] [--upload-bit-s 400000]
                         [--ca CA.crt]

* Every interval it opens a NEW connection to the Sirekap stand-in, sends one line and
  reads the answer; attempts run side by side, each with its own timeout. With `--ca`
  each is a whole TLS handshake, and the certificate must be Sirekap's.
* One upload runs on one open connection, paced, and reconnects only when it is reset
  or refused: a connection that merely hangs is left hanging, as an app would.

LOG gets JSON lines, instants in CLOCK_BOOTTIME seconds:
  {"kind": "attempt", "start_s", "duration_s", "ok", "seen", "error"}
  {"kind": "upload", "at_s", "what": "connected" | "progress" | "broken", "seen",
   "total_bytes", "error"}
`seen` is the address by which the server knew us. Attempts that are under way at the
end are logged with error "unfinished". Judging is analysis.py's work. Ends at SIGTERM
or when its standard input closes; prints `ready` at its start.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.clock import boottime_s
from lab.topology import SINK_PORT, SIREKAP, SIREKAP_NAME, SIREKAP_PORT

if TYPE_CHECKING:
    from typing import TextIO

CHUNK_S = 0.05
RETRY_S = 0.1
CONNECT_TIMEOUT_S = 3.0


class Phone:
    """Opens, uploads and writes down. No judgement."""

    def __init__(
        self, log: TextIO, timeout_s: float, tls: ssl.SSLContext | None
    ) -> None:
        self._log = log
        self._timeout_s = timeout_s
        self._tls = tls

    def _note(self, **record: Any) -> None:
        self._log.write(json.dumps(record) + "\n")
        self._log.flush()

    async def attempt(self, number: int) -> None:
        """Open one new connection, ask one question, note how it went."""
        start_s = boottime_s()
        seen: str | None = None
        error: str | None = "unfinished"
        try:
            async with asyncio.timeout(self._timeout_s):
                seen = await self._ask(number)
            error = None
        except TimeoutError:
            error = "timeout"
        except (OSError, ValueError) as broken:
            error = type(broken).__name__
        finally:
            self._note(
                kind="attempt",
                start_s=start_s,
                duration_s=boottime_s() - start_s,
                ok=error is None,
                seen=seen,
                error=error,
            )

    async def _ask(self, number: int) -> str:
        reader, writer = await asyncio.open_connection(
            SIREKAP,
            SIREKAP_PORT,
            ssl=self._tls,
            server_hostname=SIREKAP_NAME if self._tls else None,
        )
        try:
            writer.write(f"tally {number}\n".encode())
            answer = json.loads(await reader.readline())
            if answer["line"] != f"tally {number}":
                msg = f"another's answer: {answer}"
                raise ValueError(msg)
            return str(answer["seen"])
        finally:
            writer.close()

    async def attempts(self, interval_s: float) -> None:
        """Start an attempt at each tick, whatever became of the ones before."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        number = 0
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self.attempt(number))
                number += 1
                await asyncio.sleep(started + number * interval_s - loop.time())

    async def upload(self, rate_bit_s: float) -> None:
        """Keep one upload going."""
        while True:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    reader, writer = await asyncio.open_connection(SIREKAP, SINK_PORT)
            except OSError as error:
                self._upload("broken", error=type(error).__name__)
                await asyncio.sleep(RETRY_S)
                continue
            self._upload("connected")
            sender = asyncio.create_task(self._send(writer, rate_bit_s))
            try:
                while line := await reader.readline():
                    ack = json.loads(line)
                    self._upload("progress", ack["seen"], ack["total_bytes"])
                self._upload("broken", error="closed by the server")
            except OSError as error:
                self._upload("broken", error=type(error).__name__)
            finally:
                sender.cancel()
                writer.close()
            await asyncio.sleep(RETRY_S)

    async def _send(self, writer: asyncio.StreamWriter, rate_bit_s: float) -> None:
        chunk = bytes(max(1, int(rate_bit_s * CHUNK_S / 8)))
        # A reset reaches the reader too, and that one reports it.
        with contextlib.suppress(OSError):
            while True:
                writer.write(chunk)
                await writer.drain()
                await asyncio.sleep(CHUNK_S)

    def _upload(
        self,
        what: str,
        seen: str | None = None,
        total_bytes: int | None = None,
        error: str | None = None,
    ) -> None:
        self._note(
            kind="upload",
            at_s=boottime_s(),
            what=what,
            seen=seen,
            total_bytes=total_bytes,
            error=error,
        )


async def measure(options: argparse.Namespace, log: TextIO) -> None:
    """Run until told to end, then let every attempt note how far it got."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    loop.add_reader(0, over.set)
    tls = ssl.create_default_context(cafile=options.ca) if options.ca else None
    phone = Phone(log, options.timeout_s, tls)
    tasks = [asyncio.create_task(phone.attempts(options.interval_ms / 1000))]
    if options.upload_bit_s:
        tasks.append(asyncio.create_task(phone.upload(options.upload_bit_s)))
    print("ready", flush=True)  # noqa: T201 - the starter waits for it
    ending = asyncio.create_task(over.wait())
    await asyncio.wait([ending, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in (ending, *tasks):
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m lab.phone")
    parser.add_argument("log", type=Path)
    parser.add_argument("--interval-ms", type=float, default=50)
    parser.add_argument("--timeout-s", type=float, default=2)
    parser.add_argument("--upload-bit-s", type=float, default=400_000)
    parser.add_argument("--ca", type=Path)
    options = parser.parse_args()
    with options.log.open("a") as log:
        asyncio.run(measure(options, log))


if __name__ == "__main__":
    main()
