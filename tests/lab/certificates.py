"""A certificate authority of the lab's own, and the Sirekap stand-in's certificate.

Made anew for each lab by the `openssl` program; the keys go with the lab's directory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab import topology
from lab.namespace import command

if TYPE_CHECKING:
    from pathlib import Path

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]


def make(directory: Path) -> None:
    """Write `ca.crt`, `sirekap.crt` and `sirekap.key` into a new directory.

    Raises LabError when `openssl` is missing or refuses.
    """
    directory.mkdir(mode=0o755)
    names = [f"DNS:{n}" for n, a in topology.NAMES.items() if a == topology.SIREKAP]
    alternatives = ",".join([*names, f"IP:{topology.SIREKAP}"])
    ca = [str(directory / "ca.crt"), str(directory / "ca.key")]
    own = [str(directory / "sirekap.crt"), str(directory / "sirekap.key")]
    common = ["openssl", "req", "-x509", "-sha256", "-days", "7", *KEY]
    command(
        [
            *common,
            *("-subj", "/CN=Jaga lab CA"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-out", ca[0], "-keyout", ca[1]),
        ]
    )
    command(
        [
            *common,
            *("-subj", f"/CN={topology.SIREKAP_NAME}"),
            *("-addext", f"subjectAltName={alternatives}"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *("-addext", "extendedKeyUsage=serverAuth"),
            *("-CA", ca[0], "-CAkey", ca[1]),
            *("-out", own[0], "-keyout", own[1]),
        ]
    )
