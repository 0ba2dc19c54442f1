"""`jaga-collector command`: an operator's orders to sites, and what they answer.

Runs where the operator's key is, which is neither the broker nor the collector: it needs
the one's address, an account there, and at most the other's API.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from jaga_agent.wire.base import MalformedMessage, decode, encode, inflated
from jaga_agent.wire.orders import (
    ACTIONS,
    ORDER_BYTES,
    ORDER_ID_BYTES,
    Command,
    Order,
    Reply,
    order_to_sign,
)
from jaga_agent.wire.topics import REGION_PATTERN, SITE_PATTERN, Topic, parse
from jaga_server import config as config_module
from jaga_server.adapters import api, clock, counting
from jaga_server.adapters.requests import Answer, Request, Requester
from jaga_server.adapters.signing import SigningKey
from jaga_server.core.ordering import Pending, Round, wait_s
from jaga_server.errors import OrderError
from jaga_server.web.schema import SiteDetail

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

DEFAULT_CONFIG: Final = Path("/etc/jaga/collector.toml")
REGION: Final = "6408"
VALID_S: Final = 60
UNPACKED_BYTES: Final = 4 * 1024 * 1024
"""Of diagnostics, at most: no bomb explodes here."""
NOT_LISTENING: Final = "No matching subscribers"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("action", choices=tuple(ACTIONS), metavar="ACTION")
    parser.add_argument(
        "value",
        nargs="?",
        help="UPLINK of switch-to and reboot-modem, seconds of hold (0: release), the"
        " stage of set-mode (dormant, ready, polling-day), FILE of apply-configuration",
    )
    to = parser.add_argument_group("to whom")
    to.add_argument("--site", action="append", default=[], help="may be repeated")
    to.add_argument(
        "--sites-from",
        type=Path,
        metavar="FILE",
        help="one site a line; what follows a # is left out",
    )
    to.add_argument("--region", help=f"default: the configuration's, or {REGION}")
    who = parser.add_argument_group("by whom")
    who.add_argument(
        "--operator", required=True, help="as the sites know the key: NAME.pub.pem"
    )
    who.add_argument(
        "--key",
        type=Path,
        required=True,
        help="the signing key; FILE.counter beside it",
    )
    way = parser.add_argument_group("by which broker")
    way.add_argument(
        "--config",
        type=Path,
        default=None,
        metavar="FILE",
        help=f"take broker and region from there (default: {DEFAULT_CONFIG})",
    )
    way.add_argument(
        "--broker", metavar="HOST[:PORT]", help="instead of a configuration"
    )
    way.add_argument("--socket", type=Path, help="the broker's Unix socket instead")
    way.add_argument("--no-tls", action="store_true", help="in a lab")
    way.add_argument("--ca", type=Path, help="who signed the broker's certificate")
    way.add_argument("--cert", type=Path, help="the operator's own certificate")
    way.add_argument("--cert-key", type=Path, help="the certificate's key")
    way.add_argument("--username")
    way.add_argument(
        "--password-file", type=Path, help="its first line is the password"
    )
    more = parser.add_argument_group("how")
    more.add_argument(
        "--valid-s",
        type=int,
        default=VALID_S,
        metavar="N",
        help="too late after so many seconds (default: %(default)s, 86400 at most)",
    )
    more.add_argument(
        "--wait-s", type=float, metavar="N", help="for replies; default: by the action"
    )
    more.add_argument(
        "--api",
        metavar="URL",
        help="the collector's page: a site without a clock obeys only what says how"
        " long ago it booted",
    )
    more.add_argument(
        "--output", type=Path, metavar="DIR", help="diagnostics: a file for each site"
    )


@dataclass(frozen=True, slots=True)
class _Given:
    """What the command line says, checked."""

    region: str
    sites: tuple[str, ...]
    operator: str
    action: str
    arguments: dict[str, str]
    valid_s: int
    mqtt: config_module.Mqtt


def run(arguments: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Give the order, tell what comes of it; return 0 if every site has done it.

    Raises CollectorError.
    """
    given = _given(arguments)
    key = SigningKey(arguments.key)
    boots = {site: _boot(arguments.api, site, say) for site in given.sites}
    now_ms = clock.wall_ms()
    first = counting.take(
        arguments.key.with_name(arguments.key.name + ".counter"),
        now_ms * 1000,
        len(given.sites),
    )
    requests, pending = [], []
    for number, site in enumerate(given.sites):
        order = _order(given, site, first + number, now_ms, boots[site])
        requests.append(_request(given, order, key))
        pending.append(Pending(site, order.id))
    round_ = Round(tuple(pending))
    within_s = arguments.wait_s or wait_s(given.action)
    _exchange(given, requests, round_, within_s, say)
    for each in round_.orders:
        if not each.is_over:
            why = "it was accepted" if each.state == "accepted" else "nothing was heard"
            say(f"{each.site}: no answer within {within_s:g} s: {why}")
        elif each.content:
            _show(each, arguments.output, say)
    if len(round_.orders) > 1:
        counts = ", ".join(f"{n} {name}" for name, n in round_.counts().items())
        say(f"{len(round_.orders)} sites: {counts}")
    return 0 if round_.all_done else 1


