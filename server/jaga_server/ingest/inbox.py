"""What waits between the broker's threads and the writer's: live first, bounded in bytes.

Counted in messages it would not be bounded: a history is two hundred times a heartbeat.
"""

from __future__ import annotations

import queue
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jaga_server.ingest.received import Received

CAPACITY_BYTES: Final = 64 * 1024 * 1024
OVERHEAD_BYTES: Final = 600
"""What a message weighs in memory beside its payload."""


class Inbox(queue.Queue["Received"]):
    """A queue that is full when its messages weigh `maxsize` bytes; `qsize` is in bytes.

    A history comes out only when nothing else waits.
    """

    def __init__(self, capacity_bytes: int = CAPACITY_BYTES) -> None:
        super().__init__(capacity_bytes)

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self._past: deque[Received] = deque()
        self._bytes = 0

    def _qsize(self) -> int:
        return self._bytes

    def _put(self, item: Received) -> None:
        self._bytes += _weight(item)
        if item.history:
            self._past.append(item)
        else:
            super()._put(item)

    def _get(self) -> Received:
        item = super()._get() if self.queue else self._past.popleft()
        self._bytes -= _weight(item)
        return item


def _weight(item: Received) -> int:
    return len(item.payload) + OVERHEAD_BYTES
