"""A card: ext4 in an image file on a loop device (as root). Made anew for each test."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

SECTOR_BYTES = 512
"""Of /sys/block/*/stat, whatever the device's."""


class Card:
    """Formatted as a Raspberry Pi's root is, except for its size."""

    def __init__(self, folder: Path, megabytes: int = 64) -> None:
        self.image = folder / "card.img"
        self.root = folder / "card"
        self.root.mkdir(parents=True)
        with self.image.open("wb") as image:
            image.truncate(megabytes << 20)
        # Blocks of 4 KiB as on every card of more than 512 MB; nothing is formatted
        # later in the background, which would count as written.
        run(
            *("mkfs.ext4", "-q", "-F", "-b", "4096"),
            *("-E", "lazy_itable_init=0,lazy_journal_init=0", self.image),
        )

    def __enter__(self) -> Self:
        run("mount", "-o", "loop", self.image, self.root)
        name = run("findmnt", "-no", "SOURCE", self.root).strip().removeprefix("/dev/")
        self._counts = Path(f"/sys/block/{name}/stat")
        return self

    def __exit__(self, *_: object) -> None:
        unmount(self.root)

    @property
    def written_bytes(self) -> int:
        """What the device was told to write since it was set up."""
        return int(self._stat()[6]) * SECTOR_BYTES

    @property
    def flushes(self) -> int:
        """How often the device was told to make durable what was written before."""
        return int(self._stat()[15])

    def snapshot(self, image: Path) -> None:
        """Copy the image as it is: what a power cut at this moment would leave.

        All that was written before the copy began is in it, and of what is written
        meanwhile some is: as a card's cache does it with writes since the last flush.
        A copy during which a flush ended could hold what came after it and lack what
        came before, as no card may: then again.
        """
        for _ in range(1000):
            before = self.flushes
            shutil.copyfile(self.image, image)
            if self.flushes == before:
                return
        msg = "the card is flushed all the time"
        raise AssertionError(msg)

    def _stat(self) -> list[str]:
        return self._counts.read_text(encoding="ascii").split()

    def remount(self, options: str) -> None:
        run("mount", "-o", f"remount,{options}", self.root)

    @contextmanager
    def filled(self) -> Iterator[None]:
        """Leave no room on it."""
        ballast = self.root / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                os.fsync(file.fileno())
        try:
            yield
        finally:
            ballast.unlink()


@contextmanager
def mounted(image: Path, root: Path) -> Iterator[Path]:
    """Mount a copy: the journal is recovered, as after a power cut."""
    root.mkdir(exist_ok=True)
    run("mount", "-o", "loop", image, root)
    try:
        yield root
    finally:
        unmount(root)


def unmount(root: Path) -> None:
    try:
        run("umount", root)
    except AssertionError:
        # A test that failed with files open must leave no mount behind.
        run("umount", "--lazy", root)


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
