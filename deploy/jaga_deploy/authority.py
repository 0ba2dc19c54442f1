"""What the operator asks of the CA, one function each: decide, sign, keep.

It holds the order in which things are kept (adapters/folder.py says why), and neither
arithmetic nor formats: those are core's and the adapters'.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from jaga_deploy.adapters import x509
from jaga_deploy.adapters.folder import Folder
from jaga_deploy.core import ledger as book
from jaga_deploy.core.ledger import Certificate, Ledger
from jaga_deploy.core.subjects import Kind, Subject
from jaga_deploy.errors import FolderError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CERTIFICATE: Final = "ca.crt"
KEY: Final = "ca.key"
CRL: Final = "ca.crl"
LEDGER: Final = "ledger.json"
CERTIFICATES: Final = "certificates"
"""Every certificate ever issued, by serial: an old one proves what was signed then."""
OPERATOR_KEYS: Final = "operator-keys"
"""The public halves with which sites verify commands; for every card."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What there is, for `list`."""

    ledger: Ledger
    authority_ends_s: int
    crl: x509.Crl

    def warnings(self, now_s: int) -> tuple[str, ...]:
        """Return what ends soon or is out of step."""
        crl = (self.crl.number, self.crl.next_update_s)
        return tuple(book.warnings(self.ledger, self.authority_ends_s, crl, now_s))


def begin(
    path: Path, name: str, days: int, passphrase: bytes | None, now_s: int
) -> None:
    """Make a CA in a new folder; raises RefusedError if something is there."""
    begins_s, ends_s = now_s - book.SKEW_S, now_s + days * book.DAY_S
    certificate, key = x509.new_authority(name, begins_s, ends_s, passphrase)
    ledger = book.next_crl(Ledger())
    signer = x509.Signer(certificate, key, passphrase)
    Folder(path).create(
        {
            CERTIFICATE: certificate,
            KEY: key,
            CRL: signer.crl(ledger.crl_number, (), begins_s, ends_s),
            LEDGER: _encode(ledger),
        }
    )


