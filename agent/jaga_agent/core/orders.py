"""Whether an operator's order is obeyed. Pure: the judge of `docs/decisions/commands.md`.

Rules, in order; the first that does not hold refuses:
1. The operator's own key has signed it, for this very site.
2. Its counter is above every one of that operator that this site has seen: nothing is
   done twice, whoever repeats it, and whenever.
3. It is fresh: by the clock where the time is known, else by a moment of this boot.
4. It is one of the closed list of actions, with arguments that make sense.
What holds 1 and 2 has used its counter up, also if it is refused by 3 or 4: "refused"
must stay true when the circumstances change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from jaga_agent.core.model import Mode, UplinkName
from jaga_agent.core.reason import Reason, because

EARLY_MS: Final = 300_000
"""An operator's clock may be ahead of the site's by this much."""
ENDLESS_MS: Final = 24 * 3600 * 1000
"""No order is valid for longer: what was forgotten must not be obeyed next week."""
HOLD_MOST_S: Final = 24 * 3600
RECENT: Final = 16
"""Orders whose outcome is remembered, so that a repeated delivery is answered."""
OPERATOR: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
"""What an operator may be called: it becomes a file's name."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An order as it came, decoded; `wire.orders.Order` says what each field is."""

    id: bytes
    region: str
    site: str
    operator: str
    counter: int
    issued_ms: int
    expires_ms: int
    action: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    boot: bytes | None = None
    boot_expires_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Here:
    """Site and moment of the judgement."""

    region: str
    site: str
    boot: bytes
    at_ms: int
    """Since boot."""
    wall_ms: int | None
    """Unix milliseconds; None: the clock has not been confirmed since boot."""
    uplinks: tuple[UplinkName, ...]


# What may be ordered.


@dataclass(frozen=True, slots=True)
class ProbeNow:
    """Race every uplink and tell what came of it."""


@dataclass(frozen=True, slots=True)
class SwitchTo:
    """Make this uplink carry the site."""

    uplink: UplinkName


@dataclass(frozen=True, slots=True)
class Hold:
    """Stay where it works for so long; 0: as usual again."""

    for_s: int


@dataclass(frozen=True, slots=True)
class SetMode:
    """Be in another stage."""

    mode: Mode


@dataclass(frozen=True, slots=True)
class SendDiagnostics:
    """Tell what a technician would look at."""


@dataclass(frozen=True, slots=True)
class RebootModem:
    """Have the modem behind an uplink begin anew."""

    uplink: UplinkName


@dataclass(frozen=True, slots=True)
class ApplyConfiguration:
    """Try another configuration."""

    toml: str


Task = (
    ProbeNow
    | SwitchTo
    | Hold
    | SetMode
    | SendDiagnostics
    | RebootModem
    | ApplyConfiguration
)


# What is remembered.


@dataclass(frozen=True, slots=True)
class Past:
    """An order and what became of it."""

    id: str
    """Hexadecimal."""
    operator: str
    action: str
    code: int
    """`wire.orders.ReplyCode`; ACCEPTED: its end is not known (yet)."""
    detail: str


@dataclass(frozen=True, slots=True)
class Held:
    """An order to hold, and the boot that it was given in."""

    boot: str
    """Hexadecimal."""
    until_ms: int
    """Since that boot."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A stage that was ordered, and the configuration that it was ordered over."""

    mode: Mode
    config_hash: str


@dataclass(frozen=True, slots=True)
class Memory:
    """What a site must not forget, whatever happens to its power."""

    counters: Mapping[str, int] = field(default_factory=dict)
    """The highest one used up, by operator."""
    floor: int = 0
    """Of operators that are not listed; above 0 after the memory was lost."""
    recent: tuple[Past, ...] = ()
    """Oldest first."""
    held: Held | None = None
    staged: Staged | None = None

    def highest(self, operator: str) -> int:
        """Return the counter that the next order must be above."""
        return max(self.floor, self.counters.get(operator, 0))

    def of(self, order_id: bytes) -> Past | None:
        """Return what became of an order, if that is remembered."""
        return next((p for p in self.recent if p.id == order_id.hex()), None)

    def with_past(self, past: Past) -> Memory:
        """Return the memory with an order's outcome, in place of an earlier one."""
        others = tuple(p for p in self.recent if p.id != past.id)
        return replace(self, recent=(*others, past)[-RECENT:])

    def spent(self, asked: Asked) -> Memory:
        """Return the memory once an order's counter is used up."""
        return replace(self, counters={**self.counters, asked.operator: asked.counter})


