"""A real Mosquitto in the lab's internet, reachable from the machine by a Unix socket.

The TCP listener is inside the lab (203.0.113.80:1883); collector and publishers that
run outside use the socket (paho: `transport="unix"`). Same broker, same sessions.
"""

from __future__ import annotations

import contextlib
import pwd
import shutil
import socket
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.clock import boottime_s
from lab.errors import LabError
from lab.namespace import Namespace, end, require
from lab.topology import BROKER, BROKER_PORT

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_CONFIG = """\
# The lab's own: no TLS, no passwords; nothing outside the lab reaches it.
persistence false
allow_anonymous true
max_queued_messages 100000
listener @PORT@ @ADDRESS@
listener 0 @SOCKET@
"""


@dataclass(slots=True)
class Broker:
    """A running Mosquitto."""

    process: subprocess.Popen[bytes]
    directory: Path
    socket_path: Path
    log_path: Path
    host: str = BROKER
    port: int = BROKER_PORT

    def log(self) -> str:
        """Return what the broker has said so far."""
        return self.log_path.read_text(errors="replace")

    def stop(self) -> None:
        """End it. Repeatable."""
        end([self.process])


def start(internet: Namespace, directory: Path, config: str | None) -> Broker:
    """Start Mosquitto; it accepts connections on both listeners on return.

    In `config` these are filled in: @ADDRESS@, @PORT@, @SOCKET@, @DIRECTORY@ (its own,
    kept between starts in one lab, gone with the lab). None: `DEFAULT_CONFIG`.
    """
    require("mosquitto")
    directory.mkdir(exist_ok=True)
    socket_path = directory / "mosquitto.sock"
    text = config or DEFAULT_CONFIG
    for placeholder, value in (
        ("@ADDRESS@", BROKER),
        ("@PORT@", str(BROKER_PORT)),
        ("@SOCKET@", str(socket_path)),
        ("@DIRECTORY@", str(directory)),
    ):
        text = text.replace(placeholder, value)
    path = directory / "mosquitto.conf"
    path.write_text(text)
    _give_to_mosquitto(directory)
    socket_path.unlink(missing_ok=True)
    log_path = directory / "mosquitto.log"
    with log_path.open("ab") as log:
        process = internet.popen(
            ["mosquitto", "-c", str(path)], stdout=log, stderr=subprocess.STDOUT
        )
    broker = Broker(process, directory, socket_path, log_path)
    deadline_s = boottime_s() + 10
    while not _accepts(socket_path):
        if process.poll() is not None or boottime_s() > deadline_s:
            last = " | ".join(broker.log().strip().splitlines()[-3:])
            broker.stop()
            msg = f"mosquitto does not accept on {socket_path}: {last}"
            raise LabError(msg)
        # The socket's birth is no event for us; the process's end is.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.01)
    return broker


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def _give_to_mosquitto(directory: Path) -> None:
    # Started by root it becomes this user unless its configuration says otherwise.
    try:
        pwd.getpwnam("mosquitto")
    except KeyError:
        return
    for path in (directory, *directory.iterdir()):
        shutil.chown(path, "mosquitto", "mosquitto")
