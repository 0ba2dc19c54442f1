"""Which resolvers the LAN's names are asked of, by which uplinks. Pure.

The text is dnsmasq's `servers-file`. Every name is asked through every uplink listed at
once and the first answer wins (`all-servers`), so a provider whose DNS or path is dead
costs nobody a timeout, not even before its failure is known. An uplink known not to work
is left out: what is asked there is wasted, and counted where bytes are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Forwarding:
    """An uplink, as the LAN's resolver sees it."""

    device: str
    usable: bool


def servers_file(uplinks: Sequence[Forwarding], resolvers: Sequence[str]) -> str:
    """Return the file's text; `resolvers` are IPv4 addresses, at least one.

    Each uplink asks a resolver of its own, by its place among `uplinks`, whoever else
    is usable: one resolver's failure is not everybody's, and an uplink that goes changes
    no other's line. One that is alone asks two. With none usable all are kept: a verdict
    may be wrong, and an empty list would refuse every name.
    """
    places = [i for i, uplink in enumerate(uplinks) if uplink.usable]
    places = places or list(range(len(uplinks)))
    alone = len(places) == 1
    lines: list[str] = []
    for place in places:
        for turn in range(2 if alone else 1):
            resolver = resolvers[(place + turn) % len(resolvers)]
            line = f"server={resolver}@{uplinks[place].device}\n"
            if line not in lines:
                lines.append(line)
    return "".join(lines)
