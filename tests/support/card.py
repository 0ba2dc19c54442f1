"""A card: ext4 in an image file on a loop device (as root). Made anew for each test."""

from __future__ import annotations

import os
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
        return self

    def __exit__(self, *_: object) -> None:
        # Lazily: a test that failed with files open must leave no mount behind.
        run("umount", "--lazy", self.root)

    @property
    def written_bytes(self) -> int:
        """What the device was told to write since it was set up."""
        name = run("findmnt", "-no", "SOURCE", self.root).strip().removeprefix("/dev/")
        fields = Path(f"/sys/block/{name}/stat").read_text(encoding="ascii").split()
        return int(fields[6]) * SECTOR_BYTES

    def snapshot(self, image: Path) -> None:
        """Copy the image as it is: what a power cut at this moment would leave."""
        # Block by block while it is being written: what was written before the copy
        # began is in it, of what is written meanwhile some is, as in a card's cache.
        run("cp", "--sparse=always", self.image, image)

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
        run("umount", "--lazy", root)


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
