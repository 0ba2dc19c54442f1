"""The lab: a polling site in network namespaces, for tests, demo and benchmark.

    phone → Pi → three modems → carrier NAT → internet

    with Lab.create() as lab:
        phone = lab.phone.start()
        effect = lab.uplinks["telkomsel"].blackhole()

Needs root, iproute2, nftables and TUN. Nothing of it is shipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.analysis import Gap, PhoneLog, Summary
    from lab.broker import Broker
    from lab.clock import boottime_s
    from lab.errors import LabError
    from lab.faults import Effect, Uplink
    from lab.measure import Measurement
    from lab.namespace import Namespace
    from lab.site import Lab
    from lab.topology import UPLINKS, UplinkPlan
    from lab.wire import Shape

_HOMES = {
    "Broker": "broker",
    "Effect": "faults",
    "Gap": "analysis",
    "Lab": "site",
    "LabError": "errors",
    "Measurement": "measure",
    "Namespace": "namespace",
    "PhoneLog": "analysis",
    "Shape": "wire",
    "Summary": "analysis",
    "UPLINKS": "topology",
    "Uplink": "faults",
    "UplinkPlan": "topology",
    "boottime_s": "clock",
}

__all__ = [
    "UPLINKS",
    "Broker",
    "Effect",
    "Gap",
    "Lab",
    "LabError",
    "Measurement",
    "Namespace",
    "PhoneLog",
    "Shape",
    "Summary",
    "Uplink",
    "UplinkPlan",
    "boottime_s",
]


def __getattr__(name: str) -> Any:
    # Imported at first use: the relay and the phone start twice as fast without
    # everything else (PEP 562).
    import importlib

    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
