"""Measures what the agent costs a Pi: processor and memory, idle and with a busy phone.

    make bench-cost                      # as root; about two minutes
    .venv/bin/python tests/bench/agent_cost.py --seconds 60 [--profile FILE]
        [--journal FILE] [--imports]

The lab's site with three uplinks, Mosquitto, and the real agent, which has run its checks
of the real thing (TCP, and HTTPS judged by a CA of its own) through every uplink before
the first figure is taken: OpenSSL stays in memory from then on. First nobody uses the
site, then a phone makes 20 connections a second and uploads 400 kbit/s. Beside it, in the
same time, a bare process that imports what the agent imports and does nothing: the floor
of Python and its packages.

--profile runs the agent under cProfile while the phone is busy and keeps the statistics in
FILE; its own cost is then in the figures. --journal keeps the agent's journal in FILE, for
`jaga-agent replay`: what was fed how often. --imports shows what each import costs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pstats
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from demo.stage import BIN, agent_config
from jaga_agent.adapters.control import ask
from jaga_agent.errors import StatusError
from lab import Lab
from lab.namespace import end, popen
from lab.topology import SIREKAP, UPLINKS
from support.waiting import until

SITE = "tps-6408010001-001"
SETTLE_S = 8.0
MIB = 1 << 20
PERCENT_BOUND, RSS_BOUND_MIB = 1.0, 45.0
"""What the agent may take of one core, and of memory, with a busy phone."""

UNIT_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1"}
"""As in systemd/jaga-agent.service."""
COMPILED = ("jaga_agent.cli", "jaga_agent.wiring")
"""What is imported once beforehand, so that it is compiled, as pip leaves it on a Pi:
an agent that compiles its modules at its start keeps 1 MiB more."""

PACKAGES = (
    *("paho.mqtt.client", "psutil", "icmplib", "tenacity", "msgspec"),
    "jaga_agent.pyroute2_door",
)
FLOOR = (
    "import asyncio, sqlite3, logging\n"
    f"import {', '.join(PACKAGES)}\n"
    "asyncio.run(asyncio.sleep(3600))"
)
# One after the other in one process: what each adds to those before it.
IMPORTS = (
    "asyncio",
    "ssl",
    "sqlite3",
    "tomllib",
    "subprocess",
    "msgspec",
    "psutil",
    "icmplib",
    "paho.mqtt.client",
    "tenacity",
    "jaga_agent.pyroute2_door",
    "jaga_agent.config",
    "jaga_agent.wire.messages",
    "jaga_agent.core.engine",
    "jaga_agent.reconcile",
    "jaga_agent.wiring",
)
IMPORT_CODE = """
import sys, time
def rss():
    fields = open('/proc/self/statm').read().split()
    return int(fields[1]) * 4096
before = rss()
print(f"{'python itself':<28}{'':>10}{before / 2**20:>9.1f} MiB")
for name in sys.argv[1:]:
    began, modules = time.perf_counter(), len(sys.modules)
    __import__(name)
    now = rss()
    took = (time.perf_counter() - began) * 1000
    print(f"{name:<28}{took:>7.0f} ms{(now - before) / 2**20:>+9.1f} MiB"
          f"{len(sys.modules) - modules:>6} modules")
    before = now
print(f"{'all':<28}{'':>10}{before / 2**20:>9.1f} MiB")
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took in a time."""

    percent: float
    """Of one core."""
    rss_mib: float
    uss_mib: float
    """Its own memory: what would be free without it."""
    wakeups_s: float

    def __str__(self) -> str:
        return (
            f"{self.percent:5.2f} % of a core   RSS {self.rss_mib:5.1f} MiB   "
            f"USS {self.uss_mib:5.1f} MiB   {self.wakeups_s:5.1f} wake-ups/s"
        )


def measure(seconds: float, *processes: psutil.Process) -> list[Cost]:
    """Return each process's cost over the next seconds."""

    def used(process: psutil.Process) -> tuple[float, int]:
        times = process.cpu_times()
        switches = 0
        for task in Path(f"/proc/{process.pid}/task").iterdir():
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    switches += int(line.split()[1])
        return times.user + times.system, switches

    began = time.perf_counter()
    before = [used(process) for process in processes]
    time.sleep(seconds)
    costs = []
    for process, (cpu_s, switches) in zip(processes, before, strict=True):
        now_s, now_switches = used(process)
        took = time.perf_counter() - began
        memory = process.memory_full_info()
        costs.append(
            Cost(
                percent=(now_s - cpu_s) / took * 100,
                rss_mib=memory.rss / MIB,
                uss_mib=memory.uss / MIB,
                wakeups_s=(now_switches - switches) / took,
            )
        )
    return costs


