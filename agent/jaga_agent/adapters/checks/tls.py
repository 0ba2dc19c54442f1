"""TLS over a `Stream`: certificate and host name judged, sessions taken up again.

asyncio's own TLS cannot pass a session, so OpenSSL works on two buffers here and the
bytes go through the stream. A resumed handshake spares the certificates (1 kB instead
of 4 to 7): TLS 1.3's tickets come after the handshake and are read. One session for
each target serves all uplinks, for it belongs to the server. It proves who answers as
the first handshake did: only who holds the server's keys can take it up.

Contexts are made when first needed, one for each file of CAs. For the system's store
OpenSSL is given the directory, where it finds the one root by its hash, instead of the
bundle: 140 parsed certificates are 1.3 MiB.
"""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from jaga_agent import tls
from jaga_agent.adapters.checks.outcome import CheckFailure, NotSent
from jaga_agent.core.events import CheckVerdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaga_agent.adapters.checks.outcome import Phase
    from jaga_agent.adapters.checks.stream import Stream
    from jaga_agent.core.timekeeping import CertificateTime
    from jaga_agent.targets import ProbeTarget

T = TypeVar("T")


class Sessions:
    """What is kept between checks: contexts, and a session for each target."""

    def __init__(self) -> None:
        self._contexts: dict[str | None, ssl.SSLContext] = {}
        self._sessions: dict[tuple[str, int | None, str | None], ssl.SSLSession] = {}
        self._afresh: set[tuple[str, tuple[str, int | None, str | None]]] = set()

    def open(
        self,
        stream: Stream,
        device: str,
        target: ProbeTarget,
        *,
        when: CertificateTime | None,
    ) -> TlsStream:
        """Return TLS on the stream, not yet shaken hands; raises CheckFailure.

        The certificates' dates are judged by `when`; None: by the Pi's own clock.
        """
        context = self._context(target.ca)
        key = (target.host, target.port, target.ca)
        session = self._sessions.get(key)
        if (device, key) in self._afresh:
            session = None
        return TlsStream(stream, context, target.host, session, when)

    def keep(self, device: str, target: ProbeTarget, of: TlsStream) -> None:
        """Keep the session of a good connection for the next one."""
        key = (target.host, target.port, target.ca)
        self._afresh.discard((device, key))
        session = of.session
        if session is not None:
            self._sessions[key] = session

    def distrust(self, device: str, target: ProbeTarget) -> None:
        """Shake hands afresh next time, so that a session is no cause of failure."""
        self._afresh.add((device, (target.host, target.port, target.ca)))

    def _context(self, ca: str | None) -> ssl.SSLContext:
        context = self._contexts.get(ca)
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.verify_flags = ssl.VERIFY_X509_TRUSTED_FIRST
            try:
                if ca is None:
                    _trust_system(context)
                else:
                    context.load_verify_locations(cafile=ca)
            except OSError as error:
                # Also ssl.SSLError: a file that is no PEM.
                detail = f"the CA file {ca} cannot be used: {_reason(error)}"
                raise NotSent(detail) from error
            self._contexts[ca] = context
        return context


class TlsStream:
    """One TLS connection; its stream is opened and closed by the caller."""

    def __init__(
        self,
        stream: Stream,
        context: ssl.SSLContext,
        host: str,
        session: ssl.SSLSession | None,
        when: CertificateTime | None = None,
    ) -> None:
        self.version = ""
        """The protocol, e.g. "TLSv1.3"; "" before the handshake is done."""
        self.resumed = False
        """Whether an earlier session was taken up."""
        self._stream = stream
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._when = when
        with tls.dated(context, when):
            self._tls = context.wrap_bio(
                self._incoming, self._outgoing, server_hostname=host, session=session
            )

    @property
    def session(self) -> ssl.SSLSession | None:
        """A session that can be taken up, if the server gave one."""
        session = self._tls.session
        if session is None:
            return None
        # Without a ticket a TLS 1.2 server may know it by its number.
        by_number = self.version != "TLSv1.3" and bool(session.id)
        return session if session.has_ticket or by_number else None

    async def handshake(self, phase: Phase) -> None:
        """Shake hands; raises CheckFailure."""
        await self._turn(self._tls.do_handshake, phase)
        try:
            tls.judge(self._tls, self._when)
        except tls.CertificateDateError as error:
            raise _failure(error, phase.what) from error
        # Asked now: after the other side's alert OpenSSL does not tell them any more.
        self.version = self._tls.version() or ""
        self.resumed = bool(self._tls.session_reused)

    async def send(self, content: bytes, phase: Phase) -> None:
        """Send all; raises CheckFailure."""
        self._tls.write(content)
        await self._flush(phase)

    async def receive(self, phase: Phase) -> bytes:
        """Return what came, b"" at the end; raises CheckFailure."""
        try:
            return await self._turn(lambda: self._tls.read(16384), phase)
        except ssl.SSLZeroReturnError:
            return b""

    async def await_ticket(self, phase: Phase) -> None:
        """Wait for what a TLS 1.3 server sends after the handshake: tickets.

        The handshake was good: a server that sends none, or that hangs up because it
        wants a client's certificate, takes nothing from that.
        """
        if self.version != "TLSv1.3":
            return
        try:
            content = await self._stream.receive(phase)
            self._incoming.write(content)
            self._tls.read(1)
        except (CheckFailure, ssl.SSLError):
            return

    async def finish(self, cap_s: float) -> None:
        """Say good-bye and end politely."""
        # It wants the other side's good-bye, or has had it: ours is written.
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        await self._stream.finish(cap_s, self._outgoing.read())

    async def _turn(self, operation: Callable[[], T], phase: Phase) -> T:
        while True:
            try:
                result = operation()
            except ssl.SSLWantReadError:
                await self._flush(phase)
                content = await self._stream.receive(phase)
                if content:
                    self._incoming.write(content)
                else:
                    self._incoming.write_eof()
            except ssl.SSLZeroReturnError:
                raise
            except ssl.SSLError as error:
                raise _failure(error, phase.what) from error
            else:
                await self._flush(phase)
                return result

    async def _flush(self, phase: Phase) -> None:
        if self._outgoing.pending:
            await self._stream.send(self._outgoing.read(), phase)


def _failure(error: ssl.SSLError, what: str) -> CheckFailure:
    if isinstance(error, ssl.SSLCertVerificationError):
        return CheckFailure(CheckVerdict.CERTIFICATE, _certificate(error))
    if isinstance(error, ssl.SSLEOFError):
        detail = f"connection closed during {what}"
        return CheckFailure(CheckVerdict.RESET, detail)
    reason = error.reason or ""
    if "ALERT" in reason:
        said = reason.rpartition("ALERT_")[2].lower().replace("_", " ")
        detail = f"the server ended {what}: {said}"
        return CheckFailure(CheckVerdict.RESET, detail)
    detail = f"what answers does not speak our TLS: {_reason(error)}"
    return CheckFailure(CheckVerdict.CERTIFICATE, detail)


def _certificate(error: ssl.SSLCertVerificationError) -> str:
    said = getattr(error, "verify_message", "") or _reason(error)
    return f"certificate: {said.rstrip('.')}"


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return (error.strerror or str(error)).lower()


def _trust_system(context: ssl.SSLContext) -> None:
    """Trust the system's CAs, by the directory of hashed names if there is one."""
    paths = ssl.get_default_verify_paths()
    if paths.capath and any(Path(paths.capath).glob("*.0")):
        context.load_verify_locations(capath=paths.capath)
    else:
        context.load_default_certs()
