"""A process that fills a spool until it is killed, and says what it has done.

    python -m support.spool_child CARD-FOLDER RUN-FOLDER KERNEL SEED

Lines: `boot NAME`, `kept SEQ TOKEN LEAF`, `durable TOKEN`.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from jaga_agent.adapters.clock import BoottimeClock
from jaga_agent.adapters.spool import SqliteSpool
from jaga_agent.wire.evidence import BootMark, Watermark

LEAVES = ("heartbeat",) * 6 + ("histogram", "event", "digest")


def payload_of(boot: bytes, seq: int) -> bytes:
    """What the record of that number holds."""
    return boot + b"%d" % seq * 20


def main(card: str, run: str, kernel: str, seed: str) -> None:
    dice = random.Random(seed)  # noqa: S311 - repeatable, no secret
    spool = SqliteSpool(
        Path(card) / "spool.sqlite3",
        run_directory=Path(run),
        now=BoottimeClock().now,
        boot_id=kernel,
    )
    say(f"boot {spool.boot.hex()}")
    revision = time.perf_counter_ns()  # a later run's is higher
    while True:
        seq = spool.next_seq()
        leaf = dice.choice(LEAVES)
        record = spool.append(seq, leaf, payload_of(spool.boot, seq))
        say(f"kept {seq} {record.token} {leaf}")
        say(f"durable {spool.durable_up_to}")
        if dice.random() < 0.05:
            through = dice.randrange(seq)
            revision += 1
            one = BootMark(spool.boot, through, through)
            spool.cover(Watermark(b"store--1", revision, (one,)))
        if dice.random() < 0.02:
            # Long enough for the image to be copied.
            time.sleep(0.15)
        if dice.random() < 0.2:
            time.sleep(dice.random() * 0.004)


def say(line: str) -> None:
    # At once, and whole: a kill must not take back what was said.
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
