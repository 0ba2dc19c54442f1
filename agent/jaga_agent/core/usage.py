"""How many bytes an uplink has carried in its quota period. Pure.

From the devices' totals, which begin at 0 whenever a device is created: at a boot, and
each time a USB modem is plugged in or re-enumerates. What is counted is what passed the
Pi's device, both ways; an operator's own count is a little higher (retransmissions on
the radio) or rounds up by session: it can be entered with `jaga-agent quota reset`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

_WRAP_BYTES = 1 << 32
"""A 32-bit kernel's drivers may count so far only (`unsigned long`)."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A device's totals, and which device's they are."""

    boot: str
    """The kernel's boot id."""
    index: int
    """The kernel's ifindex: never used twice in a boot."""
    rx_bytes: int
    tx_bytes: int


@dataclass(frozen=True, slots=True)
class Usage:
    """One uplink's count."""

    since_ms: int
    """When the period began: Unix milliseconds by the Pi's clock at that time."""
    used_bytes: int = 0
    last: Reading | None = None
    """What is counted up to; None: the device was not seen yet."""
    since_config_ms: int | None = None
    """The `quota_since` that was obeyed last."""
    power_losses: int = 0
    """How often the count was cut off in this period: each may lack what was carried
    since the count was last kept."""


def after(usage: Usage, reading: Reading) -> Usage:
    """Return the count after this reading of the uplink's device.

    Of a device that is another one than last time, all it ever carried is new: it
    carried it for us. Only the very first reading is where we begin.
    """
    last = usage.last
    if last is None:
        return replace(usage, last=reading)
    same = (last.boot, last.index) == (reading.boot, reading.index)
    moved = _moved(last.rx_bytes, reading.rx_bytes, same=same) + _moved(
        last.tx_bytes, reading.tx_bytes, same=same
    )
    return replace(usage, used_bytes=usage.used_bytes + moved, last=reading)


def _moved(before: int, now: int, *, same: bool) -> int:
    if not same:
        return now
    if now >= before:
        return now - before
    if (
        before < _WRAP_BYTES
        and before > _WRAP_BYTES * 3 // 4
        and now < _WRAP_BYTES // 4
    ):
        return now + _WRAP_BYTES - before
    return now  # A driver that was reset under the same index.


def reset(usage: Usage, now_ms: int, used_bytes: int = 0) -> Usage:
    """Return a new period's count: a package was bought, or its own count is known."""
    return replace(usage, since_ms=now_ms, used_bytes=used_bytes, power_losses=0)


def renewed(usage: Usage, quota_since_ms: int | None, now_ms: int) -> Usage:
    """Return the count, begun anew if `quota_since` has come and was not obeyed yet.

    `now_ms` must be of a confirmed clock. A period that an operator began after that
    time stays.
    """
    if (
        quota_since_ms is None
        or quota_since_ms == usage.since_config_ms
        or now_ms < quota_since_ms
    ):
        return usage
    usage = replace(usage, since_config_ms=quota_since_ms)
    return usage if usage.since_ms >= quota_since_ms else reset(usage, quota_since_ms)


def cut_off(usage: Usage, boot: str) -> Usage:
    """Return a count kept by a run that did not end cleanly, as it is taken up again.

    In the same boot nothing is lost: the devices went on counting.
    """
    if usage.last is None or usage.last.boot == boot:
        return usage
    return replace(usage, power_losses=usage.power_losses + 1)
