"""What does not work at the moment, by part of the agent: told once, shown until over."""

from __future__ import annotations

import logging

_log = logging.getLogger(__name__)


class Troubles:
    """At most one for each part, such as `kernel`, `host` or `broker`."""

    def __init__(self) -> None:
        self._by_part: dict[str, str] = {}

    def tell(self, part: str, message: str) -> None:
        """Log a trouble unless it is the one known, and keep it for `status`."""
        if self._by_part.get(part) != message:
            _log.error("%s: %s", part, message)
        self._by_part[part] = message

    def over(self, part: str) -> None:
        """Forget a part's trouble, if it has one."""
        self._by_part.pop(part, None)

    def all(self) -> list[str]:
        """Return what is not over."""
        return list(self._by_part.values())
