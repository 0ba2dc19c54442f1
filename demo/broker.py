"""A real Mosquitto for one machine, from the lab's configuration template.

Used by the demo and by tests. It fills in the template, starts the process, waits until
it answers and ends it again; it knows nothing of topics or messages.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TEMPLATE = Path(__file__).parent.parent / "deploy" / "mosquitto" / "jaga-lab.conf"
PLACEHOLDER = re.compile(r"@([A-Z]+)@")
START_WITHIN_S = 10.0
STOP_WITHIN_S = 10.0
POLL_S = 0.02


class BrokerStartError(Exception):
    """Mosquitto is not installed, or did not start; the message has its last words."""


def render(template: str, values: Mapping[str, object]) -> str:
    """Return the template with each `@NAME@` replaced; KeyError for an unknown name."""
    return PLACEHOLDER.sub(lambda match: str(values[match[1]]), template)


def free_port(address: str = "127.0.0.1") -> int:
    """Return a TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


class LabBroker:
    """One Mosquitto in a directory of its own; `with` starts and ends it."""

    def __init__(
        self,
        directory: Path,
        *,
        port: int,
        address: str = "127.0.0.1",
        prefix: Sequence[str] = (),
    ) -> None:
        """Keep its state in `directory`; `prefix` runs it elsewhere, e.g. in a netns.

        The directory's path must be short: a Unix socket's is 107 bytes at most.
        """
        self.address = address
        self.port = port
        self.socket = directory / "mqtt.sock"
        self.log = directory / "mosquitto.log"
        self._directory = directory
        self._prefix = tuple(prefix)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it answers; raises BrokerStartError."""
        # Debian puts it where a user's PATH may not look.
        search = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
        program = shutil.which("mosquitto", path=search)
        if program is None:
            message = "mosquitto is not installed: run `make setup`"
            raise BrokerStartError(message)
        configuration = self._directory / "mosquitto.conf"
        values = {
            "ADDRESS": self.address,
            "PORT": self.port,
            "SOCKET": self.socket,
            "DIRECTORY": self._directory,
            "USER": pwd.getpwuid(os.geteuid()).pw_name,
        }
        configuration.write_text(render(TEMPLATE.read_text(), values))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._prefix, program, "-c", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.clock_gettime(time.CLOCK_MONOTONIC) + START_WITHIN_S
        while not self._answers():
            ended = self._process.poll() is not None
            if ended or time.clock_gettime(time.CLOCK_MONOTONIC) > deadline:
                self.stop()
                words = self.log.read_text(errors="replace").splitlines()[-5:]
                message = "mosquitto did not start: " + " / ".join(words)
                raise BrokerStartError(message)
            time.sleep(POLL_S)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def stop(self) -> None:
        """End it (SIGTERM: it saves its state first); no error if it is not running."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
