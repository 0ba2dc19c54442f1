"""Whose signature is it? Certificates, revocation lists, ECDSA: the door to `cryptography`.

It judges by what it is given and decides nothing: what a doubtful certificate means for
the evidence is `core.proof`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from jaga_server.errors import ConfigError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificate:
    """A site's certificate, judged; times are Unix milliseconds."""

    fault: str | None
    """Why it counts for nothing, whenever it was used; None: it is the site's."""
    not_before_ms: int
    not_after_ms: int
    revoked_ms: int | None
    serial: str
    """Hexadecimal, as openssl prints it."""
    key: ec.EllipticCurvePublicKey | None

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        """Whether the signature (DER; ECDSA, SHA-256) over these bytes is by its key."""
        if self.key is None:
            return False
        try:
            self.key.verify(signature, signed, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


class Authority:
    """The CA, or several, that issue the sites' certificates."""

    def __init__(self, ca: Path, crl: Path | None = None) -> None:
        """Read PEM files; raises ConfigError that says what is wrong with which."""
        try:
            self._issuers = x509.load_pem_x509_certificates(_read(ca))
        except ValueError as error:
            msg = f"{ca}: no certificate in PEM; give the CA's, e.g. ca.crt"
            raise ConfigError(msg) from error
        self._revoked: dict[tuple[bytes, int], int] = {}
        if crl is not None:
            self._read_crl(crl)

    def _read_crl(self, path: Path) -> None:
        try:
            crl = x509.load_pem_x509_crl(_read(path))
        except ValueError as error:
            msg = f"{path}: no revocation list in PEM; give the CA's, e.g. ca.crl"
            raise ConfigError(msg) from error
        for issuer in self._issuers:
            if issuer.subject == crl.issuer and crl.is_signature_valid(
                issuer.public_key()  # type: ignore[arg-type]  # a DH key fails: no match
            ):
                break
        else:
            msg = f"{path}: not signed by the CA given; give that CA's own list"
            raise ConfigError(msg)
        name = crl.issuer.public_bytes()
        for entry in crl:
            key = (name, entry.serial_number)
            self._revoked[key] = _ms(entry.revocation_date_utc)

    def judge(self, der: bytes, site: str) -> Certificate:
        """Return what a certificate is worth as that of `site`. Never raises."""
        try:
            found = x509.load_der_x509_certificate(der)
            names = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            name = str(names[0].value) if len(names) == 1 else None
            key = found.public_key()
        # Its parser has more ways to say no than it documents; all mean the same.
        except Exception as error:  # noqa: BLE001
            return Certificate(f"no certificate: {error}", 0, 0, None, "?", None)
        fault = None
        if name != site:
            fault = f"it is the certificate of {name or 'nobody'}, not of {site}"
        elif not any(_issued(found, issuer) for issuer in self._issuers):
            fault = "it was not issued by the CA given"
        elif not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(
            key.curve, ec.SECP256R1
        ):
            fault = "its key is not ECDSA P-256"
        return Certificate(
            fault,
            _ms(found.not_valid_before_utc),
            _ms(found.not_valid_after_utc),
            self._revoked.get((found.issuer.public_bytes(), found.serial_number)),
            f"{found.serial_number:X}",
            key if isinstance(key, ec.EllipticCurvePublicKey) else None,
        )


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer is a CA and signed this certificate (RFC 5280, 6.1.3, 6.1.4)."""
    try:
        basic = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.verify_directly_issued_by(issuer)
    except (x509.ExtensionNotFound, InvalidSignature, ValueError, TypeError):
        return False
    return basic.ca


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"{path}: {error.strerror}; name the right file"
        raise ConfigError(msg) from error


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
