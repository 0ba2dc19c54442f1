"""What the reflector makes of one datagram: authentic, fresh, counted, or nothing.

Pure but for the codes' arithmetic: no socket, no clock, no chance. Silence is the answer
to everything that is not authentic or was there before: a reflector that says why helps
only those who try.

A flow that is not known makes no state by itself: a recording of an old request, sent
again after a restart, must not bring a dead site to life. It is answered with a token,
uncounted; the next request of that flow shows the token, and only then the flow exists.
"""

from __future__ import annotations

import hmac
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from jaga_agent.wire import echo
from jaga_server.core.flows import Flows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jaga_agent.wire.echo import Request

UNKNOWN_SITE: Final = "unknown site"
REPLAYED: Final = "replayed"
DROPPED: Final = (echo.MALFORMED, echo.VERSION, UNKNOWN_SITE, echo.FORGED, REPLAYED)
"""Every reason for silence."""
TOKEN_S: Final = 300.0
"""A token is taken for one to two of these: the agent's next probe comes much sooner."""


@dataclass(slots=True)
class EchoCounters:
    """Since the collector started; received = counted + uncounted + dropped."""

    received: int = 0
    counted: int = 0
    uncounted: int = 0
    """Authentic, of a flow that is not known (yet): answered with a token."""
    dropped: Counter[str] = field(default_factory=Counter)
    """By reason: malformed, version, unknown site, forged, replayed."""
    unanswered: int = 0
    """Counted or not, the kernel would not send their answer."""


@dataclass(frozen=True, slots=True)
class Taken:
    """An authentic request that wants its answer."""

    site: str
    key: bytes
    request: Request
    datagram: bytes
    received: int | None
    token: int

    def answer(
        self, *, receive_ns: int, hold_ns: int, error_s: float, synchronised: bool
    ) -> bytes:
        """Return the datagram to send back, stamped."""
        return echo.encode_answer(
            echo.Answer(
                self.request.seq,
                self.received,
                self.token,
                receive_ns,
                hold_ns,
                error_s,
                synchronised,
            ),
            self.datagram,
            self.key,
        )


class Reflector:
    """Takes the requests of the sites on the list."""

    def __init__(
        self, master: bytes, sites: Iterable[str], *, run_secret: bytes
    ) -> None:
        """`run_secret` is random for each run: no token outlives the flows it is for."""
        self._secret = run_secret
        self._sites: dict[int, list[tuple[str, bytes]]] = {}
        # Two sites may share a tag; then whose key fits is whose request it is.
        for site in sites:
            of_tag = self._sites.setdefault(echo.site_tag(site), [])
            of_tag.append((site, echo.site_key(master, site)))
        self.flows = Flows()
        self.counters = EchoCounters()

    def take(self, datagram: bytes, now_s: float) -> Taken | None:
        """Return what to answer; None: nothing. `now_s` is a clock that is never set."""
        counters = self.counters
        counters.received += 1
        try:
            site, key, request = self._open(datagram)
        except echo.DatagramError as error:
            counters.dropped[error.reason] += 1
            return None
        period = int(now_s // TOKEN_S)
        flow = self.flows.known(site, request.flow)
        if flow is None and request.token in {
            self._token(site, request.flow, period),
            self._token(site, request.flow, period - 1),
        }:
            flow = self.flows.begin(site, request.flow)
        if flow is None:
            counters.uncounted += 1
        elif flow.take(request.seq):
            counters.counted += 1
        else:
            counters.dropped[REPLAYED] += 1
            return None
        return Taken(
            site,
            key,
            request,
            datagram,
            None if flow is None else flow.received,
            self._token(site, request.flow, period),
        )

    def _open(self, datagram: bytes) -> tuple[str, bytes, Request]:
        owners = self._sites.get(echo.tag_of_request(datagram))
        if owners is None:
            raise echo.DatagramError(UNKNOWN_SITE, "no site on the list has this tag")
        *others, last = owners
        for site, key in others:
            try:
                return site, key, echo.decode_request(datagram, key)
            except echo.DatagramError as error:
                if error.reason != echo.FORGED:
                    raise
        site, key = last
        return site, key, echo.decode_request(datagram, key)

    def _token(self, site: str, flow: int, period: int) -> int:
        """Return what proves that the flow's agent heard this run of the reflector.

        Never 0, which says that there is none.
        """
        content = b"%d %d " % (period, flow) + site.encode()
        digest = hmac.digest(self._secret, content, "sha256")
        return int.from_bytes(digest[:4], "big") or 1
