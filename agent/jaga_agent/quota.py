"""`jaga-agent quota`: what each uplink's package has left, and a new package's begin.

Asked of the running agent; of the kept count when none runs. Times are shown as the
district has them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaga_agent.adapters import control
from jaga_agent.adapters.clock import BoottimeClock
from jaga_agent.adapters.devices import SysDevices
from jaga_agent.adapters.ledger import FILE_NAME, FileLedger
from jaga_agent.config import quota_bytes
from jaga_agent.core import usage
from jaga_agent.core.model import UplinkName
from jaga_agent.errors import ConfigError, NotRunningError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaga_agent.config import Config
    from jaga_agent.ports import Device

ANSWER = "quota"
RESET = "quota-reset"


def answer(
    config: Config,
    usages: Mapping[str, usage.Usage],
    probe_bytes: Mapping[str, Mapping[str, int]],
    *,
    running: bool,
) -> dict[str, Any]:
    """Return each uplink's count as plain JSON values; `left_bytes` is None: no quota."""
    rows = []
    for uplink in config.by_preference:
        of = usages.get(uplink.name)
        quota = quota_bytes(uplink)
        used = 0 if of is None else of.used_bytes
        rows.append(
            {
                "name": uplink.name,
                "metered": uplink.metered,
                "used_bytes": used,
                "quota_bytes": quota,
                "left_bytes": None if quota is None else max(0, quota - used),
                "since_ms": None if of is None else of.since_ms,
                "power_losses": 0 if of is None else of.power_losses,
                "probe_bytes_24h": dict(probe_bytes.get(uplink.name, {})),
            }
        )
    return {"running": running, "uplinks": rows}


def show(config: Config) -> dict[str, Any]:
    """Return what the agent says, or what was kept; raises StatusError, LedgerError."""
    try:
        return control.ask(Path(config.state.socket), ANSWER)
    except NotRunningError:
        usages, _, _ = _kept(config)
        return answer(config, usages, {}, running=False)


def begin(config: Config, uplink: str, used_bytes: int) -> bool:
    """Begin a new period of an uplink; return whether a running agent was told.

    Raises:
        ConfigError: no uplink has that name.
        StatusError, LedgerError: it could not be told or kept.

    """
    names = [each.name for each in config.uplink]
    if uplink not in names:
        msg = f"no uplink is named {uplink!r}; there are: {', '.join(names)}"
        raise ConfigError(msg)
    try:
        control.order(
            Path(config.state.socket), RESET, uplink=uplink, used_bytes=used_bytes
        )
    except NotRunningError:
        usages, clean, ledger = _kept(config)
        now_ms = BoottimeClock().wall_ms()
        before = usages.get(uplink, usage.Usage(since_ms=now_ms))
        usages[uplink] = usage.reset(before, now_ms, used_bytes)
        ledger.save(usages, clean=clean)
        return False
    return True


def _kept(config: Config) -> tuple[dict[str, usage.Usage], bool, FileLedger]:
    """Return what was kept, with what the kernel has carried without an agent since."""
    ledger = FileLedger(Path(config.state.directory) / FILE_NAME)
    found, clean = ledger.load()
    usages = dict(found)
    devices = SysDevices(config.devices.values())
    try:
        seen: Mapping[str, Device] = devices.read()
    finally:
        devices.close()
    for uplink in config.uplink:
        device = seen.get(config.devices[UplinkName(uplink.name)])
        if device is not None and uplink.name in usages:
            usages[uplink.name] = usage.after(
                usages[uplink.name],
                usage.Reading(
                    boot=ledger.boot,
                    index=device.index,
                    rx_bytes=device.counters.rx_bytes,
                    tx_bytes=device.counters.tx_bytes,
                ),
            )
    return usages, clean, ledger
