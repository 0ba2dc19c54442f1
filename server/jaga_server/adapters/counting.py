"""An operator's counter, kept beside the key: it rises whatever the clock does."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from jaga_server.errors import OrderError

if TYPE_CHECKING:
    from pathlib import Path


def take(path: Path, now_us: int, count: int) -> int:
    """Return the first of `count` numbers never taken before, at least `now_us`.

    They are on the disk as taken on return. Several programs may take at once.

    Raises:
        OrderError: the file cannot be written, or is damaged.

    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            text = os.read(fd, 64).decode("ascii", "replace").strip()
            if text and not text.isdecimal():
                message = (
                    f"{path} is damaged: {text[:20]!r} is no number; write into it the"
                    f" microseconds since 1970, e.g.: date +%s%6N > {path}"
                )
                raise OrderError(message)
            first = max(now_us, int(text or "0") + 1)
            # As long as before: a power cut leaves the old number or the new one.
            os.pwrite(fd, f"{first + count - 1:020d}\n".encode(), 0)
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        message = f"{path}: {error.strerror}; the counter of orders must be kept"
        raise OrderError(message) from error
    return first
