"""The LAN's resolver, dnsmasq, by its servers file and SIGHUP. Decides nothing.

dnsmasq is a service of its own (systemd/jaga-dns.service): it outlives the agent, and
runs as the same user, so that the agent may signal it without any capability.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from jaga_agent.errors import ResolverError

SERVERS = "servers"
PID = "pid"
"""Files of the directory; deploy/dnsmasq/jaga-dns.conf names the same."""
_PROGRAM = "dnsmasq"


class Dnsmasq:
    """`ports.Resolver` on a dnsmasq whose files are in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._owed = False
        """The file is newer than what dnsmasq was told of."""

    def load(self, servers: str) -> bool:
        """Have dnsmasq use these lines; return whether it had to be told.

        Raises:
            ResolverError: the file cannot be written, or dnsmasq does not run (then it
                reads the file when it starts).

        """
        path = self._directory / SERVERS
        try:
            if not path.is_file() or path.read_text(encoding="ascii") != servers:
                draft = path.with_suffix(".new")
                draft.write_text(servers, encoding="ascii")
                draft.replace(path)
                self._owed = True
        except OSError as error:
            msg = (
                f"cannot write {path}: {error.strerror}; "
                "it is made by: sudo systemctl start jaga-dns"
            )
            raise ResolverError(msg) from error
        told = self._owed
        self._signal(signal.SIGHUP if told else 0)
        self._owed = False
        return told

    def _signal(self, number: int) -> None:
        """Signal dnsmasq; 0 only asks whether it is there."""
        try:
            pid = int((self._directory / PID).read_text(encoding="ascii"))
            process = os.pidfd_open(pid)
        except (OSError, ValueError) as error:
            raise _not_running() from error
        try:
            # A number from an old file may be anybody's by now, even our own.
            comm = Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip()
            if comm != _PROGRAM:
                raise _not_running()
            signal.pidfd_send_signal(process, number)
        except PermissionError as error:
            msg = (
                "cannot signal dnsmasq: it runs as another user; "
                "jaga-dns.service must have the agent's User="
            )
            raise ResolverError(msg) from error
        except OSError as error:
            raise _not_running() from error
        finally:
            os.close(process)


def _not_running() -> ResolverError:
    return ResolverError(
        "the LAN's resolver does not run: sudo systemctl start jaga-dns "
        "(or set lan.dns = false if this site has another)"
    )
