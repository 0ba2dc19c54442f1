"""`jaga-deploy broker config`: the folder that a broker is set up from."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Final

from jaga_deploy.adapters import folder
from jaga_deploy.core import mosquitto
from jaga_deploy.errors import FolderError, RefusedError

if TYPE_CHECKING:
    from pathlib import Path

    from jaga_deploy.authority import Authority
    from jaga_deploy.core.subjects import Subject

CONF: Final = "jaga.conf"
RIGHTS: Final = "jaga.acl"
DROP_IN: Final = "jaga-broker.conf"
UNSAID: Final = (
    r"^[0-9T:-]+: (Received|Sending) (PUBLISH|PUB[A-Z]+|PING[A-Z]+|SUB[A-Z]+|UNSUB[A-Z]+"
    r"|CONNACK|DISCONNECT) |^[0-9T:-]+: No will message|^[0-9T:-]+: \s.* \(QoS [012]\)"
)
"""Lines of the debug log that tell of a message or repeat another line (grep -E)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the broker will find its files, and where it listens."""

    at: str
    """The folder on the broker's machine."""
    state: str
    """Where it keeps sessions and retained messages."""
    user: str
    region: str
    port: int
    address: str | None = None
    """None: every one of the machine."""


def write(
    authority: Authority, out: Path, place: Place, host: Subject | None, now_s: int
) -> tuple[str, ...]:
    """Write or renew the folder `out`; return the names of its files.

    Raises RefusedError if the ledger has no broker, FolderError if `out` cannot be
    written.
    """
    files = authority.broker_files(host, now_s)
    ledger = authority.standing().ledger
    files[RIGHTS] = mosquitto.rights(
        _template(RIGHTS),
        region=place.region,
        collectors=ledger.collectors(now_s),
        operators=ledger.operators(now_s),
        shut_out=ledger.shut_out(now_s),
    ).encode()
    for value in (place.at, place.state, place.user, place.address or ""):
        if any(letter in value for letter in "\n\r\"'$"):
            msg = f"{value!r} cannot stand in the broker's configuration: name another"
            raise RefusedError(msg)
    files[CONF] = mosquitto.fill(
        _template(CONF),
        {
            "PORT": place.port,
            "ADDRESS": f" {place.address}" if place.address else "",
            "AT": place.at,
            "STATE": place.state,
            "USER": place.user,
        },
    ).encode()
    # In a unit's ExecStart "%" and "$" mean something; the pattern has neither.
    files[DROP_IN] = mosquitto.fill(
        _template(DROP_IN), {"AT": place.at, "UNSAID": UNSAID.replace("\\", "\\\\")}
    ).encode()
    try:
        out.mkdir(parents=True, exist_ok=True)
        # The configuration last: what it names is there when it is.
        for name in sorted(files, key=lambda each: (each == CONF, each)):
            folder.write(out / name, files[name])
    except OSError as error:
        msg = f"{error.filename or out}: {error.strerror}; write to another folder"
        raise FolderError(msg) from error
    return tuple(sorted(files))


def _template(name: str) -> str:
    return (resources.files("jaga_deploy") / "mosquitto" / name).read_text("utf-8")
