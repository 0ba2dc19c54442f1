"""A real Mosquitto: in the lab's internet, or on this machine's loopback.

The one way to start one for demo, lab, tests and benchmark, with the configuration of
`deploy/mosquitto/jaga-lab.conf`. Besides TCP it listens on a Unix socket, by which
those outside the lab reach the broker inside. It knows nothing of topics or messages.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lab.clock import boottime_s
from lab.errors import LabError
from lab.namespace import end, popen, require_programs
from support.ports import free_port

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable

TEMPLATE = Path(__file__).parents[2] / "deploy" / "mosquitto" / "jaga-lab.conf"
START_WITHIN_S = 10.0
RUNNING = " running\n"


class Broker:
    """One Mosquitto with a directory of its own; `with` starts and ends it."""

    def __init__(
        self,
        directory: Path,
        *,
        address: str = "127.0.0.1",
        port: int | None = None,
        config: str | None = None,
        options: str = "",
        start: Callable[..., subprocess.Popen[Any]] = popen,
    ) -> None:
        """Keep its state and log in `directory`, from one start to the next.

        Its path must be short: a Unix socket's is 107 bytes at most. `port` None: any
        free one of loopback. `config` None: the template; in it @ADDRESS@, @PORT@,
        @SOCKET@, @DIRECTORY@ and @USER@ are filled in. One without @SOCKET@ must log
        notices.
        `options` are lines added at its end. `start` runs a program, e.g. elsewhere.
        """
        self.address = address
        self.port = port or free_port()
        self.directory = directory
        self.socket_path = directory / "mqtt.sock"
        self.process: subprocess.Popen[Any] | None = None
        self._log_path = directory / "mosquitto.log"
        self._template = (config or TEMPLATE.read_text("utf-8")) + options
        self._start = start

    def start(self) -> Self:
        """Start it; it accepts on both listeners on return; raises LabError."""
        require_programs("mosquitto")
        self.directory.mkdir(exist_ok=True)
        text = self._template
        for name, value in {
            "ADDRESS": self.address,
            "PORT": self.port,
            "SOCKET": self.socket_path,
            "DIRECTORY": self.directory,
            # Started by root it would become one who may not enter the directory.
            "USER": pwd.getpwuid(os.geteuid()).pw_name,
        }.items():
            text = text.replace(f"@{name}@", str(value))
        path = self.directory / "mosquitto.conf"
        path.write_text(text)
        self.socket_path.unlink(missing_ok=True)
        starts = self.log().count(RUNNING) if self._log_path.exists() else 0
        with self._log_path.open("ab") as log:
            process = self._start(
                ["mosquitto", "-c", str(path)], stdout=log, stderr=subprocess.STDOUT
            )
        self.process = process
        deadline_s = boottime_s() + START_WITHIN_S
        while not self._accepts(starts):
            if process.poll() is not None or boottime_s() > deadline_s:
                self.stop()
                last = " | ".join(self.log().strip().splitlines()[-3:])
                msg = f"mosquitto does not accept connections: {last}"
                raise LabError(msg)
            # The socket's birth is no event for us; the process's end is.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.01)
        return self

    def log(self) -> str:
        """Return what it has said so far, in all its starts."""
        return self._log_path.read_text(errors="replace")

    def stop(self, how: signal.Signals | None = None) -> None:
        """End it, by SIGTERM (it saves its state) unless told otherwise. Repeatable."""
        if self.process is None:
            return
        if how is not None and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait()
        end([self.process])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _accepts(self, starts: int) -> bool:
        if "@SOCKET@" not in self._template:
            # A TLS port, or one in another namespace: it says so when it listens.
            return self.log().count(RUNNING) > starts
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(str(self.socket_path)) == 0
