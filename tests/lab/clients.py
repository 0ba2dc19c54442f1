"""Who gives the Pi's uplinks their addresses: real DHCP servers and real clients.

A modem's server is dnsmasq. The client is NetworkManager or dhcpcd, unpacked by set-up
and never installed: each runs in the Pi's namespace with /run and /var/lib of its own,
a message bus of its own, and no part of the machine's.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

from lab.errors import LabError
from lab.namespace import TESTS, end, find

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.namespace import Namespace
    from lab.site import Lab
    from lab.topology import UplinkPlan

UNPACKED = TESTS.parent / ".stamps" / "dhcp-clients"
"""Debian's packages, unpacked by scripts/setup.sh."""
SHIPPED = TESTS.parent / "deploy" / "networkmanager"
RENEW_S = 3
REBIND_S = 6
"""DHCP's T1 and T2 (RFC 2131, 4.4.5): when a client asks its server for the lease again,
and when it asks any server."""

PRIVATE = """
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /var/lib
mount -o remount,bind,ro /sys
"""
"""In the mount namespace that `ip netns exec` made. A read-only /sys tells
NetworkManager that there is no udev to wait for, as in a container."""

PRIVATE_USER = """
mkdir /run/dhcpcd /var/lib/dhcpcd
cp /etc/passwd /run/passwd
echo dhcpcd:x:65533:65534::/run/dhcpcd:/usr/sbin/nologin >>/run/passwd
mount --bind /run/passwd /etc/passwd
"""
"""dhcpcd's package makes a user to drop privileges to; it chroots into."""

BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
 <type>system</type>
 <listen>unix:path={socket}</listen>
 <auth>EXTERNAL</auth>
 <policy context="default">
  <allow user="*"/><allow own="*"/><allow send_type="*"/>
  <allow send_destination="*"/><allow receive_type="*"/>
 </policy>
