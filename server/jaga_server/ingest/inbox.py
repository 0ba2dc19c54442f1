"""What waits between the broker's thread and the writer's: bounded in bytes.

Counted in messages it would not be bounded: a history is two hundred times a heartbeat.
"""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jaga_server.ingest.received import Received

CAPACITY_BYTES: Final = 64 * 1024 * 1024
OVERHEAD_BYTES: Final = 600
"""What a message weighs in memory beside its payload."""


class Inbox(queue.Queue["Received"]):
    """A queue that is full when its messages weigh `maxsize` bytes; `qsize` is in bytes."""

    def __init__(self, capacity_bytes: int = CAPACITY_BYTES) -> None:
        super().__init__(capacity_bytes)
        self._bytes = 0

    def _qsize(self) -> int:
        return self._bytes

    def _put(self, item: Received) -> None:
        self._bytes += len(item.payload) + OVERHEAD_BYTES
        super()._put(item)

    def _get(self) -> Received:
        item = super()._get()
        self._bytes -= len(item.payload) + OVERHEAD_BYTES
        return item