def _given(arguments: argparse.Namespace) -> _Given:
    mqtt, region = _broker(arguments)
    region = arguments.region or region
    if not REGION_PATTERN.fullmatch(region):
        message = f"--region {region!r}: want the Kemendagri code, e.g. 6408"
        raise OrderError(message)
    sites = (*arguments.site, *_listed(arguments.sites_from))
    if not sites:
        message = "to whom? give --site SITE, or --sites-from FILE"
        raise OrderError(message)
    for site in sites:
        if not SITE_PATTERN.fullmatch(site):
            message = f"{site!r} is no site id, e.g. tps-6408052001-901"
            raise OrderError(message)
    if not 1 <= arguments.valid_s <= 86_400:
        message = f"--valid-s {arguments.valid_s}: want 1 to 86400"
        raise OrderError(message)
    return _Given(
        region,
        tuple(dict.fromkeys(sites)),
        arguments.operator,
        arguments.action,
        _arguments(arguments.action, arguments.value),
        arguments.valid_s,
        mqtt,
    )


def _arguments(action: str, value: str | None) -> dict[str, str]:
    wanted = ACTIONS[action]
    if bool(wanted) != (value is not None):
        what = f"needs {wanted[0].upper()}" if wanted else "takes nothing more"
        message = f"{action} {what}; see: jaga-collector command --help"
        raise OrderError(message)
    if value is None:
        return {}
    if action == "apply-configuration":
        value = _text(Path(value))
    return {wanted[0]: value}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path} cannot be read: {error}"
        raise OrderError(message) from error


def _listed(path: Path | None) -> list[str]:
    if path is None:
        return []
    lines = (line.partition("#")[0].strip() for line in _text(path).splitlines())
    return [line for line in lines if line]


def _broker(arguments: argparse.Namespace) -> tuple[config_module.Mqtt, str]:
    """Return how to reach the broker, with the operator's own account, and the region."""
    region = REGION
    own = {
        "username": arguments.username,
        "password": (
            _text(arguments.password_file).splitlines()[0].strip()
            if arguments.password_file
            else None
        ),
        "cert": arguments.cert,
        "key": arguments.cert_key,
    }
    if (arguments.cert is None) != (arguments.cert_key is None):
        message = "--cert and --cert-key go together"
        raise OrderError(message)
    if arguments.socket is not None:
        return config_module.Mqtt(socket=arguments.socket, tls=False, **own), region
    if arguments.broker is None:
        settings = config_module.load(arguments.config or DEFAULT_CONFIG)
        return (
            config_module.Mqtt(
                host=settings.mqtt.host,
                port=settings.mqtt.port,
                socket=settings.mqtt.socket,
                tls=settings.mqtt.tls,
                ca=arguments.ca or settings.mqtt.ca,
                **own,
            ),
            settings.region,
        )
    host, _, port = arguments.broker.rpartition(":")
    if not host:
        host, port = arguments.broker, "1883" if arguments.no_tls else "8883"
    if not port.isdecimal() or not 1 <= int(port) <= 65_535:
        message = f"--broker {arguments.broker!r}: want HOST or HOST:PORT"
        raise OrderError(message)
    if not arguments.no_tls and arguments.ca is None:
        message = "--broker needs --ca FILE, or --no-tls in a lab"
        raise OrderError(message)
    tls = not arguments.no_tls
    return (
        config_module.Mqtt(host=host, port=int(port), tls=tls, ca=arguments.ca, **own),
        region,
    )


