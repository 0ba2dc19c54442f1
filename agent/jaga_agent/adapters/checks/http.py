"""One HTTP request and what is read of its answer (RFC 9112). Bytes in, verdict out.

No body is asked for unless a text is wanted in it, and then only its first 4 KiB.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin, urlsplit

from jaga_agent.adapters.checks.outcome import CheckFailure
from jaga_agent.core.events import CheckVerdict
from jaga_agent.core.model import TargetKind

if TYPE_CHECKING:
    from jaga_agent.targets import ProbeTarget

BODY_BYTES: Final = 4096
_HEAD_BYTES = 16384
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: |\r?\n|$)")
_LENGTH = re.compile(r"[0-9]{1,18}")
_END = re.compile(rb"\r?\n\r?\n")
_DATE = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) "
    r"([0-9]{2}:[0-9]{2}:[0-9]{2}) GMT"
)
_DEFAULT_PORT = {TargetKind.HTTP: 80, TargetKind.HTTPS: 443}
_HEAD_REFUSED = frozenset({405, 501})
_AUTHENTICATION_REQUIRED = 511
"""Network Authentication Required (RFC 6585, 6): only portals answer so."""


def request(target: ProbeTarget, method: str) -> bytes:
    """Return the request; `method` is HEAD or GET."""
    host = target.host
    if target.port != _DEFAULT_PORT[target.kind]:
        host += f":{target.port}"
    lines = [
        f"{method} {target.path} HTTP/1.1",
        f"Host: {host}",
        "User-Agent: jaga-agent",
        "Accept: */*",
        "Connection: close",
    ]
    if method == "GET":
        # A wish: a server may send all of it, and we stop reading.
        lines.append(f"Range: bytes=0-{BODY_BYTES - 1}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


@dataclass(slots=True)
class Response:
    """An answer as it comes in."""

    wants_body: bool
    status: int | None = None
    """None until the head is complete."""
    ended: bool = False
    """Whether nothing more is to come (not known of an answer to HEAD)."""
    _headers: dict[str, str] = field(default_factory=dict)
    _pending: bytes = b""
    _body: bytes = b""

    @property
    def is_complete(self) -> bool:
        """Whether all that is wanted has come."""
        if self.status is None:
            return False
        return not self.wants_body or self.ended or len(self.body) >= BODY_BYTES

    @property
    def date_s(self) -> int | None:
        """When the server made the answer, in Unix seconds; None: it does not say.

        Nor is the Date of an answer from a cache one (RFC 9111, 5.1): with an Age it
        says when the origin made it.
        """
        if self._headers.get("age", "0") != "0":
            return None
        return date_s(self._headers.get("date", ""))

    @property
    def refuses_head(self) -> bool:
        """Whether the server answers that HEAD is not for it."""
        return self.status in _HEAD_REFUSED

    @property
    def body(self) -> bytes:
        """What has come of the body, at most 4 KiB, without the chunks' frames."""
        if self._chunked:
            return _unchunked(self._body)[:BODY_BYTES]
        return self._body[:BODY_BYTES]

    @property
    def _chunked(self) -> bool:
        return self._headers.get("transfer-encoding", "").lower() == "chunked"

    def feed(self, content: bytes) -> None:
        """Take what came, b"" at the stream's end; raises CheckFailure."""
        if self.status is None:
            self._pending += content
            if not self._read_head():
                if not content:
                    said = "after half an answer" if self._pending else "unanswered"
                    detail = f"connection closed {said}"
                    raise CheckFailure(CheckVerdict.RESET, detail)
                return
            self._body, self._pending = self._pending, b""
        else:
            self._body += content
        length = self._headers.get("content-length", "")
        self.ended = (
            not content
            or (
                _LENGTH.fullmatch(length) is not None and len(self._body) >= int(length)
            )
            or (self._chunked and self._body.endswith(b"0\r\n\r\n"))
        )

    def _read_head(self) -> bool:
        """Return whether the head has come."""
        while self._pending:
            start = self._pending[:13]
            if len(start) >= 13 or b"\n" in start:
                found = _STATUS.match(self._pending)
            else:
                found = None
                if b"HTTP/1."[: len(start)] == start[:7]:
                    return False
            if found is None:
                detail = "what answers does not speak HTTP"
                raise CheckFailure(CheckVerdict.UNEXPECTED, detail)
            end = _END.search(self._pending)
            if end is None:
                if len(self._pending) > _HEAD_BYTES:
                    detail = f"an answer's head of more than {_HEAD_BYTES} bytes"
                    raise CheckFailure(CheckVerdict.UNEXPECTED, detail)
                return False
            head, self._pending = (
                self._pending[: end.start()],
                self._pending[end.end() :],
            )
            status = int(found[1])
            # Interim answers precede the real one (RFC 9110, 15.2).
            if status >= 200:
                self.status = status
                self._headers = _headers(head)
                return True
        return False

    def judge(self, target: ProbeTarget) -> str:
        """Return the good answer in a word; raises CheckFailure if it is not good."""
        status = self.status or 0
        away = self._leads_away(target)
        if target.expect_status:
            right = status in target.expect_status
        else:
            right = 200 <= status < 400 and away is None
        if not right:
            if away is not None:
                detail = f"HTTP {status} to {away}"
                raise CheckFailure(CheckVerdict.REDIRECTED, detail)
            if status == _AUTHENTICATION_REQUIRED:
                detail = "HTTP 511: a portal wants a log-in"
                raise CheckFailure(CheckVerdict.REDIRECTED, detail)
            raise CheckFailure(CheckVerdict.UNEXPECTED, f"HTTP {status}")
        if target.expect_text is not None and target.expect_text.encode() not in (
            self.body
        ):
            detail = f"HTTP {status} without the text {target.expect_text!r}"
            raise CheckFailure(CheckVerdict.UNEXPECTED, detail)
        return f"HTTP {status}"

    def _leads_away(self, target: ProbeTarget) -> str | None:
        """Return the other host, or the scheme without TLS, that we are sent to."""
        location = self._headers.get("location")
        if location is None or not 300 <= (self.status or 0) < 400:
            return None
        here = f"{target.kind.value}://{target.host}{target.path}"
        try:
            there = urlsplit(urljoin(here, location.strip()))
            host = (there.hostname or "").removesuffix(".")
        except ValueError:
            return "a place that is no URL"
        if host != target.host:
            return _printable(host) or "no host"
        if target.kind is TargetKind.HTTPS and there.scheme != "https":
            return f"{_printable(there.scheme)}://{host}"
        return None


