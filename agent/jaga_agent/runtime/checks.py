"""Checks of the real thing: begun as the core asks, their outcomes told to it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from jaga_agent.core.events import CheckDone

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaga_agent.config import Config
    from jaga_agent.core.actions import SendCheck
    from jaga_agent.ports import Checked
    from jaga_agent.runtime.doors import Doors

_log = logging.getLogger(__name__)


class Checks:
    """The checker's listener; `feed` is the driver's."""

    def __init__(
        self, config: Config, doors: Doors, feed: Callable[[CheckDone], None]
    ) -> None:
        self._feed = feed
        self._devices = config.devices
        self._targets = {target.name: target for target in config.check_targets}
        self._asked: dict[int, SendCheck] = {}
        self._timekeeper = doors.timekeeper
        self._checker = doors.make_checker(self)

    def send(self, asked: SendCheck) -> None:
        self._asked[asked.check_id] = asked
        self._checker.send(
            asked.check_id, self._devices[asked.uplink], self._targets[asked.target]
        )

    def close(self) -> None:
        self._checker.close()

    def checked(self, check_id: int, outcome: Checked) -> None:
        asked = self._asked.pop(check_id)
        _log.debug(
            "check uplink=%s target=%s verdict=%s detail=%r %s bytes=%s",
            asked.uplink,
            asked.target,
            outcome.verdict.value,
            outcome.detail,
            outcome.phases,
            outcome.wire_bytes,
        )
        if outcome.time is not None:
            self._timekeeper.hear(outcome.time)
        self._feed(
            CheckDone(check_id, outcome.verdict, outcome.detail, outcome.wire_bytes)
        )