def is_guarding(socket: Path) -> bool:
    with contextlib.suppress(StatusError):
        answer = ask(socket)
        return answer["active"] is not None and answer["broker"]["connected"]
    return False


def all_checked(journal: Path) -> bool:
    """Return whether both checks have ended well through every uplink."""
    lines = journal.read_bytes().splitlines() if journal.exists() else []
    ended = [line for line in lines if b'"CheckDone"' in line]
    return sum(b'"verdict":"ok"' in line for line in ended) >= 2 * len(UPLINKS)


def config_text(lab: Lab, home: Path) -> str:
    """Return the demo's configuration with a check over TLS."""
    return agent_config(SITE, home, (20, 40)) + (
        f'\n[[target]]\nname = "sirekap-web"\nurl = "https://{SIREKAP}/"\n'
        f'role = "app"\nca = "{lab.ca}"\n'
    )


def run(seconds: float, profile: Path | None, journal: Path | None) -> dict[str, Cost]:
    costs: dict[str, Cost] = {}
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab.create())
        broker = lab.start_broker()
        stack.callback(broker.stop)
        environment = os.environ | UNIT_ENVIRONMENT
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = str(lab.directory / "compiled")
        for code in (f"import {', '.join(COMPILED)}", f"import {', '.join(PACKAGES)}"):
            subprocess.run([sys.executable, "-c", code], env=environment, check=True)
        home = lab.directory / "agent"
        home.mkdir()
        config = home / "agent.toml"
        config.write_text(config_text(lab, home))
        command = [str(BIN / "jaga-agent"), "run", "--config", str(config)]
        if profile is not None:
            command = [sys.executable, "-m", "cProfile", "-o", str(profile), *command]
        with (home / "log").open("wb") as log:
            agent = lab.pi.popen(command, stdout=log, stderr=log, env=environment)
        stack.callback(end, [agent], 15)
        floor = popen([sys.executable, "-c", FLOOR], env=environment)
        stack.callback(end, [floor])
        socket = home / "agent.sock"
        until(lambda: is_guarding(socket), "the agent guards", 30)
        until(lambda: all_checked(home / "journal.jsonl"), "every check was good", 60)
        both = psutil.Process(agent.pid), psutil.Process(floor.pid)
        time.sleep(SETTLE_S)
        if profile is None:
            costs["idle"], _ = measure(seconds, *both)
        phone = lab.phone.start(interval_ms=50, upload_bit_s=400_000)
        time.sleep(2)
        costs["busy"], costs["packages alone"] = measure(seconds, *both)
        log_of_phone = phone.stop()
        good = sum(bool(attempt.good()) for attempt in log_of_phone.attempts)
        made = len(log_of_phone.attempts)
        print(f"phone: {good} of {made} connections were good")
        agent.terminate()
        agent.wait(15)
        if journal is not None:
            shutil.copy(home / "journal.jsonl", journal)
    return costs


def show_imports() -> None:
    subprocess.run([sys.executable, "-c", IMPORT_CODE, *IMPORTS], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--imports", action="store_true")
    options = parser.parse_args()
    if options.imports:
        show_imports()
        return 0
    costs = run(options.seconds, options.profile, options.journal)
    for name, cost in costs.items():
        print(f"{name:<16}{cost}")
    if options.profile is not None:
        pstats.Stats(str(options.profile)).sort_stats("tottime").print_stats(30)
        return 0
    busy = costs["busy"]
    print(
        json.dumps(
            {
                "agent_busy_cpu_percent": round(busy.percent, 2),
                "agent_idle_cpu_percent": round(costs["idle"].percent, 2),
                "agent_busy_rss_mib": round(busy.rss_mib, 1),
                "agent_busy_uss_mib": round(busy.uss_mib, 1),
            }
        )
    )
    within = busy.percent <= PERCENT_BOUND and busy.rss_mib <= RSS_BOUND_MIB
    if not within:
        print(f"above {PERCENT_BOUND:g} % or {RSS_BOUND_MIB:g} MiB")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
