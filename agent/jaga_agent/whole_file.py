"""Small files that a power cut leaves as they were or as they are to be, never between.

Written whole beside, synced, put in place, and the directory synced. What is in them,
and how often, is the caller's affair (an SD card wears).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def put(path: Path, content: bytes, *, mode: int, parents_owner: bool = False) -> None:
    """Write or replace a file; it is on the card on return. Raises OSError.

    `mode` is subject to the umask. `parents_owner`: written by root, it is the
    directory's owner's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    opened = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(opened, "wb") as file:
        file.write(content)
        file.flush()
        if parents_owner and os.geteuid() == 0:
            owner = path.parent.stat()
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Wait until a directory's names are on the card. Raises OSError."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
