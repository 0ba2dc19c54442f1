"""Run programs inside network namespaces, and end them again.

Everything started here is a process group of its own and is ended by its process id.
Nothing here knows what the namespaces are for.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.clock import boottime_s
from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TESTS = Path(__file__).resolve().parent.parent
"""Put on PYTHONPATH of the lab's own programs, so that `-m lab.relay` is found."""

PACKAGES = {
    "ip": "iproute2",
    "nft": "nftables",
    "openssl": "openssl",
    "ping": "iputils-ping",
    "setpriv": "util-linux",
    "mosquitto": "mosquitto",
    "dnsmasq": "dnsmasq-base",
}


def require(*programs: str) -> None:
    """Raise LabError unless we are root and the programs are there."""
    if os.geteuid() != 0:
        msg = "the lab makes network namespaces and needs root: run it with sudo"
        raise LabError(msg)
    require_programs(*programs)


def require_programs(*programs: str) -> None:
    """Raise LabError with the package to install unless the programs are there."""
    for program in programs:
        if not find(program):
            msg = f"{program} not found: apt install {PACKAGES.get(program, program)}"
            raise LabError(msg)


def find(program: str) -> str | None:
    """Look a program up, also where Debian keeps what only root uses."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def command(argv: Sequence[str], text: str | None = None) -> str:
    """Run a short command in our own namespace; LabError with its last words."""
    try:
        done = subprocess.run(
            [find(argv[0]) or argv[0], *argv[1:]],
            input=text or "",
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    except OSError as error:
        msg = f"cannot run {argv[0]}: {error.strerror}"
        raise LabError(msg) from error
    except subprocess.TimeoutExpired as error:
        msg = f"`{' '.join(argv)}` did not end within 30 s"
        raise LabError(msg) from error
    if done.returncode:
        said = " ".join((done.stderr.strip() or done.stdout.strip()).split())
        msg = f"`{' '.join(argv)}` failed ({done.returncode}): {said[:300]}"
        raise LabError(msg)
    return done.stdout


def outlived_by_us(argv: Sequence[str]) -> list[str]:
    """Return the command line whose process gets SIGTERM when we die, even by SIGKILL.

    The kernel's word for it is PR_SET_PDEATHSIG (prctl(2)). It counts the end of the
    *thread* that starts the program as our end, so from any other thread than the main
    one nothing is asked for, and the next lab's sweep has to do.
    """
    program = [find(argv[0]) or argv[0], *argv[1:]]
    if threading.current_thread() is not threading.main_thread():
        return program
    return [find("setpriv") or "setpriv", "--pdeathsig", "TERM", "--", *program]


def popen(argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a program; whoever starts it ends it. LabError if it is not installed.

    Options are those of `subprocess.Popen`; the program gets a session and process
    group of its own, so a Ctrl-C at the terminal does not reach it.
    """
    require_programs(argv[0])
    options.setdefault("stdin", subprocess.DEVNULL)
    options["start_new_session"] = True
    return subprocess.Popen(outlived_by_us(argv), **options)


class Namespace:
    """One network namespace by name; programs can be run in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.processes: list[subprocess.Popen[Any]] = []

    def ip(self, *lines: str) -> None:
        """Apply `ip` commands (without the leading `ip`), all in one process."""
        command(["ip", "-netns", self.name, "-batch", "-"], "\n".join(lines) + "\n")

    def nft(self, ruleset: str) -> None:
        """Load an nft script as one transaction."""
        command(["ip", "netns", "exec", self.name, "nft", "-f", "-"], ruleset)

    def sysctl(self, values: Mapping[str, str | int]) -> None:
        """Set `net.*` sysctls of this namespace."""
        script = "\n".join(
            f"echo {value} > /proc/sys/{key.replace('.', '/')}"
            for key, value in values.items()
        )
        command(["ip", "netns", "exec", self.name, "sh", "-ec", script])

    def argv(self, argv: Sequence[str]) -> list[str]:
        """Return the command line that runs `argv` in here (same process id)."""
        program = find(argv[0]) or argv[0]
        return [find("ip") or "ip", "netns", "exec", self.name, program, *argv[1:]]

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program in here, as `popen`; ended at the latest with the lab."""
        process = popen(self.argv(argv), **options)
        self.processes.append(process)
        return process

    def run(
        self, argv: Sequence[str], **options: Any
    ) -> subprocess.CompletedProcess[Any]:
        """Run a program in here to its end; options as `subprocess.run`.

        Unless told otherwise: output captured as text, no check, 30 s at most.
        """
        options.setdefault("text", True)
        options.setdefault("timeout", 30)
        if not {"capture_output", "stdout", "stderr"} & options.keys():
            options["capture_output"] = True
        return subprocess.run(self.argv(argv), check=False, **options)

    def python(self, module: str, *args: str, **options: Any) -> subprocess.Popen[Any]:
        """Start one of the lab's own programs, `python -m module`."""
        env = os.environ | {"PYTHONPATH": str(TESTS), "PYTHONUNBUFFERED": "1"}
        return self.popen([sys.executable, "-m", module, *args], env=env, **options)

    def pids(self) -> list[int]:
        """Return every process that is in this namespace, by whomever started."""
        try:
            return [
                int(pid) for pid in command(["ip", "netns", "pids", self.name]).split()
            ]
        except LabError:
            return []  # the namespace is gone, and nothing is in it


def end(processes: Iterable[subprocess.Popen[Any]], patience_s: float = 3.0) -> None:
    """End our own children and their process groups: SIGTERM, then SIGKILL.

    One that was waited for already is left alone: its id may be another's by now
    (what it left behind in a namespace is found by `Namespace.pids`).
    """
    children = list(processes)
    # Not reaped before its group is killed, so that the id stays ours: a pidfd tells
    # of the end without reaping.
    watched = {p.pid: os.pidfd_open(p.pid) for p in children if p.returncode is None}
    for pid in watched:
        _signal_group(pid, signal.SIGTERM)
    deadline_s = boottime_s() + patience_s
    for pid, descriptor in watched.items():
        select.select([descriptor], [], [], max(0.0, deadline_s - boottime_s()))
        _signal_group(pid, signal.SIGKILL)
        os.close(descriptor)
    for process in children:
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def kill_pids(pids: Iterable[int], patience_s: float = 2.0) -> None:
    """Kill processes that are no children of ours, and wait until they are gone."""
    watched: list[int] = []
    for pid in set(pids) - {os.getpid()}:
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            watched.append(descriptor)
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    deadline_s = boottime_s() + patience_s
    for descriptor in watched:
        select.select([descriptor], [], [], max(0.0, deadline_s - boottime_s()))
        os.close(descriptor)


def ready_line(
    process: subprocess.Popen[Any], what: str, timeout_s: float = 10.0
) -> str:
    """Wait for the first line that a program prints; LabError if it ends instead."""
    stdout = process.stdout
    if stdout is None:
        msg = f"{what} was started without a pipe for its output"
        raise LabError(msg)
    readable, _, _ = select.select([stdout], [], [], timeout_s)
    line = stdout.readline() if readable else b""
    text = line.decode() if isinstance(line, bytes) else str(line)
    if not text.strip():
        state = process.poll()
        ended = f"ended with {state}" if state is not None else "said nothing"
        msg = f"{what} {ended} within {timeout_s:g} s of its start"
        raise LabError(msg)
    return text.strip()