class Authority:
    """A CA's folder, opened."""

    def __init__(self, path: Path, passphrase: bytes | None = None) -> None:
        """Open it; raises FolderError if there is no CA in it."""
        self._folder = Folder(path)
        self._passphrase = passphrase
        if not self._folder.has(LEDGER):
            msg = (
                f"{path} is no CA's folder: make one with jaga-deploy ca init {path}, or"
                " name another with --ca"
            )
            raise FolderError(msg)
        self._certificate = self._folder.read(CERTIFICATE)

    @property
    def path(self) -> Path:
        """The folder."""
        return self._folder.path

    def standing(self) -> Standing:
        """Return what was issued and revoked, as the folder says now."""
        return Standing(
            ledger=self._ledger(),
            authority_ends_s=x509.validity(self._certificate)[1],
            crl=x509.read_crl(self._folder.read(CRL)),
        )

    def issue(
        self, subject: Subject, days: int, now_s: int, csr: bytes | None = None
    ) -> Certificate:
        """Issue a holder's first certificate; its files are in `subject.folder`.

        With a request (`csr`) the holder keeps its key; else a new one is among the
        files. Raises RefusedError if the holder has a valid certificate.
        """
        with self._at_work() as ledger:
            book.may_issue(ledger, subject, now_s)
            return self._issue(ledger, subject, days, now_s, csr, renewal=None)

    def renew(
        self,
        subject: Subject,
        days: int,
        now_s: int,
        csr: bytes | None = None,
        *,
        new_key: bool = False,
    ) -> Certificate:
        """Issue the next certificate; the one before stays valid till it ends.

        For the same key, unless there is a request or a new one is asked for: then only
        the certificate has to travel to the card.
        """
        with self._at_work() as ledger:
            last = book.may_renew(ledger, subject)
            if subject.kind is Kind.BROKER:
                subject = Subject(subject.kind, subject.name, subject.label, last.hosts)
            before = None if new_key or csr else last
            return self._issue(ledger, subject, days, now_s, csr, renewal=before)

    def revoke(
        self, subject: Subject, serial: str | None, now_s: int
    ) -> tuple[Certificate, ...]:
        """Revoke a holder's certificates, or one; return those that were not yet.

        The list is made anew in any case, so that a repeated call ends what an
        interrupted one began.
        """
        with self._at_work() as before:
            signer = self._signer()
            ledger, gone = book.revoke(before, subject, serial, now_s)
            ledger = book.next_crl(ledger)
            self._folder.write(LEDGER, _encode(ledger))
            self._write_crl(signer, ledger, now_s)
            if subject.kind is Kind.OPERATOR and ledger.current(subject) is None:
                self._folder.remove(_operator_key(subject))
            return gone

    def make_crl(self, now_s: int, days: int | None) -> x509.Crl:
        """Make the revocation list anew; `days` None: it lasts as long as the CA."""
        with self._at_work() as before:
            signer = self._signer()
            ledger = book.next_crl(before)
            self._folder.write(LEDGER, _encode(ledger))
            self._write_crl(signer, ledger, now_s, days)
        return x509.read_crl(self._folder.read(CRL))

    def broker_files(self, subject: Subject | None, now_s: int) -> dict[str, bytes]:
        """Return what a broker needs of the CA: its four files by name.

        `subject` None: the only broker. Raises RefusedError if there is none, or several.
        """
        ledger = self._ledger()
        valid = {
            each.label
            for each in ledger.certificates
            if each.kind is Kind.BROKER and each.state(now_s) == "valid"
        }
        if subject is None and len(valid) != 1:
            msg = (
                f"there are several brokers ({', '.join(sorted(valid))}): say --host"
                if valid
                else "no broker has a valid certificate: jaga-deploy broker issue HOST"
            )
            raise RefusedError(msg)
        label = subject.label if subject else next(iter(valid))
        if label not in valid:
            msg = f"broker {label} has no valid certificate: see jaga-deploy list"
            raise RefusedError(msg)
        crl = self._folder.read(CRL)
        if x509.read_crl(crl).number != ledger.crl_number:
            msg = (
                "the revocation list is older than the ledger (an interrupted run): make"
                " it anew with jaga-deploy crl, then ask again"
            )
            raise RefusedError(msg)
        return {
            CERTIFICATE: self._certificate,
            CRL: crl,
            "server.crt": self._folder.read(f"brokers/{label}/server.crt"),
            "server.key": self._folder.read(f"brokers/{label}/server.key"),
        }

    def _issue(
        self,
        ledger: Ledger,
        subject: Subject,
        days: int,
        now_s: int,
        csr: bytes | None,
        *,
        renewal: Certificate | None,
    ) -> Certificate:
        signer = self._signer()
        authority = x509.validity(self._certificate)
        begins_s, ends_s = book.validity(subject.kind, days, authority, now_s)
        files: dict[str, bytes] = {}
        if renewal is not None:
            pem = self._folder.read(f"{CERTIFICATES}/{renewal.serial}.crt")
            key = x509.certified_key(pem)
        elif csr is not None:
            key = x509.requested_key(csr)
        else:
            private = x509.new_key()
            key = x509.public_key(private)
            files[f"{subject.folder}/{subject.stem}.key"] = private
        book.may_use_key(ledger, subject, key.sha256)
        if subject.kind is Kind.OPERATOR and renewal is None:
            signing = x509.new_key()
            public = x509.public_key(signing).pem
            files[f"{subject.folder}/command.key"] = signing
            files[f"{subject.folder}/{subject.label}.pub.pem"] = public
            files[_operator_key(subject)] = public
        serial, pem = signer.certify(subject, key, begins_s, ends_s)
        files[f"{subject.folder}/{subject.stem}.crt"] = pem
        files[f"{subject.folder}/{CERTIFICATE}"] = self._certificate
        files[f"{CERTIFICATES}/{serial}.crt"] = pem
        certificate = Certificate(
            serial=serial,
            kind=subject.kind,
            name=subject.name,
            label=subject.label,
            issued_s=now_s,
            not_before_s=begins_s,
            not_after_s=ends_s,
            key_sha256=key.sha256,
            hosts=subject.hosts,
        )
        ledger = book.issue(ledger, certificate)
        self._folder.stage(serial, files)
        self._folder.write(LEDGER, _encode(ledger))
        self._folder.settle({serial})
        if csr is not None:
            # A key of before would be beside a certificate that is not its own.
            self._folder.remove(f"{subject.folder}/{subject.stem}.key")
        return certificate

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[Ledger]:
        """Keep others out, end what an interrupted run began, give the ledger."""
        with self._folder.locked():
            ledger = self._ledger()
            self._folder.settle({each.serial for each in ledger.certificates})
            yield ledger

    def _write_crl(
        self, signer: x509.Signer, ledger: Ledger, now_s: int, days: int | None = None
    ) -> None:
        begins_s, ends_s = x509.validity(self._certificate)
        until_s = ends_s if days is None else min(ends_s, now_s + days * book.DAY_S)
        revoked = [
            (each.serial, each.revoked_s)
            for each in ledger.revoked()
            if each.revoked_s is not None
        ]
        since_s = max(begins_s, now_s - book.SKEW_S)
        crl = signer.crl(ledger.crl_number, revoked, since_s, until_s)
        self._folder.write(CRL, crl)

    def _signer(self) -> x509.Signer:
        return x509.Signer(self._certificate, self._folder.read(KEY), self._passphrase)

    def _ledger(self) -> Ledger:
        try:
            ledger = msgspec.json.decode(self._folder.read(LEDGER), type=Ledger)
        except msgspec.DecodeError as error:
            msg = (
                f"{self.path / LEDGER} cannot be read: {error}; restore the CA's folder"
                " from a backup"
            )
            raise FolderError(msg) from error
        if ledger.version != book.VERSION:
            msg = (
                f"{self.path / LEDGER} is of version {ledger.version}, this program"
                f" knows {book.VERSION}: use the newer jaga-deploy"
            )
            raise FolderError(msg)
        return ledger


def _operator_key(subject: Subject) -> str:
    return f"{OPERATOR_KEYS}/{subject.label}.pub.pem"


def _encode(ledger: Ledger) -> bytes:
    return msgspec.json.format(msgspec.json.encode(ledger), indent=1) + b"\n"
