"""An operator's signature: ECDSA P-256, SHA-256, DER, from a PEM file. Decides nothing."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from jaga_server.errors import OrderError

if TYPE_CHECKING:
    from pathlib import Path


class SigningKey:
    """A private key, read once."""

    def __init__(self, path: Path) -> None:
        """Read the key; raises OrderError."""
        try:
            mode = path.stat().st_mode
            key = load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            message = f"--key: {path}: {error.strerror}"
            raise OrderError(message) from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            message = (
                f"--key: {path} is no private key in PEM without a pass phrase; get one:"
                " jaga-deploy operator issue NAME"
            )
            raise OrderError(message) from error
        if mode & stat.S_IRWXO:
            message = f"--key: everybody may use {path}; run: chmod o= {path}"
            raise OrderError(message)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(
            key.curve, ec.SECP256R1
        ):
            message = f"--key: {path} is not an ECDSA key on P-256, as sites want it"
            raise OrderError(message)
        self._key = key

    def sign(self, content: bytes) -> bytes:
        """Return the signature of `content`."""
        return self._key.sign(content, ec.ECDSA(hashes.SHA256()))
