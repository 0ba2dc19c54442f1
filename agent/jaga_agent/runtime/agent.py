"""The running agent: events in, `core.engine.step`, actions out. It decides nothing.

One event loop. Here the parts are joined: each hears its own side of the world and
feeds the core (`driver`); what the core asks for is handed to the part that does it.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from jaga_agent import quota, report
from jaga_agent.core.actions import (
    ReportBusy,
    ReportCheck,
    ReportGap,
    ReportHealth,
    ReportTarget,
    ReportThrift,
    SelectUplink,
    SendCheck,
    SendProbe,
)
from jaga_agent.runtime import snapshot
from jaga_agent.runtime.checks import Checks
from jaga_agent.runtime.decisions import Decisions, link
from jaga_agent.runtime.delivery import Delivery
from jaga_agent.runtime.driver import Driver
from jaga_agent.runtime.heartbeats import Heartbeats
from jaga_agent.runtime.presence import Presence
from jaga_agent.runtime.probes import Probes
from jaga_agent.runtime.recorder import Recorder
from jaga_agent.runtime.resolver import Resolver
from jaga_agent.runtime.routes import RECONCILE_S, Routes
from jaga_agent.runtime.sampling import Sampling
from jaga_agent.runtime.troubles import Troubles
from jaga_agent.runtime.usage import Usages
from jaga_agent.sd_notify import NotifyError

if TYPE_CHECKING:
    from jaga_agent.config import Config
    from jaga_agent.core.actions import Action
    from jaga_agent.core.model import UplinkName
    from jaga_agent.runtime.doors import Doors
    from jaga_agent.wire.echo import SiteState

_log = logging.getLogger(__name__)


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
        self._began = self._clock.now()
        self._troubles = troubles = Troubles()
        self._decisions = Decisions(
            doors.chain,
            doors.evidence,
            doors.journal,
            clock=doors.clock,
            boot=doors.spool.boot,
            troubles=troubles,
        )
        self._driver = driver = Driver(
            config.policy,
            clock=doors.clock,
            journal=doors.journal,
            troubles=troubles,
            carry_out=self._carry_out,
        )
        self._delivery = delivery = Delivery(
            config, spool=doors.spool, clock=doors.clock, is_busy=self._is_busy
        )
        self._recorder = recorder = Recorder(
            doors.spool, doors.clock, delivery.recorded
        )
        self._probes = Probes(config, doors, driver)
        self._checks = Checks(config, doors, driver.feed)
        self._presence = Presence(
            config,
            config_hash=config_hash,
            version=version,
            doors=doors,
            delivery=delivery,
            troubles=troubles,
            changed=self._tell_alive,
        )
        self._probes.last_resort = self._last_resort
        self._routes = Routes(
            config.devices,
            doors=doors,
            driver=driver,
            troubles=troubles,
            moved=self._moved,
        )
        self._resolver = (
            None
            if doors.resolver is None
            else Resolver(
                config.devices,
                config.lan.resolvers,
                door=doors.resolver,
                troubles=troubles,
            )
        )
        self._usages = Usages(
            config,
            doors=doors,
            driver=driver,
            troubles=troubles,
            spent=lambda name: self._probes.spent.of(name, self._clock.now()),
        )
        self._sampling = Sampling(
            config.devices,
            doors=doors,
            driver=driver,
            troubles=troubles,
            carried=self._usages.carried,
            links=lambda: self._routes.links,
            look=self._routes.look,
        )
        self._heartbeats = Heartbeats(
            config,
            doors=doors,
            driver=driver,
            probes=self._probes,
            recorder=recorder,
            sampling=self._sampling,
            usages=self._usages,
        )
        self._presence.on_connected = self._heartbeats.beat

    async def run(self, stop: asyncio.Event) -> None:
        """Guard the site until `stop`; raises the error of whatever part failed."""
        loop = asyncio.get_running_loop()
        synced = await self._routes.adopt()
        adopted = synced.adopted_active
        self._driver.begin(adopted)
        self._heartbeats.begin()
        self._usages.begin()
        reason = self._start_reason(adopted)
        self._decisions.lifecycle("started", reason)
        self._recorder.record(lambda s: report.lifecycle(s, "started", reason))
        self._routes.see(synced.links)
        self._presence.start()
        self._doors.ready(self._headline())
        work = [
            *self._routes.work(),
            *self._sampling.work(),
            *self._heartbeats.work(),
            *self._usages.work(),
            self._stay_alive(),
            *([] if self._resolver is None else [self._resolver.work()]),
        ]
        tasks = [loop.create_task(each) for each in work]
        stopper = loop.create_task(stop.wait())
        try:
            await asyncio.wait([*tasks, stopper], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._driver.stop()
            for task in (*tasks, stopper):
                task.cancel()
            ended = await asyncio.gather(*tasks, stopper, return_exceptions=True)
            await self._end()
        for outcome in ended:
            if isinstance(outcome, Exception):
                raise outcome

    async def _end(self) -> None:
        self._probes.close()
        self._checks.close()
        self._usages.close()
        self._heartbeats.close()
        # Before the goodbye, so that it still travels; the routes stay as they are.
        self._recorder.record(lambda s: report.lifecycle(s, "stopped", "asked to stop"))
        await self._presence.close()
        await self._decisions.close("asked to stop")
        if self._doors.journal is not None:
            self._doors.journal.close()

    def status(self) -> dict[str, Any]:
        """Return what the status socket answers."""
        now = self._clock.now()
        return snapshot.status(
            self._config,
            self._driver.state,
            self._routes.links,
            now,
            version=self._version,
            config_hash=self._config_hash,
            running_s=now - self._began,
            decisions=self._decisions.latest(),
            broker=self._presence.snapshot(),
            records={
                **self._delivery.snapshot(),
                "last_seq": self._recorder.last_seq,
                "dropped": self._doors.spool.dropped + self._recorder.unspooled,
            },
            clock_age_s=self._clock.age_s(),
            troubles=self._troubles.all(),
            **self._probes.echoes.snapshot(),
        )

    def _last_resort(self) -> SiteState | None:
        if self._presence.is_connected:
            return None
        return report.last_resort(
            self._config,
            self._driver.state,
            waiting=self._delivery.waiting,
            silent_s=self._presence.silent_s,
        )

    def quota(self) -> dict[str, Any]:
        """Return what the socket answers of the packages."""
        now = self._clock.now()
        return quota.answer(
            self._config,
            self._usages.snapshot(),
            {n: self._probes.spent.by_kind(n, now) for n in self._config.devices},
            running=True,
        )

    def reset_quota(self, uplink: str, used_bytes: int) -> dict[str, Any]:
        """Begin a new package's count; raises ConfigError, LedgerError."""
        self._usages.reset(uplink, used_bytes)
        _log.info("uplink %s: a new quota period, %d bytes used", uplink, used_bytes)
        return self.quota()

    def _start_reason(self, adopted: UplinkName | None) -> str:
        found = f"found {adopted} carrying the site" if adopted else "no uplink carried"
        return f"version {self._version}; {found}"

    def _headline(self) -> str:
        active = self._driver.state.active or "no uplink"
        link = "connected" if self._presence.is_connected else "not connected"
        return f"{self._config.site.id}: active {active}; broker {link}"

    def _carry_out(self, action: Action) -> None:
        match action:
            case SendProbe():
                self._probes.send(action)
            case SelectUplink():
                _log.warning(
                    "move rule=%s from=%s to=%s reason=%s",
                    action.rule,
                    action.previous,
                    action.uplink,
                    action.why,
                )
                self._decisions.decided(action, self._driver.state)
                self._routes.move(action)
            case ReportHealth():
                self._see_resolver()
                _log.warning(
                    "health uplink=%s %s->%s reason=%s",
                    action.uplink,
                    action.old.value,
                    action.new.value,
                    action.reason,
                )
                self._heartbeats.turned(action.uplink, action.new)
                told = link(self._decisions.record(action, self._driver.state))
                self._recorder.record(partial(report.health, action=action, told=told))
            case ReportTarget():
                _log.warning("target %s: %s", action.target, action.reason)
                told = link(self._decisions.record(action, self._driver.state))
                self._recorder.record(partial(report.target, action=action, told=told))
            case ReportCheck():
                self._see_resolver()
                _log.warning("check uplink=%s %s", action.uplink, action.reason)
                self._decisions.other(
                    "check", action.reason, uplink=action.uplink, target=action.target
                )
                self._recorder.record(partial(report.check, action=action))
            case ReportBusy():
                _log.info("busy uplink=%s %s", action.uplink, action.reason)
                self._decisions.other("busy", action.reason, uplink=action.uplink)
                self._recorder.record(partial(report.busy, action=action))
            case ReportThrift():
                _log.warning("thrift uplink=%s %s", action.uplink, action.reason)
                self._decisions.other("governor", action.reason, uplink=action.uplink)
                self._recorder.record(partial(report.thrift, action=action))
            case ReportGap():
                _log.info("gap uplink=%s gap_s=%.3f", action.uplink, action.gap_s)
                self._decisions.gap(action.uplink, action.gap_s)
                self._recorder.record(partial(report.gap, action=action))
            case SendCheck():
                self._checks.send(action)

    def _moved(self, action: SelectUplink, switched_s: float | None) -> None:
        if action.previous is not None:
            self._presence.reconnect_now(f"moved to {action.uplink}")
        # Or `systemctl status` names the old uplink until the watchdog's next turn.
        self._tell_alive()
        told = link(self._decisions.moved(action, switched_s))
        self._recorder.record(
            lambda s: report.decision(s, action, switched_s, told=told)
        )

    def _is_busy(self) -> bool:
        active = self._driver.state.active
        return active is not None and self._driver.state.of(active).busy

    def _see_resolver(self) -> None:
        if self._resolver is not None:
            self._resolver.see(self._driver.state)

    async def _stay_alive(self) -> None:
        every_s = self._doors.alive_every_s
        while True:
            await asyncio.sleep(RECONCILE_S if every_s is None else every_s / 2)
            self._tell_alive()

    def _tell_alive(self) -> None:
        try:
            self._doors.alive(self._headline())
        except NotifyError as error:
            # Systemd kills us if this lasts; dying of one full socket is worse.
            self._troubles.tell("service manager", str(error))
        else:
            self._troubles.over("service manager")
