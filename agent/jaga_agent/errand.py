"""`jaga-agent check`: each check target through each uplink, once, as a table.

For the technician at the site: it needs no running agent, and changes nothing. Without
one it goes by the routes that the DHCP client has set.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from jaga_agent import effective
from jaga_agent.adapters.checks import UplinkChecker
from jaga_agent.adapters.clock import BoottimeClock
from jaga_agent.adapters.kept_time import FileKeptTime
from jaga_agent.core.events import CheckVerdict
from jaga_agent.errors import ConfigError
from jaga_agent.runtime.timekeeper import Timekeeper, floor_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaga_agent.config import Config
    from jaga_agent.ports import Checked, Phases
    from jaga_agent.targets import ProbeTarget

_EXAMPLE = '[[target]] with name = "sirekap", url = "https://sirekap-web.kpu.go.id/"'


@dataclass(frozen=True, slots=True)
class Row:
    """One check and what became of it."""

    uplink: str
    device: str
    target: str
    outcome: Checked

    @property
    def is_ok(self) -> bool:
        """Whether the target was reached as it should be."""
        return self.outcome.verdict is CheckVerdict.OK


def run(path: Path, uplink: str | None) -> list[Row]:
    """Return the checks' outcomes, in the order of preference; raises ConfigError."""
    config = effective.load(path).config
    targets = config.check_targets
    if not targets:
        msg = f"{path}: no target to check; add one: {_EXAMPLE}"
        raise ConfigError(msg)
    devices = {str(name): device for name, device in config.devices.items()}
    if uplink is not None:
        if uplink not in devices:
            msg = f"{path}: no uplink `{uplink}`; name one of: {', '.join(devices)}"
            raise ConfigError(msg)
        devices = {uplink: devices[uplink]}
    return asyncio.run(_ask(config, devices, targets))


async def _ask(
    config: Config, devices: dict[str, str], targets: Sequence[ProbeTarget]
) -> list[Row]:
    """Ask the targets of an uplink in turn, so that they do not share its rate."""
    listener = _Listener()
    clock = Timekeeper(
        BoottimeClock(),
        kept=FileKeptTime.beside(Path(config.state.socket)),
        saves=False,
        floor_s=floor_s(config),
    )
    checker = UplinkChecker(listener, clock, config.resolvers)
    numbers = count(1)

    async def through(uplink: str, device: str) -> list[Row]:
        rows = []
        for target in targets:
            number = next(numbers)
            awaited = listener.expect(number)
            checker.send(number, device, target)
            rows.append(Row(uplink, device, target.name, await awaited))
        return rows

    try:
        per_uplink = await asyncio.gather(
            *(through(uplink, device) for uplink, device in devices.items())
        )
    finally:
        checker.close()
    return [row for rows in per_uplink for row in rows]


class _Listener:
    def __init__(self) -> None:
        self._awaited: dict[int, asyncio.Future[Checked]] = {}

    def expect(self, check_id: int) -> asyncio.Future[Checked]:
        awaited = asyncio.get_running_loop().create_future()
        self._awaited[check_id] = awaited
        return awaited

    def checked(self, check_id: int, outcome: Checked) -> None:
        self._awaited.pop(check_id).set_result(outcome)


def table(rows: Sequence[Row]) -> str:
    """Return the outcomes for a terminal."""
    head = ("uplink", "target", "verdict", "DNS", "connect", "TLS", "answer", "bytes")
    cells = [
        (
            f"{row.uplink} ({row.device})",
            row.target,
            _verdict(row),
            *_phases(row.outcome.phases),
            str(row.outcome.wire_bytes),
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]

    def line(parts: Sequence[str]) -> str:
        left = [
            part.ljust(width) for part, width in zip(parts[:3], widths[:3], strict=True)
        ]
        right = [
            part.rjust(width) for part, width in zip(parts[3:], widths[3:], strict=True)
        ]
        return "  ".join([*left, *right]).rstrip()

    lines = [line(head)]
    for row, parts in zip(rows, cells, strict=True):
        lines.append(line(parts))
        if row.outcome.detail:
            lines.append(f"    {row.outcome.detail}")
    return "\n".join(lines)


def _verdict(row: Row) -> str:
    """Return the verdict; a bad one catches the eye."""
    said = row.outcome.verdict.value
    return said if row.is_ok else said.upper()


def _phases(phases: Phases) -> tuple[str, ...]:
    return tuple(
        "–" if seconds is None else f"{seconds * 1000:.0f} ms"
        for seconds in (
            phases.dns_s,
            phases.connect_s,
            phases.tls_s,
            phases.first_byte_s,
        )
    )
