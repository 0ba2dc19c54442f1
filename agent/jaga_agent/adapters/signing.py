"""Signatures by the `openssl` program: ECDSA P-256, SHA-256, DER. Decides nothing.

Keys stay in their files: the program is given the path, never the key. What is signed
goes through its standard input, a signature through a pipe; nothing is put into a file.
A process of its own also means that no secret ever stands in the agent's memory.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

from jaga_agent import program, tls
from jaga_agent.errors import SigningError

if TYPE_CHECKING:
    from pathlib import Path

_TIMEOUT_S: Final = 20.0
"""openssl takes some milliseconds on a PC; beyond this it hangs."""
_SEQUENCE: Final = 0x30
_NOT_OURS: Final = ("Verification failure", "Error verifying data")
"""What dgst says of a signature that is not the key's, and of one that is no DER."""


class SiteKey:
    """The site's own key, and its certificate: `Signer`. Both files may be replaced.

    A renewal replaces two files, one after the other. Nothing is signed in between: a
    signature that does not fit the certificate said with it would look forged for ever.
    """

    def __init__(self, key_file: Path, certificate_file: Path) -> None:
        self._key_file = key_file
        self._certificate_file = certificate_file
        self._seen: tuple[object, ...] = ()
        """The two files as they were when they were last found to fit."""
        self._certificate = b""

    async def certificate(self) -> bytes:
        """Return the certificate (DER) of the key; raises SigningError."""
        seen = self._look()
        if seen != self._seen:
            certificate = await asyncio.to_thread(self._read_certificate)
            ours = await _public_key(
                self._key_file, "pkey", "-passin", "pass:", "-pubout"
            )
            named = await _public_key(
                self._certificate_file, "x509", "-noout", "-pubkey"
            )
            if ours != named or self._look() != seen:
                msg = (
                    f"{self._key_file} is not the key of {self._certificate_file};"
                    " put the two files there that were issued together"
                )
                raise SigningError(msg)
            self._seen, self._certificate = seen, certificate
        return self._certificate

    async def sign(self, data: bytes) -> bytes:
        """Return the signature (DER) by the key of the `certificate` last returned.

        Raises:
            SigningError: openssl cannot; or the files were replaced meanwhile: ask for
                the certificate again.

        """
        signature = await sign(data, self._key_file)
        if self._look() != self._seen:
            msg = f"{self._key_file} was replaced just now; it is tried again"
            raise SigningError(msg)
        return signature

    def _look(self) -> tuple[object, ...]:
        try:
            found = [file.stat() for file in (self._key_file, self._certificate_file)]
        except OSError as error:
            msg = f"cannot read {error.filename}: {error.strerror}"
            raise SigningError(msg) from error
        return tuple((s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns) for s in found)

    def _read_certificate(self) -> bytes:
        """Return the file's first certificate: the site's; issuers may follow it."""
        try:
            return tls.first_certificate(self._certificate_file)
        except OSError as error:
            msg = f"cannot read {self._certificate_file}: {error.strerror}"
            raise SigningError(msg) from error
        except ValueError as error:
            msg = f"{self._certificate_file} has no certificate in PEM"
            raise SigningError(msg) from error


async def _public_key(file: Path, *words: str) -> bytes:
    code, out, error = await _openssl(*words, "-in", str(file))
    if code or not out:
        msg = f"cannot use {file}: {_reason(error)}"
        raise SigningError(msg)
    return out


async def sign(data: bytes, key_file: Path) -> bytes:
    """Return the signature (DER) of `data` by the private key in a PEM file.

    Raises:
        SigningError: openssl is not installed, or cannot use the key.

    """
    # An empty pass phrase: a locked key must fail here, not ask the terminal.
    arguments = ("-sign", str(key_file), "-passin", "pass:")
    code, out, error = await _dgst(*arguments, stdin=data)
    if code or not out:
        msg = f"cannot sign with {key_file}: {_reason(error)}"
        raise SigningError(msg)
    return out


async def verify(data: bytes, signature: bytes, public_key_file: Path) -> bool:
    """Return whether `signature` (DER) over `data` is by the key of a PEM file.

    Raises:
        SigningError: openssl is not installed, or cannot read the key.

    """
    if not _is_one_sequence(signature):
        return False
    reading, writing = os.pipe()
    try:
        try:
            # 80 bytes at most: a pipe holds them without a reader.
            os.write(writing, signature)
        finally:
            os.close(writing)
        code, out, error = await _dgst(
            "-verify",
            str(public_key_file),
            "-signature",
            f"/dev/fd/{reading}",
            stdin=data,
            pass_fds=(reading,),
        )
    finally:
        os.close(reading)
    said = f"{out.decode(errors='replace')}\n{error}"
    if code == 0 and "Verified OK" in said:
        return True
    if any(words in said for words in _NOT_OURS):
        return False
    msg = f"cannot verify with {public_key_file}: {_reason(error)}"
    raise SigningError(msg)


def _is_one_sequence(signature: bytes) -> bool:
    """Whether it is one DER sequence and nothing behind it.

    dgst reads only as many bytes as the key's longest signature has: what is behind
    them it would not see.
    """
    return 8 <= len(signature) <= 80 and signature[:2] == bytes(
        (_SEQUENCE, len(signature) - 2)
    )


async def _dgst(
    *arguments: str, stdin: bytes, pass_fds: tuple[int, ...] = ()
) -> tuple[int, bytes, str]:
    words = ("dgst", "-sha256", *arguments)
    return await _openssl(*words, stdin=stdin, pass_fds=pass_fds)


async def _openssl(
    *arguments: str, stdin: bytes = b"", pass_fds: tuple[int, ...] = ()
) -> tuple[int, bytes, str]:
    try:
        code, out, said = await program.run(
            "openssl", *arguments, stdin=stdin, timeout_s=_TIMEOUT_S, pass_fds=pass_fds
        )
    except FileNotFoundError as error:
        msg = "openssl is not installed; run: sudo apt-get install openssl"
        raise SigningError(msg) from error
    except TimeoutError as error:
        msg = f"openssl did not end within {_TIMEOUT_S:g} s"
        raise SigningError(msg) from error
    except OSError as error:
        msg = f"openssl cannot be started: {error.strerror}"
        raise SigningError(msg) from error
    return code, out, said.decode(errors="replace")


def _reason(error: str) -> str:
    """Return the first line of what openssl says, which is the one for people."""
    lines = [line for line in error.splitlines() if line.strip()]
    return lines[0] if lines else "openssl said nothing"
