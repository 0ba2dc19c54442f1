"""Log lines as key=value on stderr, for journald and for people."""

from __future__ import annotations

import logging
import sys


class KeyValueFormatter(logging.Formatter):
    """Writes `level=warning source=mqtt message="broker not connected …"`."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        quoted = text.replace("\\", "\\\\").replace('"', "'").replace("\n", "\\n")
        return (
            f"time={self.formatTime(record, '%Y-%m-%dT%H:%M:%S%z')}"
            f" level={record.levelname.lower()}"
            f' source={record.name.rpartition(".")[2]} message="{quoted}"'
        )


def start(*, verbose: bool) -> None:
    """Send this process's log to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(KeyValueFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("jaga_server").setLevel(
        logging.DEBUG if verbose else logging.INFO
    )