def date_s(said: str) -> int | None:
    """Return the Unix seconds of an HTTP date (RFC 9110, 5.6.7: IMF-fixdate).

    None if it is none, or of the two obsolete forms, which nobody sends.

    >>> date_s("Sun, 06 Nov 1994 08:49:37 GMT")
    784111777
    """
    found = _DATE.fullmatch(said)
    if found is None:
        return None
    day, month, year, clock = found.groups()
    try:
        return ssl.cert_time_to_seconds(f"{month} {int(day):2} {clock} {year} GMT")
    except ValueError:
        return None


def _headers(head: bytes) -> dict[str, str]:
    """Return the fields by their name in small letters; of repeated ones, the last."""
    fields = {}
    for line in head.splitlines()[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            fields[name.strip().lower().decode("latin-1")] = value.strip().decode(
                "latin-1"
            )
    return fields


def _unchunked(content: bytes) -> bytes:
    """Return the chunks' content as far as it has come."""
    body = b""
    while True:
        size, newline, content = content.partition(b"\n")
        try:
            length = int(size.partition(b";")[0].strip(), 16)
        except ValueError:
            return body
        if not newline or length <= 0:
            return body
        body += content[:length]
        # The chunk's own line end.
        content = content[length:].removeprefix(b"\r").removeprefix(b"\n")


def _printable(text: str) -> str:
    """Return what a stranger wrote, fit for a terminal's line."""
    return "".join(c if c.isprintable() else "?" for c in text)[:80]
