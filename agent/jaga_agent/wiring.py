"""`jaga-agent run`: builds the adapters, joins them to the agent, and runs it.

The only place that knows which class stands behind which port.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jaga_agent import __version__, quota
from jaga_agent import config as config_module
from jaga_agent.adapters.chain import Chain
from jaga_agent.adapters.checks import UplinkChecker
from jaga_agent.adapters.clock import BoottimeClock
from jaga_agent.adapters.conntrack import NetlinkConntrack
from jaga_agent.adapters.control import StatusServer
from jaga_agent.adapters.devices import SysDevices
from jaga_agent.adapters.evidence import EvidenceFiles
from jaga_agent.adapters.firewall import NftFirewall
from jaga_agent.adapters.flow_counters import NftFlowCounters
from jaga_agent.adapters.host import PsutilHost
from jaga_agent.adapters.icmp import IcmpProber
from jaga_agent.adapters.journal import Journal
from jaga_agent.adapters.ledger import FILE_NAME, FileLedger
from jaga_agent.adapters.mqtt import MqttBroker, Settings, tls_context
from jaga_agent.adapters.netlink import NetlinkKernel
from jaga_agent.adapters.resolver import Dnsmasq
from jaga_agent.adapters.spool import SqliteSpool
from jaga_agent.adapters.sysctl import ProcSettings
from jaga_agent.adapters.udp_echo import UdpEchoProber
from jaga_agent.core.model import UplinkName
from jaga_agent.core.routes import RoutedUplink, RoutingConfig
from jaga_agent.errors import AdapterError, ChainError, PermissionMissingError
from jaga_agent.reconcile import Reconciler
from jaga_agent.runtime.agent import Agent
from jaga_agent.runtime.doors import Doors
from jaga_agent.sd_notify import NotifyError, ServiceNotifier
from jaga_agent.wire.topics import TO_SITE, Topic

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaga_agent.config import Config
    from jaga_agent.ports import Clock, EchoListener, Prober
    from jaga_agent.runtime.doors import MakeEchoProber
    from jaga_agent.wire.echo import SiteState

_log = logging.getLogger(__name__)

DEFAULT_PORT_TLS: Final = 8883
DEFAULT_PORT: Final = 1883
STARTING: Final = {"error": "starting; ask again in a second"}
CAP_NET_ADMIN: Final = 12
"""Bit number, capability.h."""


def run(path: Path, *, verbose: bool) -> int:
    """Guard the site until SIGTERM or SIGINT; raises JagaError."""
    config, config_hash = config_module.load(path)
    _require_net_admin()
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(levelname)s %(name)s %(message)s",
    )
    if verbose:
        logging.getLogger("jaga_agent").setLevel(logging.DEBUG)
    try:
        asyncio.run(_run(config, config_hash))
    except NotifyError as error:
        raise AdapterError(str(error)) from error
    return 0


async def _run(config: Config, config_hash: str) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        notifier = ServiceNotifier()
        stack.callback(notifier.close)
        clock = BoottimeClock()
        directory = Path(config.state.directory)
        agent: Agent | None = None
        # First: it refuses a second agent before anything of the first is touched.
        server = StatusServer(
            Path(config.state.socket),
            {
                "status": lambda: agent.status() if agent else STARTING,
                quota.ANSWER: lambda: agent.quota() if agent else STARTING,
            },
            {
                quota.RESET: lambda uplink, used_bytes: (
                    agent.reset_quota(uplink, used_bytes) if agent else STARTING
                )
            },
        )
        await server.start()
        stack.push_async_callback(server.close)
        spool = SqliteSpool(
            directory / "spool.sqlite3",
            # The file is up to twice its payloads.
            max_bytes=config.state.spool_mb * 1024 * 1024 // 2,
        )
        stack.callback(spool.close)
        kernel = await stack.enter_async_context(NetlinkKernel())
        devices = SysDevices(config.devices.values())
        stack.callback(devices.close)
        flow_counters = NftFlowCounters(routing(config))
        stack.callback(flow_counters.close)
        agent = Agent(
            config,
            config_hash=config_hash,
            version=__version__,
            doors=Doors(
                clock=clock,
                host=PsutilHost(clock, directory),
                devices=devices,
                flow_counters=flow_counters,
                ledger=FileLedger(directory / FILE_NAME),
                spool=spool,
                kernel=kernel,
                reconciler=Reconciler(
                    routing(config),
                    kernel=kernel,
                    conntrack=NetlinkConntrack(),
                    firewall=NftFirewall(),
                    settings=ProcSettings(),
                    clock=clock,
                ),
                make_prober=lambda listener: IcmpProber(listener, clock),
                make_checker=lambda listener: UplinkChecker(
                    listener, clock, config.resolvers
                ),
                make_echo_prober=echo_prober(config, clock),
                make_broker=lambda listener, will: MqttBroker(
                    broker_settings(config), listener, will
                ),
                journal=Journal(
                    Path(config.state.journal) if config.state.journal else None
                ),
                chain=_chain(stack, directory, boot=spool.boot.hex()),
                evidence=EvidenceFiles(directory),
                ready=notifier.ready,
                alive=notifier.watchdog,
                alive_every_s=notifier.watchdog_s,
                resolver=Dnsmasq(Path(config.state.dns_directory))
                if config.serves_dns
                else None,
            ),
        )
        # What lives till the end is no garbage: a full collection over it stops the loop
        # for 70 ms on a PC, some 0.3 s on a Pi, longer than a verdict's timeout.
        gc.collect()
        gc.freeze()
        await agent.run(stop)
        try:
            notifier.stopping()
        except NotifyError as error:
            _log.warning("%s", error)


def _chain(stack: AsyncExitStack, directory: Path, *, boot: str) -> Chain | None:
    """Return the decision chain; None, and told, if the card will not have it."""
    try:
        chain = Chain(directory, boot=boot)
    except ChainError as error:
        _log.error("%s; decisions are not kept", error)
        return None
    stack.callback(chain.close)
    return chain


def routing(config: Config) -> RoutingConfig:
    """Return the routing layout's view of the configuration.

    Tables and marks go by the uplinks' places in the file: changing a preference must
    not renumber a running site.
    """
    return RoutingConfig(
        tuple(
            RoutedUplink(
                UplinkName(uplink.name),
                uplink.device,
                index,
                config.preference_of(uplink),
                uplink.mtu,
            )
            for index, uplink in enumerate(config.uplink, 1)
        ),
        config.lan.devices,
        refuse_ipv6=config.lan.ipv6 == "refuse",
    )


def echo_prober(config: Config, clock: Clock) -> MakeEchoProber | None:
    """Return how to make the udp-echo prober; raises ConfigError about its key."""
    if config.echo is None:
        return None
    key = config_module.echo_key(Path(config.echo.key_file))
    places = {u.device: place for place, u in enumerate(config.by_preference)}

    def make(listener: EchoListener, state: Callable[[], SiteState | None]) -> Prober:
        return UdpEchoProber(
            listener, clock, site=config.site.id, key=key, places=places, state=state
        )

    return make


def broker_settings(config: Config) -> Settings:
    """Return how to reach the broker; raises BrokerError naming a file at fault."""
    mqtt = config.mqtt
    tls = None
    if mqtt.tls and mqtt.ca is not None:
        tls = tls_context(
            Path(mqtt.ca),
            Path(mqtt.cert) if mqtt.cert else None,
            Path(mqtt.key) if mqtt.key else None,
        )
    return Settings(
        host=mqtt.host,
        port=mqtt.port or (DEFAULT_PORT_TLS if mqtt.tls else DEFAULT_PORT),
        client_id=config.site.id,
        tls=tls,
        username=mqtt.username,
        password=mqtt.password,
        keepalive_s=config.keepalive_s,
        subscriptions=tuple(
            str(Topic(config.site.region, config.site.id, leaf)) for leaf in TO_SITE
        ),
    )


def _require_net_admin() -> None:
    """Fail with one clear line, rather than with each refusal of the kernel."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff" and int(value, 16) >> CAP_NET_ADMIN & 1:
            return
    msg = (
        "no permission to change routes (CAP_NET_ADMIN); "
        "use sudo, or start it with: sudo systemctl start jaga-agent"
    )
    raise PermissionMissingError(msg)
