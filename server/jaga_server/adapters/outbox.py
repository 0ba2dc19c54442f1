"""What is to be published, the newest of each topic. Knows no MQTT, decides nothing."""

from __future__ import annotations

import threading


class Outbox:
    """Filled by one thread, emptied by another. Bounded by the number of topics."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, bytes] = {}

    def put(self, topic: str, payload: bytes) -> None:
        """Take what is to be published; it stands for what waits of its topic."""
        with self._lock:
            self._waiting.pop(topic, None)
            self._waiting[topic] = payload

    def take(self) -> tuple[str, bytes] | None:
        """Return what waits longest, or None."""
        with self._lock:
            for topic in self._waiting:
                return topic, self._waiting.pop(topic)
        return None

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._waiting.clear()
