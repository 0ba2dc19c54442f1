"""How much the spool writes to the card in a day, on a real ext4 (as root).

    make bench-spool ARGS='--minutes 12'

Each case has a card of its own: ext4 (blocks of 4 KiB, default options) in an image on a
loop device, whose written sectors the kernel counts. Two things are measured:

1. A whole day's commits, made one right after the other (the spool's clock is moved by
   hand): what the log and its checkpoints write. The file system's own timers do not run
   in such a day, so it is cheaper than a real one.
2. Some minutes with a heartbeat each 10 s, first as in (1), then in real time: what a
   commit costs more when it stands alone, namely the journal (an inode's time of change)
   and the inode itself. That is the same for each commit, whatever is in it; commits 30 s
   apart show it best, and commits 10 s apart share some of it.

MB a day = (1) + commits a day × what a commit costs more by (2).
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from support.card import Card
from support.spools import SpoolHome, mark
from support.waiting import until

BEAT_S = 10
DAY_S = 86_400
FIVE_MINUTES_S = 300
BEAT_BYTES = 130
HISTOGRAM_BYTES = 180
DIGEST_BYTES = 260
SETTLE_S = 40
"""Until the kernel has written back what it holds (30 s), and its journal (5 s)."""


@dataclass
class Case:
    name: str
    is_covered: bool
    beat: str = "heartbeat"
    day: int = 0
    day_commits: int = 0
    at_once: int = 0
    alone: int = 0
    alone_commits: int = 0

    @property
    def more(self) -> float:
        """Bytes that a commit costs beyond its data when it stands alone."""
        return (self.alone - self.at_once) / self.alone_commits


REACHED = Case("collector reached", is_covered=True)
AWAY = Case("collector away all day", is_covered=False)
EACH = Case("one commit for each record", is_covered=False, beat="event")
CASES = (REACHED, AWAY, EACH)


class Site:
    """A spool on a card, and what a polling day puts into it."""

    def __init__(self, card: Card, home: SpoolHome, case: Case) -> None:
        self.card, self.home, self.case = card, home, case
        home.card = card.root
        self.spool = home.open()
        self.commits = 0
        commit = self.spool._writer._commit

        def counted(*args, **kwargs):
            self.commits += 1
            commit(*args, **kwargs)

        self.spool._writer._commit = counted

    def beat(self, second: int) -> None:
        spool = self.spool
        if second % FIVE_MINUTES_S == 0:
            self.put("histogram", HISTOGRAM_BYTES)
            self.put("digest", DIGEST_BYTES)
        self.put(self.case.beat, BEAT_BYTES)
        if self.case.is_covered:
            # The last one's watermark comes before the next one is due.
            spool.cover(mark(spool.boot, spool.next_seq() - 2, revision=second + 1))

    def put(self, leaf: str, size: int) -> None:
        self.spool.append(self.spool.next_seq(), leaf, os.urandom(size))

    def settle(self) -> None:
        """Let the thread do what is due."""
        memory = self.spool._memory

        def idle():
            with memory.changed:
                due = memory.due()
                return not memory.urgent and (due is None or due > self.home.now_s)

        until(idle, "what is due is written")


def run_day(site: Site) -> None:
    os.sync()
    before, commits = site.card.written_bytes, site.commits
    for second in range(0, DAY_S, BEAT_S):
        site.home.now_s += BEAT_S
        site.beat(second)
        site.settle()
    os.sync()
    site.case.day = site.card.written_bytes - before
    site.case.day_commits = site.commits - commits


def run_minutes(site: Site, minutes: float, *, is_real: bool) -> tuple[int, int]:
    """Return the bytes written and the commits."""
    os.sync()
    time.sleep(SETTLE_S)
    before, commits = site.card.written_bytes, site.commits
    began = time.perf_counter()
    for beat in range(round(minutes * 60 / BEAT_S)):
        site.home.now_s += BEAT_S
        site.beat(DAY_S + beat * BEAT_S)
        site.settle()
        if is_real:
            time.sleep(max(began + (beat + 1) * BEAT_S - time.perf_counter(), 0))
    time.sleep(SETTLE_S)
    return site.card.written_bytes - before, site.commits - commits


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    given.add_argument("--minutes", type=float, default=12.0)
    minutes = given.parse_args().minutes
    shm = Path("/dev/shm")  # noqa: S108 - the folder in it has a name of its own
    folder = Path(tempfile.mkdtemp(prefix="jaga-bench-", dir=shm))
    try:
        threads = [
            threading.Thread(target=measure, args=(folder / str(n), case, minutes))
            for n, case in enumerate(CASES)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        shutil.rmtree(folder)
    print("| case | commits a day | a day's commits at once | MB a day |")
    print("|---|---|---|---|")
    for case in CASES:
        more = EACH.more if case is EACH else AWAY.more
        whole = case.day + case.day_commits * more
        print(
            f"| {case.name} | {case.day_commits:,} | {case.day / 1e6:.1f} MB |"
            f" {whole / 1e6:.1f} |"
        )
    print(
        f"\nA commit that stands alone costs {AWAY.more / 1e3:.1f} kB more"
        f" ({AWAY.alone_commits} in {minutes:g} minutes), one of many 10 s apart"
        f" {EACH.more / 1e3:.1f} kB."
    )


def measure(folder: Path, case: Case, minutes: float) -> None:
    with Card(folder, megabytes=96) as card:
        home = SpoolHome(folder / "home")
        site = Site(card, home, case)
        try:
            run_day(site)
            # A day's rest before each: what was saved up of commits is there again.
            home.now_s += DAY_S
            case.at_once, _ = run_minutes(site, minutes, is_real=False)
            home.now_s += DAY_S
            case.alone, case.alone_commits = run_minutes(site, minutes, is_real=True)
        finally:
            home.close()


if __name__ == "__main__":
    main()
