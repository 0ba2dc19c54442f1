"""The engine's journal: what it saw and did, as JSON lines, for `jaga-agent replay`.

A line is `{"at": seconds since boot, "event": {...}, "actions": [...]}`. Each file
begins with the engine's whole state, so that it replays alone. The file lives in RAM
(/run) and is bounded: at `LIMIT_BYTES` it becomes `.1` and a new one begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from jaga_agent.core import actions as actions_module
from jaga_agent.core import events as events_module
from jaga_agent.core.model import Instant
from jaga_agent.core.state import State
from jaga_agent.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from jaga_agent.core.actions import Action
    from jaga_agent.core.events import Event

LIMIT_BYTES: Final = 4 * 1024 * 1024
_EVENTS: Final = {
    kind.__name__: kind
    for kind in (
        events_module.LinkSeen,
        events_module.ProbeAnswered,
        events_module.ProbeRefused,
        events_module.ProbeNotSent,
        events_module.TrafficSeen,
        events_module.FlowsSeen,
        events_module.UsageSeen,
        events_module.Tick,
    )
}
_ACTIONS: Final = {
    kind.__name__: kind
    for kind in (
        actions_module.SendProbe,
        actions_module.SelectUplink,
        actions_module.ReportHealth,
        actions_module.ReportTarget,
    )
}
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Step:
    """One line after the first."""

    at: Instant
    event: Event
    actions: tuple[Action, ...]


class Journal:
    """Appends steps to a bounded file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None
        self._bytes = 0

    def record(
        self, before: State, event: Event, now: Instant, actions: Sequence[Action]
    ) -> None:
        """Write one step; raises JournalError when the file cannot be written."""
        try:
            if self._file is None or self._bytes > LIMIT_BYTES:
                self._begin(before)
            self._write(
                {
                    "at": now,
                    "event": _tagged(event),
                    "actions": [_tagged(action) for action in actions],
                }
            )
        except OSError as error:
            msg = f"journal {self._path}: {error.strerror}"
            raise JournalError(msg) from error

    def close(self) -> None:
        """Write out what is buffered and close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self, state: State) -> None:
        self.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            self._path.replace(self._path.with_name(self._path.name + ".1"))
        # Line-buffered by hand: a killed agent must leave whole lines.
        self._file = self._path.open("wb", buffering=0)
        self._bytes = 0
        self._write({"state": msgspec.to_builtins(state)})

    def _write(self, line: dict[str, Any]) -> None:
        data = _ENCODER.encode(line) + b"\n"
        self._file.write(data)
        self._bytes += len(data)


def read(path: Path) -> tuple[State, Iterator[Step]]:
    """Return the first state and the steps of a journal; raises JournalError."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise JournalError(msg) from error
    if not lines:
        msg = f"{path}: empty; a journal begins with the engine's state"
        raise JournalError(msg)
    try:
        head = msgspec.json.decode(lines[0])
        state = msgspec.convert(head["state"], State)
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        msg = f"{path}:1: not a journal of this version: {error}"
        raise JournalError(msg) from error
    return state, _steps(path, lines[1:])


def _steps(path: Path, lines: list[bytes]) -> Iterator[Step]:
    for number, line in enumerate(lines, 2):
        try:
            row = msgspec.json.decode(line)
            yield Step(
                Instant(float(row["at"])),
                _untagged(row["event"], _EVENTS),
                tuple(_untagged(action, _ACTIONS) for action in row["actions"]),
            )
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
            msg = f"{path}:{number}: not a step of this version: {error}"
            raise JournalError(msg) from error


def _tagged(value: Event | Action) -> dict[str, Any]:
    return {"type": type(value).__name__, **msgspec.to_builtins(value)}


def _untagged(row: dict[str, Any], kinds: dict[str, Any]) -> Any:
    kind = kinds[row.pop("type")]
    return msgspec.convert(row, kind)
