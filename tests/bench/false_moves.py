"""Prints what the engine's thresholds cost: needless moves against late detection.

PYTHONPATH=tests .venv/bin/python tests/bench/false_moves.py
    --hours 12 --seeds 3 --trials 10 --jobs 2 --why --only lte_cell_edge
    --set probe_interval_s=5 --set rto_floor_s=0.3
Virtual time; about 5 s of work for each twelve hours, 1 s for each fault.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from sim import trials


def one_day(link, seed, hours, changes):
    behaviours = trials.link_behaviours(link, seed, hours)
    world = trials.day(behaviours, seed, hours, **changes)
    moves = world.judged_moves()
    return {
        "needless": [m for m in moves if m.needless],
        "right": [m for m in moves if not m.needless],
        "uploads_s": world.phone.uploads,
        "gave_up": world.phone.gave_up,
        "on_preferred": world.state.active == trials.TELKOMSEL,
    }


def one_fault(link, name, seed, changes):
    return trials.fault(link, name, seed, **changes)


def one_idle(link, seed, changes):
    return trials.idle_bytes_per_day(link, seed, **changes)


def shown(found):
    found = [f for f in found if f is not None]
    times = [f.left_after_s for f in found]
    known = [t for t in times if t is not None]
    if not found:
        return "–"
    if not known:
        return f"never (0 of {len(times)})"
    ordered = sorted(trials.WAITED_S if t is None else t for t in times)
    middle, worst = statistics.median(ordered), ordered[-1]
    text = "/".join(f"{t:.1f}" if t < trials.WAITED_S else "∞" for t in (middle, worst))
    missed = len(times) - len(known)
    return f"{text} ({missed} missed)" if missed else text


def main():
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--hours", type=float, default=12)
    ask.add_argument("--seeds", type=int, default=3)
    ask.add_argument("--trials", type=int, default=10)
    ask.add_argument("--jobs", type=int, default=1)
    ask.add_argument("--only", action="append", choices=trials.LINKS)
    ask.add_argument("--why", action="store_true", help="causes of needless moves")
    ask.add_argument("--set", action="append", default=[], metavar="THRESHOLD=NUMBER")
    given = ask.parse_args()
    changes = {k: float(v) for k, v in (each.split("=") for each in given.set)}
    changes = {
        k: int(v) if v.is_integer() and k in INTEGERS else v for k, v in changes.items()
    }
    links = given.only or trials.LINKS
    seeds = range(1, given.seeds + 1)
    with ProcessPoolExecutor(given.jobs) as pool:
        days = {
            (link, seed): pool.submit(one_day, link, seed, given.hours, changes)
            for link in links
            for seed in seeds
        }
        faults = {
            (link, name): [
                pool.submit(one_fault, link, name, seed, changes)
                for seed in range(1, given.trials + 1)
            ]
            for link in links
            for name in trials.FAULTS
        }
        idle = {link: pool.submit(one_idle, link, 1, changes) for link in links}
        print(
            f"| link | needless/{given.hours:g} h (seeds {min(seeds)}–{max(seeds)}) "
            "| right | worst stay s | uploads median s, given up | "
            + " | ".join(f"{name} s" for name in trials.FAULTS)
            + " | idle kB/day |"
        )
        print("|" + "---|" * (6 + len(trials.FAULTS)))
        why = Counter()
        for link in links:
            done = [days[link, seed].result() for seed in seeds]
            needless = [m for d in done for m in d["needless"]]
            why.update(
                (link, m.rule, re.sub(r"[\d.]+", "#", str(m.reason))) for m in needless
            )
            stays = [
                f"{m.away_s:.0f}" + ("" if m.returned else " (not back)")
                for m in sorted(needless, key=lambda m: m.away_s)
            ]
            uploads = [s for d in done for s in d["uploads_s"]]
            costs = idle[link].result()
            cells = [
                link,
                ", ".join(str(len(d["needless"])) for d in done),
                ", ".join(str(len(d["right"])) for d in done),
                stays[-1] if stays else "–",
                f"{statistics.median(uploads):.1f}, {sum(d['gave_up'] for d in done)}",
                *(
                    shown([f.result() for f in faults[link, name]])
                    for name in trials.FAULTS
                ),
                "+".join(f"{cost / 1000:.0f}" for cost in costs.values()),
            ]
            print("| " + " | ".join(cells) + " |", flush=True)
        print(
            "\nDelays: median/worst of the trials; ∞: not within "
            f"{trials.WAITED_S:g} s. A needless move that happens to fall into a trial "
            "counts as found:\nread the slow faults beside the count of needless moves."
            "\nIdle: probes' IPv4 bytes both ways, preferred + second + third uplink."
        )
        if given.why:
            for (link, rule, reason), times in why.most_common():
                print(f"{times:4d} {link}: {rule}: {reason}")


INTEGERS = {"rise", "volleys", "busy_packets"}

if __name__ == "__main__":
    main()