</busconfig>
"""


def unpacked(program: str) -> str:
    """Return the path of an unpacked program; LabError says how to get it."""
    for folder in ("usr/sbin", "usr/bin", "sbin", "bin"):
        path = UNPACKED / folder / program
        if path.exists():
            return str(path)
    # What this system has is not unpacked again.
    if found := find(program):
        return found
    msg = f"{program} is neither installed nor in {UNPACKED}: run make setup"
    raise LabError(msg)


def _environment() -> dict[str, str]:
    libraries = ":".join(
        str(path)
        for folder in ("usr/lib", "lib")
        for path in (UNPACKED / folder).glob("*-linux-gnu*")
    )
    return os.environ | {"LD_LIBRARY_PATH": libraries}


class Lease:
    """A modem's DHCP server, with one address to give."""

    def __init__(self, lab: Lab, plan: UplinkPlan) -> None:
        self._directory = lab.directory
        self._modem = lab.modems[plan.modem]
        self._role = plan.modem
        self._process: subprocess.Popen[Any] | None = None
        self.give(plan.address, plan.gateway)

    def give(self, address: str, gateway: str) -> None:
        """Give this address from now on; a client that has another is refused it."""
        if self._process is not None:
            end([self._process])
        self._process = self._modem.popen(
            [
                find("dnsmasq") or "dnsmasq",
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--pid-file=",
                "--user=root",
                "--port=0",
                "--interface=lan0",
                "--bind-dynamic",
                "--dhcp-authoritative",
                "--no-ping",
                f"--dhcp-range={address},{address},2m",
                f"--dhcp-option=option:router,{gateway}",
                f"--dhcp-option=option:T1,{RENEW_S}",
                f"--dhcp-option=option:T2,{REBIND_S}",
                f"--dhcp-leasefile={self._directory / (self._role + '.leases')}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


class NetworkManager:
    """NetworkManager with the shipped configuration, on the Pi's uplinks."""

    def __init__(self, lab: Lab, changes: Mapping[str, str] | None = None) -> None:
        """`changes` are lines of the shipped profile and what stands there instead."""
        self._pi = lab.pi
        home = self._home = lab.directory / "networkmanager"
        (home / "connections").mkdir(parents=True)
        for plan in lab.plans:
            text = (SHIPPED / "jaga-wan.nmconnection").read_text()
            for old, new in (changes or {}).items():
                if old not in text:
                    msg = f"the shipped profile has no {old!r}"
                    raise LabError(msg)
                text = text.replace(old, new)
            profile = home / "connections" / f"jaga-{plan.device}.nmconnection"
            profile.write_text(text.replace("@DEVICE@", plan.device))
            profile.chmod(0o600)
        bus = home / "bus.conf"
        bus.write_text(BUS.format(socket=home / "bus"))
        config = home / "NetworkManager.conf"
        config.write_text(
            f"{(SHIPPED / 'jaga.conf').read_text()}path={home / 'connections'}\n"
            "[main]\nplugins=keyfile\nauth-polkit=false\ndhcp=internal\n"
            "hostname-mode=none\n"
        )
        self._environment = _environment() | {
            "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={home / 'bus'}"
        }
        script = (
            f"{PRIVATE}{unpacked('dbus-daemon')} --config-file={bus} --nofork --nopidfile &\n"
            f"while ! test -S {home / 'bus'}; do sleep 0.02; done\n"
            'exec "$@"'
        )
        log = (home / "log").open("wb")
        self.process = self._pi.popen(
            [
                "sh",
                "-c",
                script,
                "sh",
                unpacked("NetworkManager"),
                "--debug",
                f"--config={config}",
                f"--config-dir={home / 'none'}",
                f"--system-config-dir={home / 'none'}",
                f"--intern-config={home / 'intern.conf'}",
                f"--state-file={home / 'state'}",
                f"--pid-file={home / 'pid'}",
                "--log-level=INFO",
            ],
            env=self._environment,
            stdout=log,
            stderr=log,
        )
        log.close()

    def nmcli(self, *words: str) -> str:
        """Run nmcli; LabError with its words if it refuses."""
        done = self._pi.run(
            [unpacked("nmcli"), "--wait", "20", *words], env=self._environment
        )
        if done.returncode:
            msg = (
                f"nmcli {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}"
            )
            raise LabError(msg)
        return str(done.stdout)

    def state(self, device: str) -> str:
        """Return a device's state as a word, e.g. "connected"; "" before it answers."""
        try:
            listed = self.nmcli("-t", "-f", "DEVICE,STATE", "device")
        except LabError:
            return ""
        states = dict(line.split(":", 1) for line in listed.splitlines())
        return states.get(device, "")

    def log(self) -> str:
        return (self._home / "log").read_text(errors="replace")

    def stop(self) -> None:
        """End it, its bus too. What it configured stays, as after its package's update."""
        end([self.process])


class Dhcpcd:
    """dhcpcd on the Pi's uplinks, or on another namespace's devices.

    Its hooks (resolv.conf, hostname) are left out; `heard` is what they would be told.
    """

    def __init__(
        self, lab: Lab, space: Namespace | None = None, devices: Sequence[str] = ()
    ) -> None:
        home = self._home = lab.directory / "dhcpcd"
        home.mkdir()
        names = " ".join(devices or [plan.device for plan in lab.plans])
        config = home / "dhcpcd.conf"
        config.write_text(
            "nodev\nduid\nnoipv6\nnoipv6rs\nnoipv4ll\nnoarp\n"
            "option domain_name_servers, routers\n"
            f"allowinterfaces {names}\n"
        )
        hook = home / "hook"
        hook.write_text(
            '#!/bin/sh\necho "$reason $interface dns=$new_domain_name_servers'
            f' router=$new_routers" >>{home / "heard"}\n'
        )
        hook.chmod(0o755)
        with (home / "log").open("wb") as log:
            self.process = (space or lab.pi).popen(
                [
                    "sh",
                    "-c",
                    f'{PRIVATE}{PRIVATE_USER}exec "$@"',
                    "sh",
                    unpacked("dhcpcd"),
                    "--nobackground",
                    "--persistent",
                    f"--config={config}",
                    f"--script={hook}",
                ],
                env=_environment(),
                stdout=log,
                stderr=log,
            )

    def heard(self) -> list[str]:
        """Return what its hook was told so far, a line each."""
        path = self._home / "heard"
        return path.read_text().splitlines() if path.exists() else []

    def log(self) -> str:
        return (self._home / "log").read_text(errors="replace")

    def stop(self) -> None:
        """End it; what it configured stays (`--persistent`)."""
        end([self.process])


def no_client(pi: Namespace, devices: list[str]) -> None:
    """Take the addresses and routes that the lab gave, before a client gives others."""
    pi.ip(*(f"address flush dev {device}" for device in devices))
