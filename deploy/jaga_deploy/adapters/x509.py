"""The only door to cryptography: keys, certificates and lists, PEM in, PEM out.

ECDSA P-256 with SHA-256 (RFC 5480, RFC 5758), certificates and lists as in RFC 5280. It
decides nothing: who gets what, and for how long, is an argument.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from jaga_deploy.core.subjects import Kind, Subject, is_address
from jaga_deploy.errors import KeyFileError

if TYPE_CHECKING:
    from collections.abc import Iterable

_PEM = serialization.Encoding.PEM
_ORGANISATION = "Jaga"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A P-256 public key."""

    pem: bytes
    sha256: str
    """Of its SubjectPublicKeyInfo in DER, hexadecimal."""


@dataclass(frozen=True, slots=True)
class Crl:
    """What a revocation list says."""

    number: int
    next_update_s: int
    serials: frozenset[str]


def new_key() -> bytes:
    """Return a new private key (PKCS 8, not encrypted)."""
    return _private_pem(ec.generate_private_key(ec.SECP256R1()), None)


def public_key(private_pem: bytes) -> PublicKey:
    """Return the public half of a key made by `new_key`."""
    return _public(_load_private(private_pem, None, "the key").public_key())


def requested_key(csr: bytes) -> PublicKey:
    """Return the key for which a certificate is requested (PKCS 10, PEM or DER).

    Only the key counts: the name comes from the operator. Raises KeyFileError if the
    request is none, its signature is wrong, or its key is not P-256.
    """
    try:
        pem = b"-----BEGIN" in csr
        request = x509.load_pem_x509_csr(csr) if pem else x509.load_der_x509_csr(csr)
        sound = request.is_signature_valid
        key = request.public_key()
    except ValueError as error:
        msg = f"the request cannot be read: {error}; make it with openssl req -new"
        raise KeyFileError(msg) from error
    if not sound:
        msg = "the request's own signature is wrong: it was changed on its way here"
        raise KeyFileError(msg)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(
        key.curve, ec.SECP256R1
    ):
        msg = (
            "the request's key is not ECDSA P-256: make one with openssl ecparam -name"
            " prime256v1 -genkey -noout"
        )
        raise KeyFileError(msg)
    return _public(key)


def certified_key(certificate_pem: bytes) -> PublicKey:
    """Return the key of a certificate of ours."""
    key = _certificate(certificate_pem).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        msg = "this certificate's key is not ECDSA P-256: it is none of this CA's"
        raise KeyFileError(msg)
    return _public(key)


def validity(certificate_pem: bytes) -> tuple[int, int]:
    """Return a certificate's first and last second."""
    certificate = _certificate(certificate_pem)
    return (
        int(certificate.not_valid_before_utc.timestamp()),
        int(certificate.not_valid_after_utc.timestamp()),
    )


def read_crl(pem: bytes) -> Crl:
    """Return what a revocation list says; raises KeyFileError if it is none."""
    try:
        crl = x509.load_pem_x509_crl(pem)
        number = crl.extensions.get_extension_for_class(x509.CRLNumber)
        until = crl.next_update_utc
    except (ValueError, x509.ExtensionNotFound) as error:
        msg = f"the revocation list cannot be read: {error}; make it anew: jaga-deploy crl"
        raise KeyFileError(msg) from error
    return Crl(
        number.value.crl_number,
        0 if until is None else int(until.timestamp()),
        frozenset(_hex(each.serial_number) for each in crl),
    )


