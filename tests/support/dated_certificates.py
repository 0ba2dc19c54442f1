"""Certificates that begin when a test likes: openssl, run with another wall clock.

Needs Debian's `faketime`.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

HOST = "collector.example"
ADDRESS = "192.0.2.1"
CA_EXTENSION = "basicConstraints=critical,CA:TRUE\n"
LEAF_EXTENSION = f"subjectAltName=DNS:{HOST},IP:{ADDRESS}\n"
NEW = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class Pki:
    """Certificates of any dates, for one host and one address."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def openssl(self, at: datetime, *args: str) -> None:
        subprocess.run(
            ["faketime", at.strftime("%Y-%m-%d %H:%M:%S"), "openssl", *args],
            cwd=self.directory,
            check=True,
            capture_output=True,
            # faketime reads the date in the local zone.
            env={"PATH": "/usr/bin:/bin", "TZ": "UTC"},
        )

    def issue(
        self,
        name: str,
        begins: datetime,
        days: int,
        *,
        signer: str | None = None,
        extension: str = LEAF_EXTENSION,
    ) -> Path:
        """Make a key and a certificate, by itself or by `signer`; return the latter."""
        self.openssl(
            begins,
            *["req", *NEW, "-keyout", f"{name}.key", "-out", f"{name}.csr"],
            *["-subj", f"/CN={name}"],
        )
        (self.directory / "extension").write_text(extension)
        by = ["-signkey", f"{name}.key"]
        if signer:
            by = ["-CA", f"{signer}.crt", "-CAkey", f"{signer}.key", "-CAcreateserial"]
        self.openssl(
            begins,
            *["x509", "-req", "-in", f"{name}.csr", *by, "-days", str(days)],
            *["-extfile", "extension", "-out", f"{name}.crt"],
        )
        return self.path(name)

    def path(self, name: str, kind: str = "crt") -> Path:
        return self.directory / f"{name}.{kind}"
