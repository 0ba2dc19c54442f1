"""Checks of the real thing through one device: name, connection, TLS, HTTP.

A ping that answers proves little: with the quota used up ping and DNS still answer,
HTTP is sent to a portal, and TLS is reset. So, rarely, the site's own errand is run
through each uplink: each phase timed apart, each with a hard cap, every byte counted.

The name is asked for through the same device. When that fails, the address that was
last found good is used: a dead resolver must not hide a path that works. The outcome's
`dns_s` is None then, and its detail says so.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Final

from jaga_agent.adapters.checks import bound, http
from jaga_agent.adapters.checks.outcome import Caps as Caps
from jaga_agent.adapters.checks.outcome import CheckFailure, Measure, Phase
from jaga_agent.adapters.checks.resolver import resolve
from jaga_agent.adapters.checks.stream import Stream
from jaga_agent.adapters.checks.tls import Sessions, TlsStream
from jaga_agent.core import timekeeping
from jaga_agent.core.events import CheckVerdict
from jaga_agent.core.model import TargetKind
from jaga_agent.ports import Checked, Phases

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaga_agent.ports import CheckListener, TrueClock
    from jaga_agent.targets import ProbeTarget

_log = logging.getLogger(__name__)

ADDRESSES_TRIED: Final = 2
"""Of one name: a server that is down must not condemn the path to its twin."""

_TLS_KINDS = frozenset({TargetKind.TLS, TargetKind.HTTPS})
_WEB_KINDS = frozenset({TargetKind.HTTP, TargetKind.HTTPS})
# What silence means is to be asked of the device first: a cable that was pulled
# meanwhile says nothing of the path behind it.
_SILENT = frozenset(
    {CheckVerdict.TIMEOUT, CheckVerdict.DNS_FAILED, CheckVerdict.UNREACHABLE}
)
# A TLS 1.3 ticket is under way when the handshake ends: it takes one round trip, and
# the server's own time.
_TICKET_ROUND_TRIPS = 2.0
_TICKET_MORE_S = 0.2


class UplinkChecker:
    """Checks targets through devices, as `ports.Checker`."""

    def __init__(
        self,
        listener: CheckListener,
        clock: TrueClock,
        resolvers: Sequence[tuple[str, int]],
        caps: Caps | None = None,
    ) -> None:
        """Make a checker on the running event loop; opens nothing yet."""
        self._listener = listener
        self._clock = clock
        self._resolvers = tuple(resolvers)
        self._caps = caps or Caps()
        self._loop = asyncio.get_running_loop()
        self._sessions = Sessions()
        self._good: dict[str, str] = {}
        """The address of each name at which a check went well last."""
        self._running: set[asyncio.Task[None]] = set()

    def send(self, check_id: int, device: str, target: ProbeTarget) -> None:
        """Begin one check. Never raises; see `ports.CheckListener`."""
        task = self._loop.create_task(self._run(check_id, device, target))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def close(self) -> None:
        """Drop the checks under way; their sockets close as their tasks end."""
        for task in self._running:
            task.cancel()

    async def _run(self, check_id: int, device: str, target: ProbeTarget) -> None:
        outcome = await self._check(device, target)
        # So that whatever the listener raises reaches the loop's exception handler.
        self._loop.call_soon(self._listener.checked, check_id, outcome)

    async def _check(self, device: str, target: ProbeTarget) -> Checked:
        measure = Measure(device)
        try:
            detail = await self._ask(measure, target)
        except CheckFailure as failure:
            if failure.verdict in _SILENT:
                try:
                    bound.open_socket(device, socket.SOCK_DGRAM).close()
                except CheckFailure as idle:
                    return measure.checked(idle.verdict, idle.detail)
            return measure.checked(failure.verdict, failure.detail)
        except Exception as error:  # noqa: BLE001 (told, and logged whole)
            # A fault of ours must not leave the core waiting for ever.
            _log.exception("check of %s through %s failed", target.name, device)
            detail = f"the check itself failed: {error!r}"
            return Checked(CheckVerdict.NOT_SENT, detail, Phases(), 0)
        return measure.checked(CheckVerdict.OK, detail)

    async def _ask(self, measure: Measure, target: ProbeTarget) -> str:
        """Run the errand; return what is to be said of its success."""
        if target.kind is TargetKind.DNS:
            return await self._ask_server(measure, target)
        addresses = await self._addresses(measure, target)
        for address in addresses:
            try:
                detail = await self._ask_address(measure, target, address)
            except CheckFailure:
                # Only where nothing answered at all another address may.
                if measure.connect_s is not None or address == addresses[-1]:
                    raise
                continue
            if not target.is_literal:
                self._good[target.host] = address
            return detail
        raise AssertionError  # a resolution without addresses has failed

    async def _ask_server(self, measure: Measure, target: ProbeTarget) -> str:
        phase = Phase.begin("the question", self._caps.dns_s)
        server = (target.host, target.port or 53)
        found = await resolve(
            measure, (server,), target.query_name or "", self._caps.dns_s
        )
        measure.dns_s = phase.elapsed_s
        return ", ".join(found)

    async def _addresses(
        self, measure: Measure, target: ProbeTarget
    ) -> tuple[str, ...]:
        if target.is_literal:
            return (target.host,)
        phase = Phase.begin("the question", self._caps.dns_s)
        try:
            found = await resolve(
                measure, self._resolvers, target.host, self._caps.dns_s
            )
        except CheckFailure as failure:
            known = self._good.get(target.host)
            if failure.verdict is CheckVerdict.NOT_SENT or known is None:
                raise
            measure.remark = f"DNS failed ({failure.detail}), went to {known} as before"
            return (known,)
        measure.dns_s = phase.elapsed_s
        return found[:ADDRESSES_TRIED]

    async def _ask_address(
        self, measure: Measure, target: ProbeTarget, address: str
    ) -> str:
        wants_body = target.expect_text is not None
        if target.kind not in _WEB_KINDS:
            with Stream(measure) as stream:
                return await self._reach(measure, target, address, stream)
        method = "GET" if wants_body else "HEAD"
        response = await self._fetch(measure, target, address, method)
        if method == "HEAD" and response.refuses_head:
            response = await self._fetch(measure, target, address, "GET")
        return response.judge(target)

    async def _reach(
        self, measure: Measure, target: ProbeTarget, address: str, stream: Stream
    ) -> str:
        """Connect, and shake hands if it is TLS: all that a tcp or tls target asks."""
        await self._connect(measure, target, address, stream)
        if target.kind is not TargetKind.TLS:
            await stream.finish(self._caps.linger_s)
            return ""
        tls = await self._shake_hands(measure, target, stream)
        wait_s = (measure.connect_s or 0.0) * _TICKET_ROUND_TRIPS + _TICKET_MORE_S
        await tls.await_ticket(
            Phase.begin("the handshake", min(wait_s, self._caps.linger_s))
        )
        self._sessions.keep(measure.device, target, tls)
        await tls.finish(self._caps.linger_s)
        return _said(tls)

    async def _connect(
        self, measure: Measure, target: ProbeTarget, address: str, stream: Stream
    ) -> None:
        phase = Phase.begin("the connection request", self._caps.connect_s)
        await stream.connect(address, target.port or 0, phase)
        measure.connect_s = phase.elapsed_s

    async def _shake_hands(
        self, measure: Measure, target: ProbeTarget, stream: Stream
    ) -> TlsStream:
        tls = self._sessions.open(
            stream, measure.device, target, when=self._clock.certificate_time()
        )
        phase = Phase.begin("the TLS handshake", self._caps.tls_s)
        try:
            await tls.handshake(phase)
        except CheckFailure:
            self._sessions.distrust(measure.device, target)
            raise
        measure.tls_s = phase.elapsed_s
        return tls

    async def _fetch(
        self, measure: Measure, target: ProbeTarget, address: str, method: str
    ) -> http.Response:
        """Send one request; return the answer as far as it is wanted."""
        with Stream(measure, small_window=method == "GET") as stream:
            await self._connect(measure, target, address, stream)
            tls = None
            if target.kind in _TLS_KINDS:
                tls = await self._shake_hands(measure, target, stream)
            way = tls or stream
            response = http.Response(wants_body=target.expect_text is not None)
            phase = Phase.begin(f"the {method} request", self._caps.answer_s)
            await way.send(http.request(target, method), phase)
            sent_ns = self._clock.stamp().boot_ns
            first = True
            while not response.is_complete:
                content = await way.receive(phase)
                received_ns = self._clock.stamp().boot_ns
                if first and content:
                    measure.first_byte_s = phase.elapsed_s
                    first = False
                before = response.status
                response.feed(content)
                if tls is not None and before is None and response.date_s is not None:
                    measure.time = timekeeping.of_http_date(
                        response.date_s, sent_ns=sent_ns, received_ns=received_ns
                    )
            if tls is not None:
                # The tickets came before the answer.
                self._sessions.keep(measure.device, target, tls)
            if method == "HEAD" or response.ended:
                await way.finish(self._caps.linger_s)
        return response


def _said(tls: TlsStream) -> str:
    return f"{tls.version}{', resumed' if tls.resumed else ''}"
