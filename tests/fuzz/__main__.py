"""A million inputs at the doors of `support.fuzzing`, led by what code they reach.

libFuzzer ends the process it runs in; so the fuzzing is a child's, and the parent says
what came of it. An exception that escapes ends it with the input that did it; so does
memory that grows. Needs `atheris`, which has no wheel for every machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from fuzz import bending

GROWTH_BYTES = 48 * 1024 * 1024
"""Resident memory may grow by this much from a fifth of the inputs on: libFuzzer keeps
what it found interesting. 64 bytes lost for each input would be more."""
ROOM_BYTES = 1024 * 1024 * 1024
"""Of address space beyond what the child has at its start: no input may ask for more."""
LONGEST_BYTES = 8192
PARTS = 5
_CHILD = "JAGA_FUZZ_CHILD"


def main():
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0, help="0: another one each time")
    parser.add_argument(
        "--keep", type=Path, help="a folder for what was found (default: a passing one)"
    )
    arguments = parser.parse_args()
    if os.environ.get(_CHILD):
        fuzz(arguments)
        return 0
    if importlib.util.find_spec("atheris") is None:
        print(
            "fuzz: atheris is not installed: it has wheels for Python 3.11 to 3.14 on"
            " x86-64 (pip install atheris); `make test` fuzzes with hypothesis",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory(prefix="jaga-fuzz-") as passing:
        keep = arguments.keep or Path(passing)
        done = subprocess.run(
            [
                sys.executable, "-m", "fuzz", "--inputs", str(arguments.inputs),
                "--seed", str(arguments.seed), "--keep", str(keep),
            ],
            env={**os.environ, _CHILD: "1"},
            check=False,
        )  # fmt: skip
        if done.returncode == 0:
            print(f"fuzz: {arguments.inputs} inputs, nothing escaped, nothing grew")
            return 0
        print(f"fuzz: ended with {done.returncode}; its word is above")
        for found in sorted(keep.glob("crash-*")):
            print(f"  {found.name}: {found.read_bytes().hex()}")
        return 1


def fuzz(arguments):
    import atheris

    with atheris.instrument_imports(include=["jaga_agent", "jaga_server"]):
        from support import fuzzing

    doors = list(fuzzing.DOORS.values())
    names = list(fuzzing.DOORS)
    corpus = arguments.keep / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, (door, data) in enumerate(fuzzing.seeds()):
        place = bytes((names.index(door),))
        (corpus / f"seed-{number}").write_bytes(place + data)
    counted = Counted(arguments.inputs)

    def one_input(data):
        is_taken = bool(data) and doors[data[0] % len(doors)](data[1:])
        counted.one(is_taken=is_taken)

    has_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
    most_bytes = has_bytes + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
    atheris.Setup(
        [
            "fuzz",
            str(corpus),
            f"-runs={arguments.inputs}",
            f"-seed={arguments.seed}",
            f"-max_len={LONGEST_BYTES}",
            f"-artifact_prefix={arguments.keep}/",
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-print_final_stats=1",
            "-verbosity=0",
        ],
        one_input,
        # Asked for by name each time: `Fuzz` puts another one there.
        custom_mutator=bending.Bending(
            names,
            lambda data, size: atheris.Mutate(data, size),  # noqa: PLW0108 see above
        ),
    )
    atheris.Fuzz()


class Counted:
    """Counts the inputs and looks at the memory they leave behind."""

    def __init__(self, inputs):
        self._each = max(1, inputs // PARTS)
        self._count = 0
        self._taken = 0
        self._first_bytes = None

    def one(self, *, is_taken):
        self._count += 1
        self._taken += is_taken
        if self._count % self._each:
            return
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        now_bytes = pages * resource.getpagesize()
        print(
            f"fuzz: {self._count} inputs, {self._taken} of them taken,"
            f" {now_bytes >> 20} MiB resident",
            flush=True,
        )
        if self._first_bytes is None:
            self._first_bytes = now_bytes
        grown_bytes = now_bytes - self._first_bytes
        if grown_bytes > GROWTH_BYTES:
            message = f"memory grew by {grown_bytes} bytes in {self._count} inputs"
            raise MemoryError(message)


sys.exit(main())
