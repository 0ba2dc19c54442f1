"""The site towards the broker: its presence (birth, goodbye, last will) and link.

Records take their own way over the same link; they are `delivery`'s.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from jaga_agent import report
from jaga_agent.ports import Will
from jaga_agent.wire import messages as wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaga_agent.config import Config
    from jaga_agent.ports import Message
    from jaga_agent.runtime.delivery import Delivery
    from jaga_agent.runtime.doors import Doors
    from jaga_agent.runtime.troubles import Troubles

    OnCommand = Callable[[bytes, bytes | None], None]
    """Told the payload and its correlation data."""

_log = logging.getLogger(__name__)

FIRST_REPLY: Final = 1 << 62
"""Tokens of replies begin here; below are those of records."""
REPLIES: Final = 32
"""Not acknowledged ones that are kept at most."""


class Presence:
    """The broker's listener."""

    def __init__(
        self,
        config: Config,
        *,
        config_hash: str,
        version: str,
        doors: Doors,
        delivery: Delivery,
        troubles: Troubles,
        changed: Callable[[], None],
    ) -> None:
        """Call `changed` each time the connection came or went."""
        self._config = config
        self._config_hash = config_hash
        self._version = version
        self._clock = doors.clock
        self._spool = doors.spool
        self._delivery = delivery
        self._troubles = troubles
        self._changed = changed
        self._connection = 0
        self.on_connected: Callable[[], None] = lambda: None
        """Called with each connection, after the birth: to record the state now."""
        self.on_command: OnCommand | None = None
        """What is done with a command; None: it is told and dropped."""
        self._replies: dict[int, tuple[bytes, bytes]] = {}
        """Those not acknowledged yet, by token, oldest first."""
        self._next_reply = FIRST_REPLY
        self._reason: str | None = "starting"
        self._since = self._clock.now()
        self.is_connected = False
        self._broker = doors.make_broker(self, self._will)

    def start(self) -> None:
        """Begin to dial."""
        self._broker.start()

    def reconnect_now(self, reason: str) -> None:
        """Leave the old connection, which goes by an uplink that no longer carries."""
        self._broker.reconnect_now(reason)

    async def close(self) -> None:
        """Say that the site goes offline, and disconnect."""
        await self._broker.close(
            last_topic=self._delivery.topic("status"),
            last_payload=wire.encode(self._status(online=False)),
        )
        self._delivery.disconnected()

    def reply(self, payload: bytes, correlation: bytes) -> None:
        """Answer a command: kept in RAM until the broker has it, or too many wait."""
        if len(self._replies) >= REPLIES:
            _log.warning("a reply was dropped: the broker takes none")
            del self._replies[next(iter(self._replies))]
        token, self._next_reply = self._next_reply, self._next_reply + 1
        self._replies[token] = (payload, correlation)
        self._say(token)

    def _say(self, token: int) -> None:
        payload, correlation = self._replies[token]
        self._broker.publish(
            self._delivery.topic("reply"), payload, token=token, correlation=correlation
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the link's row of the status answer."""
        return {
            "connected": self.is_connected,
            "reason": self._reason,
            "for_s": self._clock.now() - self._since,
        }

    @property
    def silent_s(self) -> float:
        """Return for how long there has been no connection; 0 while there is one."""
        return 0.0 if self.is_connected else self._clock.now() - self._since

    def connected(self, session_present: bool) -> None:
        self._now(connected=True, reason=None)
        _log.info("broker connected session_present=%s", session_present)
        self._broker.publish(
            self._delivery.topic("status"),
            wire.encode(self._status(online=True)),
            token=None,
            retain=True,
        )
        self._delivery.connected(self._broker)
        # What is recorded now is the newest state, and goes first.
        self.on_connected()
        self._delivery.pump()
        for token in self._replies:
            self._say(token)

    def disconnected(self, reason: str) -> None:
        self._delivery.disconnected()
        self._now(connected=False, reason=reason)

    def acknowledged(self, token: int) -> None:
        if token >= FIRST_REPLY:
            self._replies.pop(token, None)
        else:
            self._delivery.acknowledged(token)

    def message(self, message: Message) -> None:
        if message.topic == self._delivery.topic("command"):
            if self.on_command is None:
                _log.warning("a command came, and nobody here carries out commands")
            else:
                self.on_command(message.payload, message.correlation)
        elif message.topic == self._delivery.topic("watermark"):
            self._delivery.watermark(message.payload)

    def rejected(self, token: int, reason: str) -> None:
        if token >= FIRST_REPLY:
            self._replies.pop(token, None)
            self._troubles.tell("broker", f"the broker rejected a reply: {reason}")
            return
        # Kept in the spool: sent again with the next connection.
        self._delivery.rejected(token)
        self._troubles.tell("broker", f"the broker rejected a record: {reason}")

    def _now(self, *, connected: bool, reason: str | None) -> None:
        is_new = connected != self.is_connected
        if is_new:
            self._since = self._clock.now()
        self.is_connected, self._reason = connected, reason
        if is_new:
            self._changed()

    def _will(self) -> Will:
        """Return the will of the next connection: it names the birth it ends."""
        self._connection = self._spool.next_connection()
        return Will(
            self._delivery.topic("status"),
            wire.encode(self._status(online=False)),
            self._config.mqtt.will_delay_s,
        )

    def _status(self, *, online: bool) -> wire.Status:
        return report.status(
            self._config,
            self._config_hash,
            self._version,
            online=online,
            boot=self._spool.boot,
            connection=self._connection,
        )
