"""Spools for tests: made in a folder, with a clock that is moved by hand."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jaga_agent.adapters.spool import TAIL_NAME, SqliteSpool
from jaga_agent.errors import SpoolError
from jaga_agent.wire.evidence import BootMark, Watermark
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from jaga_agent.ports import Spool, SpooledRecord

STORE = b"store--1"


@dataclass
class SpoolHome:
    """A card, its RAM, a kernel's boot, and the spools opened there."""

    folder: Path
    kernel: str = "11111111-1111-4111-8111-111111111111"
    now_s: float = 1000.0
    opened: list[SqliteSpool] = field(default_factory=list)
    card: Path | None = None
    """Where the file is; a folder of its own beside the RAM's if not said."""

    @property
    def path(self) -> Path:
        return (self.card or self.folder / "card") / "spool.sqlite3"

    @property
    def tail(self) -> Path:
        return self.folder / "run" / TAIL_NAME

    def open(self, **options: Any) -> SqliteSpool:
        spool = SqliteSpool(
            self.path,
            run_directory=self.tail.parent,
            now=lambda: self.now_s,
            boot_id=self.kernel,
            **options,
        )
        self.opened.append(spool)
        return spool

    def kill(self) -> None:
        """End the newest one nearly as SIGKILL does: no record more is written.

        The log is taken into the file, as a kill would not do it.
        """
        spool = self.opened.pop()
        memory = spool._memory
        with memory.changed:
            # A commit under way may end, as it may before a kill; the tail is not cut.
            memory.committed = lambda batch, gone: None
            memory.fresh.clear()
            memory.urgent = memory.marks_dirty = memory.marks_urgent = False
            memory.flushing = memory.suspect = False
        spool.close()

    def lose_power(self) -> None:
        """What is in RAM is gone, and the kernel boots again."""
        self.tail.unlink(missing_ok=True)
        self.kernel = os.urandom(8).hex()

    def close(self) -> None:
        for spool in self.opened:
            spool.close()


def fill(spool: Spool, *leaves: str) -> list[SpooledRecord]:
    """Append records whose payloads name them."""
    return [
        spool.append(spool.next_seq(), leaf, f"{leaf} {spool.next_seq()}".encode())
        for leaf in leaves
    ]


def all_kept(spool: SqliteSpool) -> dict[tuple[bytes, int], SpooledRecord]:
    """Return all that is kept, by boot and seq; waits while the card is busy."""

    def kept() -> dict[tuple[bytes, int], SpooledRecord] | None:
        try:
            return {
                (boot, record.seq): record
                for boot, highest in spool.boots()
                for record in spool.select(boot, 1, highest)
            }
        except SpoolError:
            return None

    whole: list[dict[tuple[bytes, int], SpooledRecord]] = []
    until(lambda: (found := kept()) is not None and (whole.append(found) or True))
    return whole[0]


def seqs(records: Iterable[SpooledRecord]) -> list[int]:
    return [record.seq for record in records]


def pending(spool: Spool) -> list[int]:
    return seqs(spool.pending(100_000))


def mark(
    boot: bytes,
    through: int,
    highest: int | None = None,
    *gaps: tuple[int, int],
    store: bytes = STORE,
    revision: int = 1,
) -> Watermark:
    one = BootMark(boot, through, highest or through, tuple(gaps))
    return Watermark(store, revision, (one,))