def lost(wall_ms: int | None) -> Memory | None:
    """Return what to go by when the memory is damaged; None: obey nobody yet.

    A counter is the microsecond of its issue. So whatever was used up before is below
    that of now, with a wrong clock's allowance, and what is issued later is above.
    """
    return None if wall_ms is None else Memory(floor=(wall_ms + EARLY_MS) * 1000)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is made of an order."""

    outcome: Task | Reason
    """What to do, or why it is refused."""
    spends: bool = False
    """Its counter is used up: that must be on the card before anything is done."""


def judge(asked: Asked, here: Here, memory: Memory, *, signed: bool) -> Verdict:
    """Return whether to obey. `signed`: the operator's key has signed these bytes."""
    if not signed:
        return Verdict(because("order.forged", operator=asked.operator))
    if (asked.region, asked.site) != (here.region, here.site):
        return Verdict(because("order.elsewhere", site=asked.site, region=asked.region))
    if asked.counter <= memory.highest(asked.operator) or memory.of(asked.id):
        return Verdict(because("order.repeated"))
    if here.wall_ms is not None:
        early_ms = asked.issued_ms - here.wall_ms
        # The counter is of the same clock: a far one would lock its operator out.
        early_ms = max(early_ms, asked.counter // 1000 - here.wall_ms)
        if early_ms > EARLY_MS:
            return Verdict(because("order.early", early_s=early_ms / 1000))
    doubt = _staleness(asked, here)
    return Verdict(doubt or task(asked, here.uplinks), spends=True)


def _staleness(asked: Asked, here: Here) -> Reason | None:
    valid_ms = asked.expires_ms - asked.issued_ms
    if valid_ms > ENDLESS_MS:
        return because("order.endless", for_s=valid_ms / 1000, most_s=ENDLESS_MS / 1000)
    if here.wall_ms is not None:
        late_ms = here.wall_ms - asked.expires_ms
    elif asked.boot_expires_ms is None or asked.boot != here.boot:
        return because("order.no_clock")
    else:
        late_ms = here.at_ms - asked.boot_expires_ms
    return None if late_ms <= 0 else because("order.stale", late_s=late_ms / 1000)


def task(asked: Asked, uplinks: tuple[UplinkName, ...]) -> Task | Reason:
    """Return what an order asks for, or why it makes no sense."""
    if asked.action not in TASKS:
        return because("order.unknown", action=asked.action[:32])
    wanted, make = TASKS[asked.action]
    if set(asked.arguments) != set(wanted):
        told = ", ".join(wanted) or "nothing"
        return because("order.arguments", action=asked.action, detail=f"wants {told}")
    made = make(asked.arguments, uplinks)
    if isinstance(made, str):
        return because("order.arguments", action=asked.action, detail=made)
    return made


_Make = Callable[[Mapping[str, str], tuple[UplinkName, ...]], Task | str]


def _uplink(
    arguments: Mapping[str, str], uplinks: tuple[UplinkName, ...]
) -> UplinkName | None:
    return next((name for name in uplinks if name == arguments["uplink"]), None)


def _no_uplink(arguments: Mapping[str, str], uplinks: tuple[UplinkName, ...]) -> str:
    return f"no uplink {arguments['uplink'][:64]}; there are {', '.join(uplinks)}"


def _switch_to(
    arguments: Mapping[str, str], uplinks: tuple[UplinkName, ...]
) -> Task | str:
    name = _uplink(arguments, uplinks)
    return _no_uplink(arguments, uplinks) if name is None else SwitchTo(name)


def _reboot_modem(
    arguments: Mapping[str, str], uplinks: tuple[UplinkName, ...]
) -> Task | str:
    name = _uplink(arguments, uplinks)
    return _no_uplink(arguments, uplinks) if name is None else RebootModem(name)


def _hold(arguments: Mapping[str, str], _: tuple[UplinkName, ...]) -> Task | str:
    text = arguments["for_s"]
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) > HOLD_MOST_S:
        return f"want 0 to {HOLD_MOST_S} whole seconds"
    return Hold(int(text))


def _set_mode(arguments: Mapping[str, str], _: tuple[UplinkName, ...]) -> Task | str:
    modes = {mode.value: mode for mode in Mode}
    mode = modes.get(arguments["mode"])
    return f"want one of {', '.join(modes)}" if mode is None else SetMode(mode)


def _apply(arguments: Mapping[str, str], _: tuple[UplinkName, ...]) -> Task | str:
    return ApplyConfiguration(arguments["toml"])


TASKS: Final[Mapping[str, tuple[tuple[str, ...], _Make]]] = {
    "probe-now": ((), lambda _arguments, _uplinks: ProbeNow()),
    "switch-to": (("uplink",), _switch_to),
    "hold": (("for_s",), _hold),
    "set-mode": (("mode",), _set_mode),
    "send-diagnostics": ((), lambda _arguments, _uplinks: SendDiagnostics()),
    "reboot-modem": (("uplink",), _reboot_modem),
    "apply-configuration": (("toml",), _apply),
}
"""The closed list: arguments, and how the task is made of them (a text: why not)."""
