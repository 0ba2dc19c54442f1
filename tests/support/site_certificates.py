"""Sites' keys and certificates as Jaga's own CA makes them, and every wrong one.

ECDSA P-256, CN = site id, OU = "site"; PEM files, as they lie on a card.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from pathlib import Path


def _name(common, unit):
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
        ]
    )


def _now():
    return datetime.now(UTC)  # noqa: TID251 when these files are made is real


@dataclass(frozen=True)
class SiteFiles:
    """What is on a site's card."""

    key: Path
    certificate: Path
    serial: int

    @property
    def der(self):
        return x509.load_pem_x509_certificate(
            self.certificate.read_bytes()
        ).public_bytes(serialization.Encoding.DER)


class SiteAuthority:
    """A CA with its files in a directory."""

    def __init__(self, directory, name="Jaga Kutai Timur"):
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name, "ca")
        self._revoked = []
        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, key_cert_sign=True,
            crl_sign=True, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        certificate = (
            self._builder(self._name, self._key, _now() - timedelta(days=90), 400)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca = directory / "ca.crt"
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, site, *, tag=None, begin=None, days=365, key=None) -> SiteFiles:
        """Write a site's files; `key` renews the certificate of an older key."""
        tag = tag or site
        if key is None:
            private = ec.generate_private_key(ec.SECP256R1())
        else:
            private = serialization.load_pem_private_key(key.read_bytes(), None)
        certificate = (
            self._builder(
                _name(site, "site"), private, begin or _now() - timedelta(days=2), days
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False
            )
            .sign(self._key, hashes.SHA256())
        )
        key_file = self.directory / f"{tag}.key"
        key_file.write_bytes(
            private.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        certificate_file = self.directory / f"{tag}.crt"
        certificate_file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
        )
        return SiteFiles(key_file, certificate_file, certificate.serial_number)

    def revoke(self, files, at_ms=None):
        """Return the revocation list with these files' certificate on it."""
        moment = _now() if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)
        self._revoked.append(
            x509.RevokedCertificateBuilder()
            .serial_number(files.serial)
            .revocation_date(moment)
            .build()
        )
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(_now() - timedelta(hours=1))
            .next_update(_now() + timedelta(days=30))
        )
        for entry in self._revoked:
            builder = builder.add_revoked_certificate(entry)
        path = self.directory / "ca.crl"
        path.write_bytes(
            builder.sign(self._key, hashes.SHA256()).public_bytes(
                serialization.Encoding.PEM
            )
        )
        return path

    def _builder(self, subject, key, begin, days):
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + timedelta(days=days))
        )
