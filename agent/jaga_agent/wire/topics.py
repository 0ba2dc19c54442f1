"""The contract's topics: `jaga/1/{region}/{site}/{leaf}`.

`{region}` is the Kemendagri code without dots (6408), `{site}` a site id such as
`tps-6408052001-901` or `kpu-kutim`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final

from msgspec import Meta

from jaga_agent.wire.base import CONTRACT_VERSION

ROOT: Final = f"jaga/{CONTRACT_VERSION}"
FROM_SITE: Final = ("heartbeat", "event", "status", "history", "reply")
"""What a site may write."""
TO_SITE: Final = ("watermark", "command")
"""What a site may read."""
LEAVES: Final = FROM_SITE + TO_SITE
CONSUMED: Final = (*FROM_SITE, "command")
"""What a collector reads: commands too, for its log."""

REGION_PATTERN: Final = re.compile(r"[0-9]{2,10}")
SITE_PATTERN: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")

# For configuration files: what a person is told to write.
Region = Annotated[
    str,
    Meta(
        pattern=rf"\A(?:{REGION_PATTERN.pattern})\Z",
        description='the Kemendagri code without dots, e.g. "6408"',
    ),
]
SiteId = Annotated[
    str,
    Meta(
        pattern=rf"\A(?:{SITE_PATTERN.pattern})\Z",
        description='small letters, digits and dashes, e.g. "tps-6408052001-901"',
    ),
]


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of the contract, taken apart."""

    region: str
    site: str
    leaf: str

    def __str__(self) -> str:
        return f"{ROOT}/{self.region}/{self.site}/{self.leaf}"


def parse(topic: str) -> Topic | None:
    """Return the parts of a topic of this contract, or None for any other."""
    parts = topic.split("/")
    if len(parts) != 5 or "/".join(parts[:2]) != ROOT:
        return None
    region, site, leaf = parts[2:]
    if (
        leaf not in LEAVES
        or not REGION_PATTERN.fullmatch(region)
        or not SITE_PATTERN.fullmatch(site)
    ):
        return None
    return Topic(region, site, leaf)


def subscription(region: str = "+", *, share: str | None = None) -> tuple[str, ...]:
    """Return the filters a collector subscribes to.

    `share` names an MQTT 5 shared subscription, so that several collectors divide the
    messages (`$share/{share}/…`, MQTT 5.0, 4.8.2).
    """
    prefix = f"$share/{share}/" if share else ""
    return tuple(f"{prefix}{ROOT}/{region}/+/{leaf}" for leaf in CONSUMED)
