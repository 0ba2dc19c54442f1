"""The LAN's resolver on the Pi: dnsmasq with the configuration that is shipped.

Only its directories are others than on a Pi: the lab's own.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from lab.clock import boottime_s
from lab.errors import LabError
from lab.namespace import TESTS

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

SHIPPED = TESTS.parent / "deploy" / "dnsmasq" / "jaga-dns.conf"
START_S = 5.0


class Resolver:
    """A running dnsmasq; `servers` is the list that an agent keeps."""

    def __init__(
        self,
        directory: Path,
        start: Callable[[list[str]], subprocess.Popen[Any]],
        servers: str,
        extra: str = "",
    ) -> None:
        self.directory = directory
        self.servers = directory / "servers"
        drop_ins = directory / "dnsmasq.d"
        drop_ins.mkdir(parents=True)
        (drop_ins / "lab.conf").write_text(extra)
        self.servers.write_text(servers)
        config = directory / "dnsmasq.conf"
        config.write_text(
            SHIPPED.read_text()
            .replace("/run/jaga-dns", str(directory))
            .replace("/etc/jaga/dnsmasq.d", str(drop_ins))
        )
        self.process = start(["--keep-in-foreground", f"--conf-file={config}"])
        self._wait()

    def _wait(self) -> None:
        deadline_s = boottime_s() + START_S
        while not (self.directory / "pid").exists():
            if self.process.poll() is not None or boottime_s() > deadline_s:
                msg = f"dnsmasq did not start on the Pi ({self.process.poll()})"
                raise LabError(msg)
            select.select([], [], [], 0.02)
