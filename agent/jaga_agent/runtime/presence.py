"""The site towards the broker: its presence (birth, goodbye, last will) and link.

Records take their own way over the same link; they are `delivery`'s.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from jaga_agent import report
from jaga_agent.ports import Will
from jaga_agent.wire import messages as wire
from jaga_agent.wire.base import MalformedMessage, decode
from jaga_agent.wire.evidence import Watermark

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
        self.on_watermark: Callable[[Watermark], None] | None = None
        """Told each watermark, besides the recorder."""
        self._replies: dict[int, tuple[bytes, bytes]] = {}
        """Those not acknowledged yet, by token, oldest first."""
        self._said: set[int] = set()
        """Those handed over on this connection."""
        self._next_reply = FIRST_REPLY
        self._reason: str | None = "starting"
        self._since = self._clock.now()
        self.is_connected = False
        self._broker = doors.make_broker(self, self._will)

    def start(self) -> None:
        """Begin to dial."""
        self._broker.start()

    def use(self, config: Config) -> None:
        """Go by another stage: at once if the broker must know."""
        changed = config.keepalive_s != self._config.keepalive_s
        self._config = config
        if changed and self.is_connected:
            self.reconnect_now(f"the stage is {config.site.mode.value} now")

    def reconnect_now(self, reason: str) -> None:
        """Leave the old connection, which goes by an uplink that no longer carries."""
        self._broker.reconnect_now(reason)

    async def close(self, *, comes_back: bool = False) -> None:
        """Say that the site goes offline, and disconnect.

        `comes_back`: at once, so that it is not called offline for a second.
        """
        await self._broker.close(
            last_topic=self._delivery.topic("status"),
            last_payload=wire.encode(self._status(online=comes_back)),
        )
        self._delivery.disconnected()

    def reply(self, payload: bytes, correlation: bytes) -> None:
        """Answer a command: kept in RAM until the broker has it, or too many wait."""
        if len(self._replies) >= REPLIES:
            _log.warning("a reply was dropped: the broker takes none")
            del self._replies[next(iter(self._replies))]
        token, self._next_reply = self._next_reply, self._next_reply + 1
        self._replies[token] = (payload, correlation)
        self._say_replies()

    def _say_replies(self) -> None:
        topic = self._delivery.topic("reply")
        for token, (payload, correlation) in self._replies.items():
            if token in self._said:
                continue
            if not self._broker.publish(
                topic, payload, token=token, correlation=correlation
            ):
                return
            self._said.add(token)

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
        # What was rejected before goes again now.
        self._troubles.over("broker")
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
        self._say_replies()

    def disconnected(self, reason: str) -> None:
        self._said.clear()
        self._delivery.disconnected()
        self._now(connected=False, reason=reason)

    def acknowledged(self, token: int) -> None:
        if token >= FIRST_REPLY:
            self._replies.pop(token, None)
        # Somebody waits for a reply: it takes the room before records do.
        self._say_replies()
        if token < FIRST_REPLY:
            self._delivery.acknowledged(token)
        else:
            self._delivery.pump()

    def message(self, message: Message) -> None:
        if message.topic == self._delivery.topic("command"):
            if self.on_command is None:
                _log.warning("a command came, and nobody here carries out commands")
            else:
                self.on_command(message.payload, message.correlation)
        elif message.topic == self._delivery.topic("watermark"):
            self._delivery.watermark(message.payload)
            self._tell_watermark(message.payload)

    def _tell_watermark(self, payload: bytes) -> None:
        if self.on_watermark is None:
            return
        try:
            mark = decode(payload, Watermark)
        except MalformedMessage as error:
            _log.warning("a watermark that cannot be read proves nothing: %s", error)
        else:
            self.on_watermark(mark)

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
            self._config.keepalive_s,
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
