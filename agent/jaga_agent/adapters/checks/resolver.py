"""A name's addresses, asked through the device that is checked.

The system's resolver would ask through whatever carries the site now, and answer from
its cache. Servers are asked in turn, the next one while the last may still answer;
each question has its own port and number, and an answer counts only from the server
asked, with number and question as sent.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from typing import TYPE_CHECKING, Final

from jaga_agent.adapters.checks import bound, dns_message
from jaga_agent.adapters.checks.outcome import CheckFailure
from jaga_agent.core.events import CheckVerdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaga_agent.adapters.checks.outcome import Measure

NEXT_SERVER_S: Final = 1.0
"""Then the next server is asked as well: public resolvers answer in tens of
milliseconds, a sleeping LTE radio in a second."""
AGAIN_S: Final = (1.0, 2.0)
"""Waits after which a question is sent again: one lost packet is no dead resolver."""

_UDP_HEADERS = 28


async def resolve(
    measure: Measure, servers: Sequence[tuple[str, int]], name: str, cap_s: float
) -> tuple[str, ...]:
    """Return the name's addresses; raises CheckFailure when no server has any."""
    waiting = list(servers)
    asked: set[asyncio.Task[tuple[str, ...]]] = set()
    failures: list[CheckFailure] = []
    silent = [address for address, _ in servers]
    loop = asyncio.get_running_loop()
    end = loop.time() + cap_s
    try:
        while (waiting or asked) and loop.time() < end:
            if waiting:
                server = waiting.pop(0)
                asked.add(loop.create_task(_ask(measure, server, name)))
            patience_s = end - loop.time()
            done, asked = await asyncio.wait(
                asked,
                timeout=min(NEXT_SERVER_S, patience_s) if waiting else patience_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                error = task.exception()
                if error is None:
                    return task.result()
                if not isinstance(error, CheckFailure):
                    raise error
                failures.append(error)
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    raise _all_failed(failures, silent, cap_s)


def _all_failed(
    failures: list[CheckFailure], servers: list[str], cap_s: float
) -> CheckFailure:
    said = "; ".join(dict.fromkeys(failure.detail for failure in failures))
    verdicts = {failure.verdict for failure in failures}
    if len(failures) == len(servers) and len(verdicts) == 1:
        return CheckFailure(verdicts.pop(), said)
    if not failures:
        said = f"no answer from {', '.join(servers)} in {cap_s:g} s"
    elif len(failures) < len(servers):
        said += f"; no answer from the others in {cap_s:g} s"
    return CheckFailure(CheckVerdict.DNS_FAILED, said)


async def _ask(measure: Measure, server: tuple[str, int], name: str) -> tuple[str, ...]:
    """Ask one server until it answers; raises CheckFailure."""
    loop = asyncio.get_running_loop()
    identifier = secrets.randbelow(0x10000)
    packet = dns_message.question(identifier, name)
    waits_s = list(AGAIN_S)
    sock = bound.open_socket(measure.device, socket.SOCK_DGRAM)
    try:
        # The port is the kernel's choice, at random; the peer is checked by it, too.
        bound.connect_now(sock, *server)
        while True:
            await loop.sock_sendall(sock, packet)
            measure.wire_bytes += _UDP_HEADERS + len(packet)
            try:
                async with asyncio.timeout(waits_s.pop(0) if waits_s else None):
                    answer = await _answer(measure, sock, identifier, name)
            except TimeoutError:
                continue
            if answer.fault is not None:
                detail = f"{server[0]} {answer.fault}"
                raise CheckFailure(CheckVerdict.DNS_FAILED, detail)
            return answer.addresses
    except OSError as error:
        failed = bound.failure(sock, measure.device, error)
        detail = f"{server[0]}: {failed.detail}"
        raise CheckFailure(failed.verdict, detail) from error
    finally:
        sock.close()


async def _answer(
    measure: Measure, sock: socket.socket, identifier: int, name: str
) -> dns_message.Answer:
    """Return the first datagram that is an answer to our question."""
    loop = asyncio.get_running_loop()
    while True:
        packet = await loop.sock_recv(sock, dns_message.ANSWER_BYTES)
        measure.wire_bytes += _UDP_HEADERS + len(packet)
        try:
            return dns_message.answer(packet, identifier, name)
        except dns_message.DnsMessageError:
            # Not ours, a guess or an echo: ours may still come.
            continue
