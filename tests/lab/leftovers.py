"""What a lab leaves on the machine, written down before it is made, and its removal.

Each lab has a record in /run/jaga-lab: its owner's process, namespaces and directory.
Closing removes what the record names; `sweep` does it for labs whose owner died
(kill -9). Nothing is removed that no record names. The directories /run/jaga-lab and
/etc/netns may stay, empty.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from lab.errors import LabError
from lab.namespace import Namespace, command, kill_pids

RECORDS = Path("/run/jaga-lab")
NETNS = Path("/run/netns")
ETC_NETNS = Path("/etc/netns")


@dataclass(frozen=True, slots=True)
class Record:
    """What one lab has, or is about to have."""

    tag: str
    owner: int
    """Process id of whoever built it."""
    owner_start: int
    """When that process started (clock ticks since boot): ids are used again."""
    namespaces: list[str]
    directory: str

    @property
    def path(self) -> Path:
        return RECORDS / f"{self.tag}.json"

    def write(self) -> None:
        """Write it down, in one step."""
        RECORDS.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(asdict(self)))
        draft.rename(self.path)

    def alive(self) -> bool:
        """Return whether the owner still runs."""
        return process_start(self.owner) == self.owner_start


def process_start(pid: int) -> int | None:
    """Return when a process started (proc(5), field 22), None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, field 2, is in brackets and may hold blanks and brackets itself.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


def remove(record: Record) -> None:
    """Remove everything that a record names, then the record. Repeatable."""
    present = [name for name in record.namespaces if (NETNS / name).exists()]
    for name in present:
        kill_pids(Namespace(name).pids())
    for name in present:
        try:
            command(["ip", "netns", "delete", name])
        except LabError:
            # Somebody else swept it meanwhile; what is still there is an error.
            if (NETNS / name).exists():
                raise
    for name in record.namespaces:
        _remove_tree(ETC_NETNS / name)
    _remove_tree(Path(record.directory))
    record.path.unlink(missing_ok=True)


def _remove_tree(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def records() -> list[Record]:
    """Return the records of all labs on this machine."""
    found = []
    for path in sorted(RECORDS.glob("*.json")):
        with contextlib.suppress(FileNotFoundError):  # closed while we looked
            found.append(Record(**json.loads(path.read_text())))
    return found


def sweep() -> list[str]:
    """Remove the labs whose owner is dead; return their tags."""
    dead = [record for record in records() if not record.alive()]
    for record in dead:
        remove(record)
    return [record.tag for record in dead]
