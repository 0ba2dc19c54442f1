"""Readings of the Pi itself, by psutil. Reads, never judges."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import psutil

from jaga_agent.ports import HostReading

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jaga_agent.ports import Clock

_log = logging.getLogger(__name__)

_CPU_SENSORS = ("cpu_thermal", "cpu-thermal", "soc_thermal", "coretemp", "k10temp")
"""The processor's sensor, best known first: Raspberry Pi, other boards, PCs."""


class PsutilHost:
    """The host as `ports.Host`.

    Make it and call it on the same thread: psutil keeps the last processor times for
    each thread apart.
    """

    def __init__(self, clock: Clock, state_directory: Path) -> None:
        self._clock = clock
        self._state_directory = state_directory
        self._unreadable: set[str] = set()
        # The first reading is then the mean since now, instead of a meaningless 0.
        self._try("cpu", lambda: psutil.cpu_percent(interval=None))

    def read(self) -> HostReading:
        """Return the host now; CPU is the mean since the last call."""
        return HostReading(
            uptime_s=self._clock.now(),
            cpu_ratio=self._try(
                "cpu", lambda: psutil.cpu_percent(interval=None) / 100.0
            ),
            memory_ratio=self._try(
                "memory", lambda: psutil.virtual_memory().percent / 100.0
            ),
            disk_ratio=self._try(
                f"disk of {self._state_directory}",
                lambda: psutil.disk_usage(str(self._state_directory)).percent / 100.0,
            ),
            temperature_c=self._try("temperature", _temperature_c),
        )

    def _try(self, what: str, read: Callable[[], float | None]) -> float | None:
        """Return the reading, or None where there is none. Says why once."""
        try:
            value = read()
        except (OSError, ValueError, AttributeError, psutil.Error) as error:
            # psutil drops a function, not its answer, where the kernel lacks the file:
            # hence AttributeError.
            if what not in self._unreadable:
                self._unreadable.add(what)
                _log.warning("cannot read the host's %s: %s", what, error)
            return None
        self._unreadable.discard(what)
        return value


def _temperature_c() -> float | None:
    chips = psutil.sensors_temperatures()
    names = [name for name in _CPU_SENSORS if name in chips] or list(chips)
    readings = [r.current for r in chips[names[0]] if r.current] if names else []
    return float(readings[0]) if readings else None
