"""Whom certificates are for, and how each is called. Pure.

The common name is the account at the broker (`use_identity_as_username`), so no name of
one kind may be taken for one of another kind.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from jaga_agent.wire.topics import SITE_PATTERN
from jaga_deploy.errors import RefusedError

HOST_PATTERN: Final = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
"""RFC 1123, 2.1."""
COMMON_NAME_MAX: Final = 64
"""ub-common-name, RFC 5280, appendix A.1."""


class Kind(StrEnum):
    """What a certificate lets its holder be; also its organisational unit."""

    BROKER = "broker"
    COLLECTOR = "collector"
    OPERATOR = "operator"
    SITE = "site"


@dataclass(frozen=True, slots=True)
class Subject:
    """One holder of certificates."""

    kind: Kind
    name: str
    """The common name."""
    label: str
    """As the operator calls it: an operator's name without `operator-`."""
    hosts: tuple[str, ...] = ()
    """A broker's names and addresses."""

    @property
    def folder(self) -> str:
        """Where its files are, in the CA's folder."""
        return f"{self.kind}s/{self.label}"

    @property
    def stem(self) -> str:
        """How its certificate and key are called there, without the suffix."""
        return "server" if self.kind is Kind.BROKER else str(self.kind)

    def __str__(self) -> str:
        return f"{self.kind} {self.label}"


def site(name: str) -> Subject:
    """Return the subject of a site; raises RefusedError for a name that is none."""
    if not SITE_PATTERN.fullmatch(name):
        msg = (
            f"{name!r} is no site id: use small letters, digits and dashes, e.g."
            " tps-6408052001-901"
        )
        raise RefusedError(msg)
    for kind in (Kind.COLLECTOR, Kind.OPERATOR, Kind.BROKER):
        if name == kind or name.startswith(f"{kind}-"):
            msg = f"{name!r} cannot be a site id: it would be a {kind}'s account"
            raise RefusedError(msg)
    return Subject(Kind.SITE, name, name)


def operator(name: str) -> Subject:
    """Return the subject of a person who commands the sites."""
    return Subject(Kind.OPERATOR, f"operator-{_plain(name, 'operator')}", name)


def collector(name: str | None = None) -> Subject:
    """Return the subject of the collector; `name` tells one of several."""
    if name is None:
        return Subject(Kind.COLLECTOR, "collector", "collector")
    return Subject(Kind.COLLECTOR, f"collector-{_plain(name, 'collector')}", name)


def broker(hosts: tuple[str, ...]) -> Subject:
    """Return the subject of a broker that is reached by these names and addresses."""
    for host in hosts:
        if not is_address(host) and not HOST_PATTERN.fullmatch(host):
            msg = f"{host!r} is neither a host name nor an IP address"
            raise RefusedError(msg)
    if len(hosts[0]) > COMMON_NAME_MAX:
        msg = (
            f"{hosts[0]!r} is longer than {COMMON_NAME_MAX} characters: give a shorter"
            " name first, this one after it"
        )
        raise RefusedError(msg)
    return Subject(Kind.BROKER, hosts[0], hosts[0], tuple(dict.fromkeys(hosts)))


def is_address(host: str) -> bool:
    """Tell an IP address from a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _plain(name: str, what: str) -> str:
    if not SITE_PATTERN.fullmatch(name) or len(name) > COMMON_NAME_MAX - 10:
        msg = (
            f"{name!r} cannot be an {what}'s name: use up to 54 small letters, digits"
            " and dashes, e.g. ani"
        )
        raise RefusedError(msg)
    return name
