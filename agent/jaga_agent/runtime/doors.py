"""The adapters the agent works through, as `wiring` hands them over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaga_agent.adapters.chain import Chain
    from jaga_agent.adapters.evidence import EvidenceFiles
    from jaga_agent.adapters.journal import Journal
    from jaga_agent.core.orders import Memory
    from jaga_agent.ports import (
        Broker,
        BrokerListener,
        Checker,
        CheckListener,
        Clock,
        Devices,
        EchoListener,
        FlowCounters,
        Host,
        Kept,
        Kernel,
        Ledger,
        Modems,
        ProbeListener,
        Prober,
        Resolver,
        Signer,
        Spool,
        Verify,
        Will,
    )
    from jaga_agent.reconcile import Reconciler
    from jaga_agent.runtime.proving import Proving
    from jaga_agent.runtime.timekeeper import Timekeeper
    from jaga_agent.runtime.warnings import Warnings
    from jaga_agent.wire.echo import SiteState

    MakeEchoProber = Callable[[EchoListener, Callable[[], SiteState | None]], Prober]


@dataclass(frozen=True, slots=True)
class Doors:
    """Each is made, and closed, by the one who wires them."""

    clock: Clock
    """The timekeeper, or a desk's."""
    timekeeper: Timekeeper
    host: Host
    devices: Devices
    flow_counters: FlowCounters
    ledger: Ledger
    spool: Spool
    kernel: Kernel
    reconciler: Reconciler
    make_prober: Callable[[ProbeListener], Prober]
    make_checker: Callable[[CheckListener], Checker]
    make_broker: Callable[[BrokerListener, Callable[[], Will]], Broker]
    journal: Journal | None
    chain: Chain | None
    """None: the card would not have it."""
    evidence: EvidenceFiles | None
    verify: Verify
    orders: Kept[Memory]
    modems: Modems
    proving: Proving
    warnings: Warnings
    ready: Callable[[str], None]
    alive: Callable[[str], None]
    alive_every_s: float | None
    """How often the service manager must hear that we live; None: never."""
    make_echo_prober: MakeEchoProber | None = None
    """None: no udp-echo target is configured."""
    resolver: Resolver | None = None
    """None: the LAN's DNS is somebody else's."""
    signer: Signer | None = None
    """None: no key is configured."""
