"""Which requests of which flow have come: counts, and no sequence twice. Pure.

Bounded: so many flows for each site, the longest unused goes first. One site can only
push out its own.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

WINDOW: Final = 64
"""How far behind the newest a sequence may come and still count, as in RFC 4303, 3.4.3.
At most a few probes of a flow are on their way at once."""
FLOWS_PER_SITE: Final = 24
"""Three runs of an agent with eight uplinks: it starts new flows when it is restarted."""

_MASK = (1 << WINDOW) - 1


@dataclass(slots=True)
class Flow:
    """One uplink's requests in one run of an agent."""

    newest: int = 0
    seen: int = 0
    """Bit n: the sequence `newest − n` has come."""
    received: int = 0

    def take(self, seq: int) -> bool:
        """Count a sequence; False if it came before, or too late to tell."""
        ahead = seq - self.newest
        if ahead > 0:
            self.seen = (self.seen << ahead | 1) & _MASK if ahead < WINDOW else 1
            self.newest = seq
        else:
            bit = 1 << -ahead if -ahead < WINDOW else 0
            if not bit or self.seen & bit:
                return False
            self.seen |= bit
        self.received += 1
        return True


@dataclass(slots=True)
class Flows:
    """Every site's flows."""

    _sites: dict[str, OrderedDict[int, Flow]] = field(default_factory=dict)
    evicted: int = 0

    def __len__(self) -> int:
        return sum(map(len, self._sites.values()))

    def known(self, site: str, number: int) -> Flow | None:
        """Return a flow, and keep it longest."""
        of_site = self._sites.get(site)
        flow = of_site.get(number) if of_site else None
        if of_site and flow:
            of_site.move_to_end(number)
        return flow

    def begin(self, site: str, number: int) -> Flow:
        """Return a new flow, for which the site's longest unused may have to go."""
        of_site = self._sites.setdefault(site, OrderedDict())
        if len(of_site) >= FLOWS_PER_SITE:
            of_site.popitem(last=False)
            self.evicted += 1
        flow = of_site[number] = Flow()
        return flow
