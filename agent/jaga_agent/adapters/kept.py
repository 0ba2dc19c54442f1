"""Small files that must survive a power cut at any moment. Decides nothing.

Written whole beside, synced, then put in place: a power cut leaves the old content or
the new one. When `save` returns, it is on the card.
"""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import msgspec

from jaga_agent import whole_file
from jaga_agent.core.applied import Applied
from jaga_agent.core.orders import Memory
from jaga_agent.errors import KeptError

if TYPE_CHECKING:
    from pathlib import Path


ORDERS: Final = "orders.json"
CONFIGURATION: Final = "configuration.json"
"""In the state directory."""
MOST_BYTES: Final = 1024 * 1024

T = TypeVar("T")


class KeptFile(Generic[T]):
    """One value of one kind: a line of JSON, and its SHA-256 below.

    A flipped bit must not lower a counter unseen.
    """

    def __init__(self, path: Path, kind: type[T]) -> None:
        self._path = path
        self._decoder = msgspec.json.Decoder(kind)
        self._lock = threading.Lock()

    def load(self) -> T | None:
        """Return what is kept; None: nothing ever was.

        Raises:
            KeptError: the file cannot be read, or is damaged.

        """
        try:
            with self._path.open("rb") as file:
                content, _, digest = file.read(MOST_BYTES).partition(b"\n")
            if digest.removesuffix(b"\n") != _digest(content):
                msg = f"{self._path}: damaged: it is not what its checksum says"
                raise KeptError(msg)
            return self._decoder.decode(content)
        except FileNotFoundError:
            return None
        except OSError as error:
            hint = "; use sudo" if isinstance(error, PermissionError) else ""
            msg = f"{self._path}: cannot be read: {error.strerror}{hint}"
            raise KeptError(msg) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            msg = f"{self._path}: damaged: {error}"
            raise KeptError(msg) from error

    def save(self, value: T) -> None:
        """Keep this; takes as long as the card takes to sync. Any thread.

        Raises:
            KeptError: it is not certain that the value is on the card.

        """
        try:
            with self._lock:
                content = msgspec.json.encode(value)
                whole = content + b"\n" + _digest(content) + b"\n"
                whole_file.put(self._path, whole, mode=0o600)
        except OSError as error:
            msg = f"{self._path}: cannot be written: {error.strerror}"
            raise KeptError(msg) from error


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def orders(directory: Path) -> KeptFile[Memory]:
    """Return where the orders obeyed so far are remembered."""
    return KeptFile(directory / ORDERS, Memory)


def configuration(directory: Path) -> KeptFile[Applied]:
    """Return where an applied configuration is kept."""
    return KeptFile(directory / CONFIGURATION, Applied)
