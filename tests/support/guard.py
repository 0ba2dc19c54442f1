"""The real agent in a lab's Pi, and nothing else: no broker answers, no collector."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from demo.stage import agent_config
from lab.namespace import end
from support.places import ROOT
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab import Lab

BIN = Path(sys.executable).parent
SITE = "tps-6408041010-002"


class Guard:
    """`jaga-agent run` in the Pi. Use as a context."""

    def __init__(
        self,
        lab: Lab,
        lan: str = "dns = false\n",
        *,
        dns_directory: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`environ` comes on top of ours."""
        self._home = lab.directory / "agent"
        self._home.mkdir()
        config = self._home / "agent.toml"
        text = agent_config(SITE, self._home, (2, 4))
        text = text.replace("dns = false\n", lan)
        if dns_directory is not None:
            text += f'dns_directory = "{dns_directory}"\n'
        config.write_text(text)
        with (lab.directory / "agent.log").open("wb") as log:
            self.process = lab.pi.popen(
                [str(BIN / "jaga-agent"), "run", "--config", str(config)],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, **(environ or {})},
            )

    def __enter__(self) -> Self:
        until(self.status, "the agent answers", 30)
        return self

    def __exit__(self, *_: object) -> None:
        end([self.process], 8)

    def status(self) -> dict[str, Any]:
        """Return what `jaga-agent status --json` says; empty: it does not answer yet."""
        socket = self._home / "agent.sock"
        answer = subprocess.run(
            [BIN / "jaga-agent", "status", "--json", "--socket", socket],
            capture_output=True,
            check=False,
            timeout=10,
        )
        return dict(json.loads(answer.stdout)) if answer.returncode == 0 else {}

    @property
    def active(self) -> str | None:
        """Which uplink carries the site."""
        return self.status().get("active")

    def log(self) -> str:
        """Return what it said."""
        return (self._home.parent / "agent.log").read_text(errors="replace")