def _boot(
    base: str | None, site: str, say: Callable[[str], None]
) -> tuple[bytes, int] | None:
    """Return the site's boot and how many milliseconds ago it began.

    None, and told, if that cannot be learnt: a site that knows the time needs neither.
    """
    if base is None:
        return None
    lacks = "if it does not know the time, it will refuse"
    try:
        detail = msgspec.json.decode(api.site(base, site), type=SiteDetail)
    except OrderError as error:
        say(f"{site}: {error}; {lacks}")
        return None
    except msgspec.MsgspecError as error:
        say(f"{site}: --api: {base} does not answer as this version does: {error}")
        return None
    if detail.boot is None or detail.boot_ms is None:
        say(f"{site}: the collector has no heartbeat of its boot yet; {lacks}")
        return None
    return bytes.fromhex(detail.boot), detail.boot_ms


def _order(
    given: _Given, site: str, counter: int, now_ms: int, boot: tuple[bytes, int] | None
) -> Order:
    valid_ms = given.valid_s * 1000
    return Order(
        id=secrets.token_bytes(ORDER_ID_BYTES),
        region=given.region,
        site=site,
        operator=given.operator,
        counter=counter,
        issued_ms=now_ms,
        expires_ms=now_ms + valid_ms,
        action=given.action,
        arguments=given.arguments,
        boot=None if boot is None else boot[0],
        boot_expires_ms=None if boot is None else boot[1] + valid_ms,
    )


def _request(given: _Given, order: Order, key: SigningKey) -> Request:
    body = encode(order)
    if len(body) > ORDER_BYTES:
        message = f"the order has {len(body)} bytes; {ORDER_BYTES} are the most"
        raise OrderError(message)
    try:
        decode(body, Order)
    except MalformedMessage as error:
        # What no site would take: a name or a file too long, most likely.
        message = f"no site takes such an order: {error}"
        raise OrderError(message) from error
    return Request(
        topic=str(Topic(given.region, order.site, "command")),
        payload=encode(Command(body, key.sign(order_to_sign(body)))),
        response_topic=str(Topic(given.region, order.site, "reply")),
        correlation=order.id,
        expiry_s=given.valid_s,
    )


def _exchange(
    given: _Given,
    requests: Sequence[Request],
    round_: Round,
    within_s: float,
    say: Callable[[str], None],
) -> None:
    listening = [request.response_topic for request in requests]
    with Requester(given.mqtt, f"operator-{given.operator}", listening) as requester:
        for request in requests:
            requester.send(request)
        deadline_s = clock.monotonic_s() + within_s
        while not round_.is_over and (left_s := deadline_s - clock.monotonic_s()) > 0:
            told = requester.next(left_s)
            if isinstance(told, Answer):
                _heard(told, round_, say)
            elif told is not None and told.refusal is not None:
                _not_passed_on(told.correlation, told.refusal, round_, say)


def _heard(answer: Answer, round_: Round, say: Callable[[str], None]) -> None:
    topic = parse(answer.topic)
    if topic is None:
        return
    order = round_.of(answer.correlation, topic.site)
    if order is None:
        return  # Another operator's, or an older one's.
    try:
        reply = decode(answer.payload, Reply)
    except MalformedMessage as error:
        say(f"{order.site}: an answer that cannot be read: {error}")
        return
    if reply.order != order.id:
        return
    state = reply.code.name.lower()
    if round_.replied(order, state, reply.detail, reply.content):
        say(f"{order.site}: {state}: {reply.detail}")


def _not_passed_on(
    order_id: bytes, refusal: str, round_: Round, say: Callable[[str], None]
) -> None:
    order = next((o for o in round_.orders if o.id == order_id), None)
    if order is None:
        return
    why = f"the broker did not pass it on: {refusal}"
    if refusal == NOT_LISTENING:
        why = "the site is not at the broker, and was not of late"
    round_.refused(order, why)
    say(f"{order.site}: failed: {why}")


def _show(order: Pending, folder: Path | None, say: Callable[[str], None]) -> None:
    """Print diagnostics, or put them into a file."""
    try:
        content = inflated(order.content, UNPACKED_BYTES)
        text = msgspec.json.format(content, indent=2).decode()
    except (MalformedMessage, msgspec.MsgspecError, UnicodeDecodeError) as error:
        say(f"{order.site}: its diagnostics cannot be read: {error}")
        return
    if folder is None:
        say(text)
        return
    path = folder / f"{order.site}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        message = f"--output: {path}: {error.strerror}"
        raise OrderError(message) from error
    say(f"{order.site}: {path}")
