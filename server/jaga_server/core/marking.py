"""When a site is told what the database holds: which watermarks are due. Pure.

A watermark costs the site's data plan some 300 bytes, with its acknowledgement and what
TLS and TCP add; it is worth them when the site waits for it. So:

* something changed that the site must act on (history came, a gap opened or closed, a
  boot is new): at once, and never two within APART_MS;
* the site only goes on telling, and all of it arrives: once each TICKING_MS;
* nothing came since the last one: none;
* the broker may have lost the retained ones (any new connection to it): all over again
  for the sites that were heard lately, AGAIN_A_SECOND at a time.

`now_ms` is a clock that is never set.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

TICKING_MS: Final = 60_000
APART_MS: Final = 5_000
AGAIN_A_SECOND: Final = 100
RECENT_MS: Final = 7 * 86_400_000
"""A site that was not heard for so long is not told again by itself: a spool keeps what is
covered no longer than this."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where we stand with one site."""

    said_ms: int | None = None
    """When it was told last; None: not in this run."""
    unsaid: bool = False
    """Something came since."""
    pressing: bool = False
    """… that the site must act on."""

    def due(self, now_ms: int) -> bool:
        """Return whether it is to be told for what came."""
        if not self.unsaid:
            return False
        if self.said_ms is None:
            return True
        return now_ms >= self.said_ms + (APART_MS if self.pressing else TICKING_MS)


@dataclass(slots=True)
class Marking:
    """All sites' standings."""

    _sites: dict[str, Standing] = field(default_factory=dict)
    _again: dict[str, None] = field(default_factory=dict)
    """In the order in which they are told."""
    _allowance: float = 0.0
    _refilled_ms: int | None = None

    def touch(self, site: str, *, pressing: bool) -> None:
        """Take that something of a site was committed."""
        known = self._sites.get(site, Standing())
        if not known.unsaid or (pressing and not known.pressing):
            self._sites[site] = replace(
                known, unsaid=True, pressing=pressing or known.pressing
            )

    def begin_again(self, sites: Iterable[str]) -> None:
        """Take that the broker may hold none of these sites' watermarks."""
        self._again = dict.fromkeys(sites)

    def due(self, now_ms: int) -> list[str]:
        """Return the sites to tell now, those that wait for it first."""
        sites = [site for site, known in self._sites.items() if known.due(now_ms)]
        self._refill(now_ms)
        first = set(sites)
        again = (site for site in self._again if site not in first)
        return sites + list(islice(again, int(self._allowance)))

    def said(self, sites: Iterable[str], now_ms: int) -> None:
        """Take that these sites were told all that is committed."""
        for site in sites:
            if site in self._again:
                del self._again[site]
                self._allowance = max(0.0, self._allowance - 1)
            self._sites[site] = Standing(now_ms)

    def _refill(self, now_ms: int) -> None:
        before = now_ms - 1000 if self._refilled_ms is None else self._refilled_ms
        gained = (now_ms - before) * AGAIN_A_SECOND / 1000
        self._allowance = min(AGAIN_A_SECOND, self._allowance + gained)
        self._refilled_ms = now_ms
