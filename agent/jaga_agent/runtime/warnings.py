"""The last warnings of the log, held for a technician who asks from afar."""

from __future__ import annotations

import logging
from collections import deque
from typing import Final, Self

KEPT: Final = 100
LINE_CHARS: Final = 400


class Warnings(logging.Handler):
    """Holds the last warnings and errors; `with` has it hear the agent's log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: deque[str] = deque(maxlen=KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        """Hold one record; called by logging, from any thread."""
        line = f"{record.created:.3f} {record.levelname} {record.name} "
        try:
            line += record.getMessage()
        except Exception:  # noqa: BLE001 - as logging's own handlers: a bad record is told, and does no harm
            self.handleError(record)
            return
        self._lines.append(line[:LINE_CHARS])

    def lines(self) -> list[str]:
        """Return them, oldest first; each begins with Unix seconds."""
        return list(self._lines)

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)
