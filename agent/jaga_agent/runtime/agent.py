"""The running agent: events in, `core.engine.step`, actions out. It decides nothing.

One event loop. Order matters in one place only: a move is carried out before anything
else that touches the kernel, and the records of it come after.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import tenacity

from jaga_agent import report
from jaga_agent.config import HEARTBEAT_S, target_address
from jaga_agent.core.actions import ReportHealth, ReportTarget, SelectUplink, SendProbe
from jaga_agent.core.engine import next_deadline, step
from jaga_agent.core.events import (
    Event,
    LinkSeen,
    ProbeAnswered,
    ProbeNotSent,
    ProbeRefused,
    Tick,
    TrafficSeen,
)
from jaga_agent.core.state import State
from jaga_agent.core.tally import Tally
from jaga_agent.errors import (
    AdapterError,
    HostError,
    JournalError,
    NetlinkError,
)
from jaga_agent.ports import KernelEvent, Will
from jaga_agent.runtime import snapshot
from jaga_agent.runtime.recorder import Recorder
from jaga_agent.sd_notify import NotifyError
from jaga_agent.wire import messages as wire

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from jaga_agent.adapters.journal import Journal
    from jaga_agent.config import Config
    from jaga_agent.core.actions import Action
    from jaga_agent.core.model import UplinkName
    from jaga_agent.core.routes import Link
    from jaga_agent.ports import (
        Broker,
        BrokerListener,
        Clock,
        Counters,
        Host,
        Kernel,
        ProbeListener,
        Prober,
        Spool,
    )
    from jaga_agent.reconcile import Reconciler, SwitchReport

_log = logging.getLogger(__name__)

RECONCILE_S: Final = 30.0
"""The kernel is read again this often even if no event came: events can be lost."""
DEBOUNCE_S: Final = 0.2
"""Address and route events come in bursts; the last state is what counts."""
SAMPLE_BUSY_S: Final = 0.05
SAMPLE_IDLE_S: Final = 0.5
BUSY_FOR_S: Final = 5.0
"""Counters are read 20 times a second for this long after the last packet sent."""
DECISIONS_KEPT: Final = 20
LATE_LOOP_S: Final = 1.0
"""A loop this late is told: verdicts rest on its punctuality."""


@dataclass(frozen=True, slots=True)
class Doors:
    """The adapters the agent works through."""

    clock: Clock
    host: Host
    spool: Spool
    kernel: Kernel
    reconciler: Reconciler
    make_prober: Callable[[ProbeListener], Prober]
    make_broker: Callable[[BrokerListener, Callable[[], Will]], Broker]
    journal: Journal | None
    ready: Callable[[str], None]
    alive: Callable[[str], None]
    alive_every_s: float | None
    """How often the service manager must hear that we live; None: never."""


class Agent:
    """One site's guard."""

    def __init__(
        self, config: Config, *, config_hash: str, version: str, doors: Doors
    ) -> None:
        self._config = config
        self._config_hash = config_hash
        self._version = version
        self._doors = doors
        self._clock = doors.clock
        self._state = State.initial(config.policy)
        self._devices = {
            ranked.name: table.device
            for ranked, table in zip(
                config.policy.uplinks, config.by_preference, strict=True
            )
        }
        self._addresses = {t.name: target_address(t) for t in config.targets}
        self._tally = Tally(
            tuple(u.name for u in config.policy.uplinks), config.policy.lost_after_s
        )
        self._recorder = Recorder(
            doors.spool, doors.clock, config.site.region, config.site.id
        )
        self._prober = doors.make_prober(self)
        self._broker = doors.make_broker(self, self._will)
        self._links: Mapping[str, Link] = {}
        self._began = self._clock.now()
        self._connection = 0
        self._broker_state: dict[str, Any] = {"connected": False, "reason": "starting"}
        self._broker_since = self._began
        self._decisions: deque[dict[str, Any]] = deque(maxlen=DECISIONS_KEPT)
        self._troubles: dict[str, str] = {}
        self._moves: asyncio.Queue[tuple[SelectUplink, float]] = asyncio.Queue()
        self._look = asyncio.Event()
        self._sync = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._last_sent_at = self._began
        self._reported: Mapping[str, Counters] = {}
        self._stopping = False

    # Life

    async def run(self, stop: asyncio.Event) -> None:
        """Guard the site until `stop`; raises the error of whatever part failed."""
        loop = asyncio.get_running_loop()
        synced = await self._doors.reconciler.sync(None)
        self._tell_sync(synced.failures, synced.changed)
        adopted = synced.adopted_active
        self._state = State.initial(self._config.policy, adopted)
        self._reported = self._counters()
        self._record(
            lambda s: report.lifecycle(s, "started", self._start_reason(adopted))
        )
        self._see_links(synced.links)
        self._broker.start()
        self._doors.ready(self._headline())
        work: list[Coroutine[Any, Any, None]] = [
            self._watch_kernel(),
            self._look_at_links(),
            self._keep_routes(),
            self._move_site(),
            self._sample_traffic(),
            self._beat(),
            self._stay_alive(),
        ]
        tasks = [loop.create_task(each) for each in work]
        stopper = loop.create_task(stop.wait())
        try:
            await asyncio.wait([*tasks, stopper], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stopping = True
            for task in (*tasks, stopper):
                task.cancel()
            ended = await asyncio.gather(*tasks, stopper, return_exceptions=True)
            await self._end()
        for outcome in ended:
            if isinstance(outcome, Exception):
                raise outcome

    async def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._prober.close()
        # Before the goodbye, so that it still travels; the routes stay as they are.
        self._record(lambda s: report.lifecycle(s, "stopped", "asked to stop"))
        await self._broker.close(
            last_topic=self._recorder.topic("status"),
            last_payload=wire.encode(self._status(online=False)),
        )
        self._recorder.disconnected()
        if self._doors.journal is not None:
            self._doors.journal.close()

    def status(self) -> dict[str, Any]:
        """Return what the status socket answers."""
        now = self._clock.now()
        return snapshot.status(
            self._config,
            self._state,
            self._links,
            now,
            version=self._version,
            config_hash=self._config_hash,
            running_s=now - self._began,
            decisions=list(self._decisions),
            broker={**self._broker_state, "for_s": now - self._broker_since},
            records={
                "waiting": self._recorder.waiting,
                "last_seq": self._recorder.last_seq,
                "dropped": self._doors.spool.dropped + self._recorder.unspooled,
            },
            clock_age_s=self._clock.age_s(),
            troubles=list(self._troubles.values()),
        )

    def _start_reason(self, adopted: UplinkName | None) -> str:
        found = f"found {adopted} carrying the site" if adopted else "no uplink carried"
        return f"version {self._version}; {found}"

    def _headline(self) -> str:
        active = self._state.active or "no uplink"
        link = "connected" if self._broker_state["connected"] else "not connected"
        return f"{self._config.site.id}: active {active}; broker {link}"

    # The core

    def feed(self, event: Event) -> None:
        """Hand one event to the core and carry out what it asks."""
        now = self._clock.now()
        before = self._state
        self._state, actions = step(before, event, now)
        journal = self._doors.journal
        if journal is not None and (self._state is not before or actions):
            try:
                journal.record(before, event, now, actions)
            except JournalError as error:
                self._trouble("journal", str(error))
        for action in actions:
            self._carry_out(action)
        if not self._stopping:
            self._set_timer()

    def _carry_out(self, action: Action) -> None:
        match action:
            case SendProbe(probe_id=probe_id, uplink=uplink, target=target):
                self._tally.sent(probe_id, uplink, self._clock.now())
                self._prober.send(
                    probe_id, self._devices[uplink], self._addresses[target]
                )
            case SelectUplink():
                _log.warning(
                    "move rule=%s from=%s to=%s reason=%r",
                    action.rule,
                    action.previous,
                    action.uplink,
                    action.reason,
                )
                self._moves.put_nowait((action, self._clock.now()))
            case ReportHealth():
                _log.warning(
                    "health uplink=%s %s->%s reason=%r",
                    action.uplink,
                    action.old.value,
                    action.new.value,
                    action.reason,
                )
                self._record(partial(report.health, action=action))
            case ReportTarget():
                _log.warning("target %s: %s", action.target, action.reason)
                self._record(partial(report.target, action=action))

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        now = self._clock.now()
        wait_s = max(0.0, next_deadline(self._state, now) - now)
        self._timer = asyncio.get_running_loop().call_later(
            wait_s, self._tick, now + wait_s
        )

    def _tick(self, due: float) -> None:
        late_s = self._clock.now() - due
        if late_s > LATE_LOOP_S:
            _log.warning("the event loop was %.1f s late: the Pi is overloaded", late_s)
        self.feed(Tick())

    # What the prober tells (ProbeListener)

    def answered(self, probe_id: int, rtt_s: float) -> None:
        self._tally.answered(probe_id, rtt_s)
        self.feed(ProbeAnswered(probe_id, rtt_s))

    def refused(self, probe_id: int, reason: str) -> None:
        self._tally.refused(probe_id)
        self.feed(ProbeRefused(probe_id, reason))

    def not_sent(self, probe_id: int, reason: str) -> None:
        self._tally.not_sent(probe_id)
        self.feed(ProbeNotSent(probe_id, reason))

    # What the broker tells (BrokerListener)

    def connected(self, session_present: bool) -> None:
        self._broker_now(connected=True, reason=None)
        _log.info("broker connected session_present=%s", session_present)
        self._broker.publish(
            self._recorder.topic("status"),
            wire.encode(self._status(online=True)),
            token=None,
            retain=True,
        )
        self._recorder.connected(self._broker)

    def disconnected(self, reason: str) -> None:
        self._recorder.disconnected()
        self._broker_now(connected=False, reason=reason)

    def acknowledged(self, token: int) -> None:
        self._recorder.acknowledged(token)

    def rejected(self, token: int, reason: str) -> None:
        # Kept in the spool: sent again with the next connection.
        self._trouble("broker", f"the broker rejected record {token}: {reason}")

    def _broker_now(self, *, connected: bool, reason: str | None) -> None:
        if connected != self._broker_state["connected"]:
            self._broker_since = self._clock.now()
        self._broker_state = {"connected": connected, "reason": reason}

    def _will(self) -> Will:
        """Return the will of the next connection: it names the birth it ends."""
        self._connection = self._doors.spool.next_connection()
        return Will(
            self._recorder.topic("status"),
            wire.encode(self._status(online=False)),
            self._config.mqtt.will_delay_s,
        )

    def _status(self, *, online: bool) -> wire.Status:
        return report.status(
            self._config,
            self._config_hash,
            self._version,
            online=online,
            boot=self._doors.spool.boot,
            connection=self._connection,
        )

    def _record(self, build: Callable[[report.Stamp], Any]) -> None:
        self._recorder.record(build)

    # The kernel

    async def _watch_kernel(self) -> None:
        async with aclosing(self._doors.kernel.watch()) as events:
            async for event in events:
                if event is KernelEvent.LINK:
                    self._look.set()
                self._sync.set()

    async def _look_at_links(self) -> None:
        """React to a link event at once: one read, no repair."""
        while True:
            await self._look.wait()
            self._look.clear()
            try:
                self._see_links(await self._doors.reconciler.observe())
            except NetlinkError as error:
                self._trouble("kernel", str(error))

    async def _keep_routes(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._sync.wait(), RECONCILE_S)
                await asyncio.sleep(DEBOUNCE_S)
            except TimeoutError:
                pass
            self._sync.clear()
            try:
                synced = await self._doors.reconciler.sync(self._state.active)
            except NetlinkError as error:
                self._trouble("kernel", str(error))
                continue
            self._tell_sync(synced.failures, synced.changed)
            self._see_links(synced.links)

    def _tell_sync(
        self, failures: tuple[AdapterError, ...], changed: tuple[str, ...]
    ) -> None:
        for change in changed:
            _log.info("kernel %s", change)
        self._troubles.pop("kernel", None)
        if failures:
            self._trouble("kernel", "; ".join(str(f) for f in failures))

    def _see_links(self, links: Mapping[str, Link]) -> None:
        before, self._links = self._links, links
        for name, device in self._devices.items():
            old, new = before.get(device), links.get(device)
            if old is not None and new is not None and old.index != new.index:
                # Re-created between two looks: everything known of it is void.
                self.feed(LinkSeen(name, present=False, carrier=False, routed=False))
            self.feed(
                LinkSeen(
                    name,
                    present=new is not None,
                    carrier=new is not None and new.carrier and new.admin_up,
                    routed=new is not None and new.routed,
                )
            )
            if new is None and (old is not None or not before):
                _log.warning("uplink %s: device %s does not exist", name, device)

    async def _move_site(self) -> None:
        while True:
            action, decided_at = await self._moves.get()
            switched_s = None
            try:
                moved = await self._switch(action)
                switched_s = self._clock.now() - decided_at
                for failure in moved.failures:
                    _log.warning("after the move: %s", failure)
            except NetlinkError as error:
                self._trouble("kernel", f"move to {action.uplink} failed: {error}")
                self._sync.set()
            if action.previous is not None:
                self._broker.reconnect_now(f"moved to {action.uplink}")
            self._decided(action, switched_s)

    async def _switch(self, action: SelectUplink) -> SwitchReport:
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(NetlinkError),
            stop=tenacity.stop_after_attempt(4),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=0.4),
            reraise=True,
        )
        return await retrying(
            self._doors.reconciler.switch, action.uplink, action.previous
        )

    def _decided(self, action: SelectUplink, switched_s: float | None) -> None:
        detected_ms = None if action.detected_s is None else action.detected_s * 1000
        self._decisions.appendleft(
            {
                "wall_ms": self._clock.wall_ms(),
                "rule": action.rule,
                "from": action.previous,
                "to": action.uplink,
                "reason": action.reason,
                "detected_ms": detected_ms,
                "switched_ms": None if switched_s is None else switched_s * 1000,
            }
        )
        self._record(lambda s: report.decision(s, action, switched_s))

    # Evidence and reports

    async def _sample_traffic(self) -> None:
        while True:
            totals = self._counters()
            now = self._clock.now()
            for name, device in self._devices.items():
                if (of := totals.get(device)) is None:
                    continue
                per = self._state.of(name)
                if name == self._state.active and of.tx_packets != per.tx_packets:
                    self._last_sent_at = now
                if (of.rx_packets, of.tx_packets) != (
                    per.rx_packets,
                    per.tx_packets,
                ) or (per.unanswered_since is not None):
                    self.feed(TrafficSeen(name, of.rx_packets, of.tx_packets))
            busy = now - self._last_sent_at < BUSY_FOR_S
            await asyncio.sleep(SAMPLE_BUSY_S if busy else SAMPLE_IDLE_S)

    def _counters(self) -> Mapping[str, Counters]:
        try:
            totals = self._doors.host.counters(tuple(self._devices.values()))
        except HostError as error:
            self._trouble("host", str(error))
            return {}
        self._troubles.pop("host", None)
        return totals

    async def _beat(self) -> None:
        interval_s = HEARTBEAT_S[self._config.site.mode]
        # A fixed phase for each site: after a district's power cut they must spread.
        phase_s = interval_s * (sum(self._config.site.id.encode()) % 97) / 97
        await asyncio.sleep(min(1.0, phase_s))
        while True:
            self._heartbeat()
            now = self._clock.now()
            await asyncio.sleep(interval_s - (now - phase_s) % interval_s)

    def _heartbeat(self) -> None:
        totals = self._counters()
        moved = report.moved(self._reported, totals)
        self._reported = {**self._reported, **totals}
        measured = self._tally.collect(self._clock.now())
        host = self._doors.host.read()
        self._record(
            lambda s: report.heartbeat(
                s,
                self._config,
                self._state,
                measured=measured,
                traffic=moved,
                host=host,
            )
        )

    async def _stay_alive(self) -> None:
        every_s = self._doors.alive_every_s
        while True:
            await asyncio.sleep(RECONCILE_S if every_s is None else every_s / 2)
            try:
                self._doors.alive(self._headline())
            except NotifyError as error:
                # Systemd kills us if this lasts; dying of one full socket is worse.
                self._trouble("service manager", str(error))
            else:
                self._troubles.pop("service manager", None)

    def _trouble(self, part: str, message: str) -> None:
        """Tell a trouble once, and keep it for `status` until it is over."""
        if self._troubles.get(part) != message:
            _log.error("%s: %s", part, message)
        self._troubles[part] = message
