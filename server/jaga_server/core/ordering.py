"""Which orders are given, and what their replies amount to. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

FINAL: Final = ("refused", "done", "failed")
"""Replies after which no other comes; `accepted` is followed by one."""

WAITS_S: Final = {
    "switch-to": 30.0,
    "reboot-modem": 150.0,
    "apply-configuration": 240.0,
}
"""How long replies are waited for; others come at once."""
WAIT_S: Final = 20.0


@dataclass(slots=True)
class Pending:
    """One site's order under way."""

    site: str
    id: bytes
    state: str = "sent"
    """sent | accepted | refused | done | failed."""
    detail: str = ""
    content: bytes = b""

    @property
    def is_over(self) -> bool:
        return self.state in FINAL


@dataclass(slots=True)
class Round:
    """One command to some sites."""

    orders: tuple[Pending, ...]
    _by_id: dict[bytes, Pending] = field(init=False)

    def __post_init__(self) -> None:
        self._by_id = {order.id: order for order in self.orders}

    @property
    def is_over(self) -> bool:
        return all(order.is_over for order in self.orders)

    @property
    def all_done(self) -> bool:
        return all(order.state == "done" for order in self.orders)

    def of(self, order_id: bytes | None, site: str) -> Pending | None:
        """Return the order that a site's message is about; None: not one of ours."""
        order = None if order_id is None else self._by_id.get(order_id)
        return order if order is not None and order.site == site else None

    def refused(self, order: Pending, why: str) -> None:
        """Take note that the broker would not pass an order on."""
        if not order.is_over:
            order.state, order.detail = "failed", why

    def replied(self, order: Pending, state: str, detail: str, content: bytes) -> bool:
        """Take a reply; return whether it says something new."""
        if order.is_over or order.state == state:
            return False
        order.state, order.detail, order.content = state, detail, content
        return True

    def counts(self) -> Mapping[str, int]:
        """Return how many orders ended how; `no answer` for those that did not."""
        found: dict[str, int] = {}
        for order in self.orders:
            name = order.state if order.is_over else "no answer"
            found[name] = found.get(name, 0) + 1
        return found


def wait_s(action: str) -> float:
    """Return how long replies to an action are waited for."""
    return WAITS_S.get(action, WAIT_S)
