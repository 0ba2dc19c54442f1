"""How others judge an uplink, as arithmetic: models made from documented behaviour.

Pure: instants and outcomes come in, verdicts go out. They are models, not the programs
themselves; each says what it follows. What they leave out is written beside it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DpingerSettings:
    """Options of dpinger, as a gateway daemon starts it."""

    send_interval_s: float
    loss_interval_s: float
    time_period_s: float = 60.0
    alert_interval_s: float = 1.0
    latency_alarm_s: float = 0.5
    loss_alarm_ratio: float = 0.2


PFSENSE = DpingerSettings(send_interval_s=0.5, loss_interval_s=2.0)
"""`-s 500 -l 2000 -t 60000 -A 1000 -D 500 -L 20`: pfSense's gateway defaults."""
OPNSENSE = DpingerSettings(send_interval_s=1.0, loss_interval_s=4.0)
"""`-s 1s -l 4s -t 60s -A 1s -D 500 -L 20`: OPNsense's gateway defaults."""


@dataclass(slots=True)
class Dpinger:
    """One dpinger: averages over a window, alarms on the average.

    After dpinger.c: a reply makes its slot's latency known, however late; a slot older
    than the loss interval without a reply counts as lost. Alarm: mean latency or loss
    above its threshold.
    """

    settings: DpingerSettings
    _sent: deque[tuple[int, float]] = field(default_factory=deque)
    _rtt_s: dict[int, float] = field(default_factory=dict)

    def sent(self, number: int, now_s: float) -> None:
        """Note a request; numbers are used once."""
        self._sent.append((number, now_s))
        while self._sent[0][1] < now_s - self.settings.time_period_s:
            old, _ = self._sent.popleft()
            self._rtt_s.pop(old, None)

    def answered(self, number: int, rtt_s: float) -> None:
        """Note its reply."""
        if self._sent and number >= self._sent[0][0]:
            self._rtt_s[number] = rtt_s

    def latency_s(self) -> float | None:
        """Return the window's mean, None without any reply."""
        if not self._rtt_s:
            return None
        return sum(self._rtt_s.values()) / len(self._rtt_s)

    def loss_ratio(self, now_s: float) -> float:
        """Return lost / (lost + answered) of the window."""
        lost = sum(
            number not in self._rtt_s
            for number, sent_s in self._sent
            if now_s - sent_s > self.settings.loss_interval_s
        )
        return lost / (lost + len(self._rtt_s)) if lost else 0.0

    def alarm(self, now_s: float) -> bool:
        """Return whether the gateway is down by this."""
        latency_s = self.latency_s()
        return self.loss_ratio(now_s) > self.settings.loss_alarm_ratio or (
            latency_s is not None and latency_s > self.settings.latency_alarm_s
        )

    def prefill(self, rtt_s: float, now_s: float) -> int:
        """Fill the window with good replies; return the next free number.

        A benchmark cannot wait a minute before each fault. A shorter history would
        make the average move faster than it does on a line that worked for long.
        """
        interval_s = self.settings.send_interval_s
        count = int(self.settings.time_period_s / interval_s)
        self._sent.clear()
        self._rtt_s.clear()
        for number in range(count):
            self._sent.append((number, now_s - (count - number) * interval_s))
            self._rtt_s[number] = rtt_s
        return count


@dataclass(slots=True)
class Mwan3:
    """One mwan3track with its defaults: a score that falls step by step.

    After mwan3track: interval 10 s, timeout 4 s, down 5, up 5, reliability 1. The score
    starts at down + up. A failed round takes one off, and at `up` the interface goes
    offline; a good round while it is online puts the score back to the top. Offline,
    it climbs from 0 and is online again at `up`.
    """

    down: int = 5
    up: int = 5
    score: int = 10
    online: bool = True

    def round(self, good: bool) -> bool:
        """Note one round of pings; return whether the interface is online."""
        self.score += 1 if good else -1
        if good and (self.online or self.score >= self.up):
            self.online, self.score = True, self.down + self.up
        elif not good and self.score <= self.up:
            self.online, self.score = False, 0
        return self.online


NM_INTERVAL_S = 300.0
"""NetworkManager.conf(5), [connectivity] interval: the default."""
NM_TIMEOUT_S = 20.0
"""A check without an answer by then is not FULL (nm-connectivity.c)."""
NM_PENALTY = 20_000
"""Added to the metric of a device's default route while it is not FULL (nm-device.c)."""
NM_ONLINE = b"NetworkManager is online"


def nm_full(answer: bytes) -> bool:
    """Return whether the HTTP answer means FULL connectivity."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    return b"x-networkmanager-status: online" in lines[1:] or (
        b" 200 " in lines[0] + b" " and body.startswith(NM_ONLINE)
    )


def first_usable(down: list[bool], current: int) -> int:
    """Return the first tier that is not down; all down: where it is, it stays."""
    usable = [index for index, is_down in enumerate(down) if not is_down]
    return usable[0] if usable else current
