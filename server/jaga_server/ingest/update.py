"""What the writer tells the page after each commit. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaga_server.core.model import SiteState, Transition


@dataclass(frozen=True, slots=True)
class Update:
    """Only what is committed."""

    states: dict[str, SiteState]
    """Of the sites that changed."""
    events: tuple[Transition, ...]
    """New ones."""
    connected: bool
    """Whether the collector hears the broker."""
    last_message_ms: int | None
