"""Counts of what happened to the messages, kept to one identity.

received = stored + duplicate + rejected + in flight

A history is one message in that identity, whatever is in it.

Only the writer's thread changes the outcomes and only the network's thread `received`,
so plain integers suffice; a reader sees each whole.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Since the collector started."""

    received: int = 0
    stored: Counter[str] = field(default_factory=Counter)
    """By leaf: heartbeat, event, status, history, command, reply."""
    duplicate: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """By reason."""
    unknown_site: int = 0
    """Stored, of sites that are not on the list."""
    late_acknowledgements: int = 0
    """Not sent: their connection was gone; the broker delivers those messages again."""
    history_items: Counter[str] = field(default_factory=Counter)
    """New records out of histories, by leaf."""
    history_duplicate: int = 0
    history_rejected: Counter[str] = field(default_factory=Counter)
    """Items of histories, by reason; the message around them is stored."""
    lost: int = 0
    """Records that sites said they will never send."""
    gaps_open: int = 0
    """Gaps in the boots of each site that its last watermark named."""
    watermarks: int = 0
    """Acknowledged by the broker."""
    watermarks_refused: int = 0
    batches: int = 0
    retries: int = 0
    """Batches that the database refused at first."""
    connections: int = 0
    connection_failures: int = 0

    @property
    def in_flight(self) -> int:
        """Received and neither stored nor refused yet."""
        # The outcomes are read first: a message that comes in between counts as in flight.
        settled = (
            sum(self.stored.copy().values())
            + self.duplicate
            + sum(self.rejected.copy().values())
        )
        return max(0, self.received - settled)
