"""A check as it goes: what was measured so far, and the exception that ends it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaga_agent.core.events import CheckVerdict
from jaga_agent.ports import Checked, Phases

if TYPE_CHECKING:
    from jaga_agent.core.timekeeping import Reading


@dataclass(frozen=True, slots=True)
class Caps:
    """The longest that each phase may take, in seconds."""

    dns_s: float = 5.0
    """A phone gives a resolver up after 5 s."""
    connect_s: float = 5.0
    """The SYN is sent at 0, 1 and 3 s (RFC 6298): two may be lost, a radio may wake."""
    tls_s: float = 8.0
    """Two round trips and 5 KiB of certificates, with losses, on a 2G fallback."""
    answer_s: float = 10.0
    """A server under an election's load thinks; beyond that people reload the page."""
    linger_s: float = 1.0
    """For the other side's FIN once everything is known."""


class CheckFailure(Exception):  # noqa: N818 (an outcome, no error of this program)
    """The check ends here."""

    def __init__(self, verdict: CheckVerdict, detail: str) -> None:
        super().__init__(detail)
        self.verdict = verdict
        self.detail = detail


class NotSent(CheckFailure):
    """Nothing was on the wire, or the device went away: it says nothing of the path."""

    def __init__(self, detail: str) -> None:
        super().__init__(CheckVerdict.NOT_SENT, detail)


@dataclass(slots=True)
class Measure:
    """What one check has measured so far."""

    device: str
    wire_bytes: int = 0
    dns_s: float | None = None
    connect_s: float | None = None
    tls_s: float | None = None
    first_byte_s: float | None = None
    time: Reading | None = None
    remark: str = ""
    """What is to be said whatever the outcome."""

    def checked(self, verdict: CheckVerdict, detail: str) -> Checked:
        """Return the outcome."""
        return Checked(
            verdict,
            "; ".join(filter(None, (self.remark, detail))),
            Phases(self.dns_s, self.connect_s, self.tls_s, self.first_byte_s),
            self.wire_bytes,
            self.time,
        )


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of a check under way, with the instant at which patience ends."""

    what: str
    """What is waited for: "no answer to …"."""
    cap_s: float
    end: float
    """By the event loop's clock."""

    @classmethod
    def begin(cls, what: str, cap_s: float) -> Phase:
        """Return a phase that begins now; on the event loop only."""
        return cls(what, cap_s, asyncio.get_running_loop().time() + cap_s)

    @property
    def elapsed_s(self) -> float:
        """How long it has taken so far."""
        return asyncio.get_running_loop().time() - self.end + self.cap_s