def new_authority(
    name: str, not_before_s: int, not_after_s: int, passphrase: bytes | None
) -> tuple[bytes, bytes]:
    """Return a root certificate and its key, encrypted if there is a passphrase."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(not_before_s))
        .not_valid_after(_time(not_after_s))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(_PEM), _private_pem(key, passphrase)


class Signer:
    """The CA's key in use."""

    def __init__(
        self, certificate_pem: bytes, key_pem: bytes, passphrase: bytes | None
    ) -> None:
        """Open it; raises KeyFileError if it cannot be had or is another CA's."""
        self._certificate = _certificate(certificate_pem)
        self._key = _load_private(key_pem, passphrase, "the CA's key")
        if self._key.public_key() != self._certificate.public_key():
            msg = "ca.key does not belong to ca.crt: put the right one back"
            raise KeyFileError(msg)

    def certify(
        self, subject: Subject, key: PublicKey, not_before_s: int, not_after_s: int
    ) -> tuple[str, bytes]:
        """Return a new certificate's serial (hexadecimal) and the certificate."""
        serial = x509.random_serial_number()
        public = serialization.load_pem_public_key(key.pem)
        if not isinstance(public, ec.EllipticCurvePublicKey):
            msg = "only ECDSA P-256 keys are certified"
            raise KeyFileError(msg)
        server = subject.kind is Kind.BROKER
        usage = ExtendedKeyUsageOID
        builder = (
            x509.CertificateBuilder()
            .subject_name(
                x509.Name(
                    [
                        x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION),
                        x509.NameAttribute(
                            NameOID.ORGANIZATIONAL_UNIT_NAME, subject.kind
                        ),
                        x509.NameAttribute(NameOID.COMMON_NAME, subject.name),
                    ]
                )
            )
            .issuer_name(self._certificate.subject)
            .public_key(public)
            .serial_number(serial)
            .not_valid_before(_time(not_before_s))
            .not_valid_after(_time(not_after_s))
            .add_extension(
                x509.BasicConstraints(ca=False, path_length=None), critical=True
            )
            .add_extension(_usage(authority=False), critical=True)
            # Never both: the broker's certificate is no account at the broker.
            .add_extension(
                x509.ExtendedKeyUsage(
                    [usage.SERVER_AUTH if server else usage.CLIENT_AUTH]
                ),
                critical=False,
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(public), critical=False
            )
            .add_extension(self._identifier(), critical=False)
        )
        if subject.hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_host(each) for each in subject.hosts]),
                critical=False,
            )
        certificate = builder.sign(self._key, hashes.SHA256())
        return _hex(serial), certificate.public_bytes(_PEM)

    def crl(
        self,
        number: int,
        revoked: Iterable[tuple[str, int]],
        this_update_s: int,
        next_update_s: int,
    ) -> bytes:
        """Return a revocation list of serials and the seconds of their revocation."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(_time(this_update_s))
            .next_update(_time(next_update_s))
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(self._identifier(), critical=False)
        )
        for serial, at_s in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(int(serial, 16))
                .revocation_date(_time(at_s))
                .build()
            )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM)

    def _identifier(self) -> x509.AuthorityKeyIdentifier:
        own = self._certificate.extensions.get_extension_for_class(
            x509.SubjectKeyIdentifier
        )
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)


def _certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        msg = f"a certificate cannot be read: {error}; restore the file from a backup"
        raise KeyFileError(msg) from error


def _load_private(
    pem: bytes, passphrase: bytes | None, what: str
) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, passphrase)
    except TypeError as error:
        if passphrase is None:
            msg = f"{what} is encrypted: give its passphrase with --passphrase-file"
        else:
            msg = f"{what} is not encrypted: leave --passphrase-file out"
        raise KeyFileError(msg) from error
    except ValueError as error:
        why = (
            "cannot be read"
            if passphrase is None
            else "does not open: wrong passphrase"
        )
        msg = f"{what} {why}, or the file is damaged"
        raise KeyFileError(msg) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        msg = f"{what} is not ECDSA P-256"
        raise KeyFileError(msg)
    return key


def _private_pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None) -> bytes:
    return key.private_bytes(
        _PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()
        if passphrase is None
        else serialization.BestAvailableEncryption(passphrase),
    )


def _public(key: ec.EllipticCurvePublicKey) -> PublicKey:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    der = key.public_bytes(serialization.Encoding.DER, form)
    return PublicKey(key.public_bytes(_PEM, form), hashlib.sha256(der).hexdigest())


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    if is_address(host):
        return x509.IPAddress(ipaddress.ip_address(host))
    return x509.DNSName(host)


def _time(at_s: int) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)


def _hex(serial: int) -> str:
    return f"{serial:040x}"
