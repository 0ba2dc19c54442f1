"""The CA's folder: whole or unchanged, whenever a run is cut short. Decides nothing.

One issue touches several files, so there is one moment that counts, the ledger's rename:
what was put into `staging/SERIAL` before it is moved to its place after it, by this run or
by the next; what has no entry in the ledger is removed by the next.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from typing import TYPE_CHECKING, Final

from jaga_deploy.errors import FolderError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

STAGING: Final = "staging"
LOCK: Final = "lock"


class Folder:
    """Files by their names relative to `path`; all methods raise FolderError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self, files: Mapping[str, bytes]) -> None:
        """Make it with these files, all or nothing; RefusedError if it is there."""
        new = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        with _said(self.path):
            if self.path.exists() and any(self.path.iterdir()):
                msg = (
                    f"{self.path} is there and not empty: choose another folder, or use"
                    " the CA that is in it"
                )
                raise RefusedError(msg)
            try:
                new.mkdir(mode=0o700, parents=True)
                for name, content in files.items():
                    _write(new / name, content)
                _move(new, self.path)
            except OSError:
                shutil.rmtree(new, ignore_errors=True)
                raise

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out; they wait."""
        with _said(self.path):
            descriptor = os.open(self.path / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def read(self, name: str) -> bytes:
        """Return a file's content."""
        with _said(self.path / name):
            return (self.path / name).read_bytes()

    def has(self, name: str) -> bool:
        """Tell whether there is such a file."""
        return (self.path / name).is_file()

    def write(self, name: str, content: bytes) -> None:
        """Write or replace a file, whole."""
        with _said(self.path / name):
            write(self.path / name, content)

    def remove(self, name: str) -> None:
        """Remove a file; none is no fault."""
        with _said(self.path / name):
            (self.path / name).unlink(missing_ok=True)

    def stage(self, serial: str, files: Mapping[str, bytes]) -> None:
        """Put files aside that belong to a certificate not yet in the ledger."""
        with _said(self.path / STAGING):
            for name, content in files.items():
                _write(self.path / STAGING / serial / name, content)
            _sync(self.path / STAGING / serial)
            _sync(self.path / STAGING)

    def settle(self, issued: Collection[str]) -> None:
        """Move what is staged to its place if its serial was issued, else remove it.

        Half-written files of an interrupted run go, too.
        """
        with _said(self.path / STAGING):
            for half in self.path.glob(f".*.{'[0-9a-f]' * 8}"):
                half.unlink()
            for aside in sorted((self.path / STAGING).glob("*")):
                if aside.name in issued:
                    # Keys first: a certificate in its place has its key beside it.
                    for path in sorted(
                        (each for each in aside.rglob("*") if each.is_file()),
                        key=lambda each: (each.suffix != ".key", each),
                    ):
                        _move(path, self.path / path.relative_to(aside))
                shutil.rmtree(aside)


def write(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write or replace any file, whole: to another name, to the disk, renamed."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        _write(new, content, mode or _mode(path))
        _move(new, path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def _mode(path: Path) -> int:
    return 0o600 if path.suffix == ".key" else 0o644


def _write(path: Path, content: bytes, mode: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with open(os.open(path, flags, 0o600), "wb") as file:  # noqa: PTH123 (a key is never readable by others, not for a moment)
        os.fchmod(file.fileno(), mode or _mode(path))
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    _sync(target.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _said(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        msg = (
            f"{error.filename or path}: {error.strerror}; is this the CA's folder, and"
            " may you write there?"
        )
        raise FolderError(msg) from error
