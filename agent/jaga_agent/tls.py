"""Certificates' dates on a Pi whose clock may be years off: judged by what is known.

The one home of it, for the broker's TLS and the checks'. With a clock that is right
OpenSSL judges as ever. Otherwise it is told to leave the dates alone (chain and host name
are judged all the same), and the dates of every certificate in the chain that it
verified are judged here, by the instant that `core.timekeeping.certificate_time` names.
"""

from __future__ import annotations

import ssl
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from jaga_agent.core.timekeeping import CertificateTime

NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME (openssl/x509_vfy.h); not in Python's ssl module."""

_PEM_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_PEM_END: Final = "-----END CERTIFICATE-----"
_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18

_lock = threading.Lock()


class CertificateDateError(ssl.SSLCertVerificationError):
    """A certificate has expired, or is not valid yet; worded as OpenSSL does."""

    def __init__(self, said: str) -> None:
        super().__init__(1, f"certificate verify failed: {said}")
        self.verify_message = said
        self.reason = "CERTIFICATE_VERIFY_FAILED"


@contextmanager
def dated(context: ssl.SSLContext, when: CertificateTime | None) -> Iterator[None]:
    """Let OpenSSL judge dates within, or not: wrap a socket in here, then `judge`.

    The context is shared, the flag is copied when a socket is wrapped: one at a time.
    """
    with _lock:
        flags = context.verify_flags & ~NO_CHECK_TIME
        context.verify_flags = ssl.VerifyFlags(
            flags if when is None else flags | NO_CHECK_TIME
        )
        yield


def judge(tls: ssl.SSLSocket | ssl.SSLObject, when: CertificateTime | None) -> None:
    """Judge the dates after the handshake; raises CertificateDateError."""
    if when is None:
        return
    for certificate in _chain(tls):
        ends_s = ssl.cert_time_to_seconds(certificate["notAfter"])
        if ends_s < when.utc_s:
            msg = "certificate has expired"
            raise CertificateDateError(msg)
        begins_s = ssl.cert_time_to_seconds(certificate["notBefore"])
        if when.is_exact and begins_s > when.utc_s:
            msg = "certificate is not yet valid"
            raise CertificateDateError(msg)


def _chain(tls: ssl.SSLSocket | ssl.SSLObject) -> list[Mapping[str, Any]]:
    """Return the verified chain; of a resumed session the server's certificate alone."""
    # Public from Python 3.13 on, and there as bytes only, which would have to be parsed.
    found = tls._sslobj.get_verified_chain()  # type: ignore[union-attr]  # noqa: SLF001 (see above)
    if found:
        return [certificate.get_info() for certificate in found]
    leaf = tls.getpeercert()
    if not leaf:
        msg = "no certificate to judge"
        raise CertificateDateError(msg)
    return [leaf]


def issued_s(path: Path) -> int:
    """Return when the first certificate in a PEM file was issued: its notBefore.

    Unix seconds. The date is in the signed part of the certificate, unlike the file's
    own, which is whatever the clock was when it was copied. Raises OSError, ValueError.
    """
    der = first_certificate(path)
    try:
        return _not_before_s(der)
    except (ValueError, IndexError) as error:
        msg = f"{path}: not a certificate: {error}"
        raise ValueError(msg) from error


def first_certificate(path: Path) -> bytes:
    """Return the first certificate in a PEM file, DER; raises OSError, ValueError."""
    text = path.read_text(encoding="ascii", errors="replace")
    begin = text.find(_PEM_BEGIN)
    end = text.find(_PEM_END, begin)
    if begin < 0 or end < 0:
        msg = f"{path}: no PEM certificate"
        raise ValueError(msg)
    try:
        return ssl.PEM_cert_to_DER_cert(text[begin : end + len(_PEM_END)])
    except ValueError as error:
        msg = f"{path}: not a certificate: {error}"
        raise ValueError(msg) from error


def _not_before_s(der: bytes) -> int:
    """Return it (RFC 5280, 4.1: Certificate, TBSCertificate, Validity)."""
    _, certificate, _ = _element(der, _SEQUENCE)
    _, fields, _ = _element(certificate, _SEQUENCE)
    if fields[0] == _VERSION:
        _, _, fields = _element(fields)
    # serialNumber, signature, issuer
    for _ in range(3):
        _, _, fields = _element(fields)
    _, validity, _ = _element(fields, _SEQUENCE)
    tag, content, _ = _element(validity)
    said = content.decode("ascii")
    if tag == _UTC_TIME:
        # RFC 5280, 4.1.2.5.1: two digits of the year, 50 to 99 are 19xx.
        said = ("19" if said[:2] >= "50" else "20") + said
    elif tag != _GENERALIZED_TIME:
        msg = f"no date where one must be (tag {tag:#x})"
        raise ValueError(msg)
    return _seconds(said)


def _seconds(said: str) -> int:
    """Return Unix seconds of YYYYMMDDHHMMSSZ."""
    if len(said) != 15 or not said.endswith("Z") or not said[:14].isdigit():
        msg = f"{said!r} is no date"
        raise ValueError(msg)
    digits = (said[:4], *(said[at : at + 2] for at in range(4, 14, 2)))
    year, month, day, hour, minute, second = map(int, digits)
    at = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    return int(at.timestamp())


def _element(der: bytes, want: int | None = None) -> tuple[int, bytes, bytes]:
    """Return the first element's tag and content, and what follows it."""
    tag, length, begin = der[0], der[1], 2
    if length & 0x80:
        begin += length & 0x7F
        length = int.from_bytes(der[2:begin], "big")
    if want is not None and tag != want:
        msg = f"tag {tag:#x} instead of {want:#x}"
        raise ValueError(msg)
    if len(der) < begin + length:
        msg = "it is cut short"
        raise ValueError(msg)
    return tag, der[begin : begin + length], der[begin + length :]
