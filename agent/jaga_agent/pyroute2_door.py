"""The door to pyroute2: the three names we use of it, without the rest in memory.

`pyroute2/__init__.py` imports all of the library: a database of the network, 9P, four
dozen protocols; 4 MiB and 60 modules more than our two sockets need. So its package is
put in place here without running that file; its submodules are then found as ever.
Should anybody ask the package for one of its own names, the file is run at that moment
(PEP 562), and pyroute2 is what it always was. docs/decisions/pyroute2-in-part.md
"""

from __future__ import annotations

import importlib.util
import sys
from importlib import import_module
from typing import Any

_PACKAGE = "pyroute2"


def _defer() -> None:
    """Put the package in place, unless it is already there or not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    if _PACKAGE in sys.modules or spec is None or spec.loader is None:
        return
    package, loader = importlib.util.module_from_spec(spec), spec.loader

    def missing(name: str) -> Any:
        if name.startswith("__"):
            msg = f"module {_PACKAGE!r} has no attribute {name!r}"
            raise AttributeError(msg)
        if importlib.util.find_spec(f"{_PACKAGE}.{name}") is not None:
            return import_module(f"{_PACKAGE}.{name}")
        del package.__getattr__
        loader.exec_module(package)
        return getattr(package, name)

    package.__getattr__ = missing  # type: ignore[method-assign] # PEP 562
    sys.modules[_PACKAGE] = package


_defer()

# After it, for these imports are what it is for.
from pyroute2.conntrack import AsyncConntrack  # noqa: E402
from pyroute2.iproute import AsyncIPRoute  # noqa: E402
from pyroute2.netlink import rtnl  # noqa: E402
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted  # noqa: E402
from pyroute2.netlink.exceptions import NetlinkError as KernelRefusal  # noqa: E402

__all__ = [
    "AsyncConntrack",
    "AsyncIPRoute",
    "KernelRefusal",
    "NetlinkDumpInterrupted",
    "rtnl",
]
