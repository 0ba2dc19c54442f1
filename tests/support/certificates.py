"""A certificate authority of a test's own, by the openssl program.

As large as what a browser meets: RSA 2048, a leaf with a dozen names, two intermediate
CAs sent along.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_CA = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
_LEAF = """\
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature,keyEncipherment
extendedKeyUsage=serverAuth,clientAuth
authorityInfoAccess=OCSP;URI:http://ocsp.ca.example,caIssuers;URI:http://ca.example/i.crt
crlDistributionPoints=URI:http://crl.ca.example/intermediate-2.crl
certificatePolicies=2.23.140.1.2.1
"""


@dataclass(frozen=True)
class Issued:
    """A server's files: the chain it sends, leaf first, and its key."""

    chain: Path
    key: Path


class Authority:
    """A root, two intermediates, and the servers' certificates they sign."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._sign("root", "Jaga test root", _CA, signer=None, days=30)
        self._sign("middle1", "Jaga test CA 1", _CA, signer="root", days=30)
        self._sign("middle2", "Jaga test CA 2", _CA, signer="middle1", days=30)

    @property
    def root(self) -> Path:
        """The file that a client trusts."""
        return self._directory / "root.crt"

    def issue(self, tag: str, *names: str, days: int = 30) -> Issued:
        """Return a server's files for these names; 0 days: expired a second later."""
        san = ",".join(f"DNS:{name}" for name in names)
        self._sign(
            tag, names[0], f"{_LEAF}subjectAltName={san}\n", signer="middle2", days=days
        )
        chain = self._directory / f"{tag}.chain"
        chain.write_bytes(
            b"".join(
                (self._directory / f"{part}.crt").read_bytes()
                for part in (tag, "middle2", "middle1")
            )
        )
        return Issued(chain, self._directory / f"{tag}.key")

    def _sign(
        self, tag: str, name: str, extensions: str, *, signer: str | None, days: int
    ) -> None:
        def file(kind: str, of: str = tag) -> str:
            return str(self._directory / f"{of}.{kind}")

        (self._directory / f"{tag}.ext").write_text(extensions)
        self._openssl(
            "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj",
            f"/C=ID/O=Jaga test/CN={name}", "-keyout", file("key"), "-out", file("csr"),
        )  # fmt: skip
        by = (
            ["-signkey", file("key")]
            if signer is None
            else ["-CA", file("crt", signer), "-CAkey", file("key", signer)]
        )
        self._openssl(
            "x509", "-req", "-in", file("csr"), "-days", str(days), "-sha256",
            *by, "-extfile", file("ext"), "-out", file("crt"),
        )  # fmt: skip

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=30)
