"""`jaga-deploy`: ca | broker | collector | operator | site | crl | list.

Expected errors are one clear line on standard error and exit status 1, never a
traceback; wrong usage is exit status 2.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jaga_deploy import __version__, authority, broker_config, listing
from jaga_deploy.adapters import clock
from jaga_deploy.authority import Authority
from jaga_deploy.core import subjects
from jaga_deploy.core.ledger import CA_DAYS, DAYS
from jaga_deploy.core.subjects import Kind, Subject
from jaga_deploy.errors import DeployError, KeyFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CA: Final = Path("jaga-ca")
AT: Final = "/etc/jaga-broker"
STATE: Final = "/var/lib/mosquitto"
USER: Final = "mosquitto"
REGION: Final = "6408"
PORT: Final = 8883


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except DeployError as error:
        print(f"jaga-deploy: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output (`| head`) has gone; that is no fault.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jaga-deploy",
        description="Keys and certificates of sites, collector, operators and broker,"
        " and the broker's configuration.",
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {__version__}"
    )
    commands = parser.add_subparsers(dest="what", required=True, metavar="COMMAND")

    ca = commands.add_parser("ca", help="the certificate authority itself")
    verbs = ca.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    init = verbs.add_parser("init", help="make one, in a new folder")
    init.add_argument("folder", type=Path, metavar="FOLDER", help="e.g. jaga-ca")
    init.add_argument("--name", default="Jaga CA", help="default: %(default)s")
    _add_days(init, CA_DAYS)
    _add_passphrase(init)
    init.set_defaults(run=_init)

    for kind in Kind:
        _add_kind(commands, kind)

    crl = commands.add_parser("crl", help="make the revocation list anew")
    _add_ca(crl)
    crl.add_argument(
        "--days",
        type=_positive,
        help="how long it is good for; default: as long as the CA",
    )
    crl.set_defaults(run=_crl)

    listed = commands.add_parser(
        "list", help="what was issued, till when, what is revoked, what ends soon"
    )
    _add_ca(listed, signs=False)
    listed.add_argument("--json", action="store_true", help="print it as JSON")
    listed.set_defaults(run=_list)
    return parser


def _add_kind(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], kind: Kind
) -> None:
    helps = {
        Kind.BROKER: "the broker's certificate and configuration",
        Kind.COLLECTOR: "the collector's certificate",
        Kind.OPERATOR: "who commands sites: a certificate, and a key to sign with",
        Kind.SITE: "a polling site's certificate",
    }
    verbs = commands.add_parser(kind, help=helps[kind]).add_subparsers(
        dest="verb", required=True, metavar="COMMAND"
    )
    issue = verbs.add_parser(
        "issue", help="the first certificate, or after a revocation"
    )
    renew = verbs.add_parser(
        "renew", help="the next one, same key; the last stays valid till it ends"
    )
    revoke = verbs.add_parser("revoke", help="make all of its certificates void")
    for verb in (issue, renew, revoke):
        if kind is Kind.BROKER and verb is issue:
            verb.add_argument(
                "name",
                nargs="+",
                metavar="HOST",
                help="by which sites and collector reach it: names and addresses",
            )
        elif kind is Kind.COLLECTOR:
            verb.add_argument(
                "name", nargs="?", metavar="NAME", help="one of several collectors"
            )
        else:
            verb.add_argument("name", metavar=_META[kind])
        _add_ca(verb)
    for verb in (issue, renew):
        _add_days(verb, DAYS[kind])
        verb.add_argument(
            "--csr",
            type=Path,
            metavar="FILE",
            help="certify the key of this request (openssl req -new) instead",
        )
    issue.set_defaults(run=_issue)
    renew.add_argument("--new-key", action="store_true", help="make a new key, too")
    renew.set_defaults(run=_renew)
    revoke.add_argument("--serial", help="this certificate only (see jaga-deploy list)")
    revoke.set_defaults(run=_revoke)
    if kind is Kind.BROKER:
        _add_config(verbs.add_parser("config", help="write what Mosquitto needs"))


def _add_config(config: argparse.ArgumentParser) -> None:
    config.add_argument("out", type=Path, metavar="FOLDER", help="written or renewed")
    _add_ca(config, signs=False)
    config.add_argument("--host", help="which broker, if there are several")
    config.add_argument("--region", default=REGION, help="default: %(default)s")
    config.add_argument(
        "--at",
        default=AT,
        metavar="DIRECTORY",
        help="where the folder will be on the broker's machine; default: %(default)s",
    )
    config.add_argument(
        "--state", default=STATE, metavar="DIRECTORY", help="default: %(default)s"
    )
    config.add_argument("--user", default=USER, help="default: %(default)s")
    config.add_argument("--port", type=_port, default=PORT, help="default: %(default)s")
    config.add_argument("--address", help="listen on this one only; default: on all")
    config.set_defaults(run=_config)


_META: Final = {Kind.SITE: "SITE", Kind.OPERATOR: "NAME", Kind.BROKER: "HOST"}


def _add_ca(parser: argparse.ArgumentParser, *, signs: bool = True) -> None:
    parser.add_argument(
        "--ca", type=Path, default=CA, metavar="FOLDER", help="default: %(default)s"
    )
    if signs:
        _add_passphrase(parser)
    else:
        parser.set_defaults(passphrase_file=None)


def _add_passphrase(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help="its first line opens the CA's key; - asks for it",
    )


def _add_days(parser: argparse.ArgumentParser, days: int) -> None:
    parser.add_argument(
        "--days", type=_positive, default=days, help="validity; default: %(default)s"
    )


def _init(arguments: argparse.Namespace) -> None:
    passphrase = _passphrase(arguments, new=True)
    authority.begin(
        arguments.folder, arguments.name, arguments.days, passphrase, clock.wall_s()
    )
    print(f"{arguments.folder}: the CA is made; keep ca.key secret, and a copy apart")


def _issue(arguments: argparse.Namespace) -> None:
    subject = _subject(arguments)
    made = _open(arguments).issue(
        subject, arguments.days, clock.wall_s(), _csr(arguments)
    )
    _tell(arguments, subject, made.not_after_s)


def _renew(arguments: argparse.Namespace) -> None:
    subject = _subject(arguments)
    made = _open(arguments).renew(
        subject,
        arguments.days,
        clock.wall_s(),
        _csr(arguments),
        new_key=arguments.new_key,
    )
    _tell(arguments, subject, made.not_after_s)


def _tell(arguments: argparse.Namespace, subject: Subject, until_s: int) -> None:
    print(f"{arguments.ca / subject.folder}: valid till {listing.day(until_s)}")


def _revoke(arguments: argparse.Namespace) -> None:
    subject = _subject(arguments)
    gone = _open(arguments).revoke(subject, arguments.serial, clock.wall_s())
    for each in gone:
        print(f"{subject}: {each.serial} is revoked")
    if not gone:
        print(f"{subject}: was revoked before")
    print("Now give the broker its list: jaga-deploy broker config (docs/broker.md)")
    if subject.kind is Kind.OPERATOR:
        print(
            f"Sites obey {subject.label}'s signature until {subject.label}.pub.pem is"
            " off their cards"
        )


def _crl(arguments: argparse.Namespace) -> None:
    crl = _open(arguments).make_crl(clock.wall_s(), arguments.days)
    print(
        f"{arguments.ca / authority.CRL}: number {crl.number},"
        f" {len(crl.serials)} revoked, good till {listing.day(crl.next_update_s)}"
    )


def _list(arguments: argparse.Namespace) -> None:
    standing = _open(arguments).standing()
    now_s = clock.wall_s()
    if arguments.json:
        print(listing.json_text(standing, now_s))
        return
    for line in listing.table(standing, now_s):
        print(line)
    for warning in standing.warnings(now_s):
        print(f"jaga-deploy: {warning}", file=sys.stderr)


def _config(arguments: argparse.Namespace) -> None:
    place = broker_config.Place(
        at=arguments.at,
        state=arguments.state,
        user=arguments.user,
        region=arguments.region,
        port=arguments.port,
        address=arguments.address,
    )
    host = subjects.broker((arguments.host,)) if arguments.host else None
    names = broker_config.write(
        _open(arguments), arguments.out, place, host, clock.wall_s()
    )
    print(f"{arguments.out}: {', '.join(names)}")
    print("How the broker takes them up, and which is a restart: docs/broker.md")


def _subject(arguments: argparse.Namespace) -> Subject:
    name = arguments.name
    makers: dict[Kind, Callable[[], Subject]] = {
        Kind.SITE: lambda: subjects.site(name),
        Kind.OPERATOR: lambda: subjects.operator(name),
        Kind.COLLECTOR: lambda: subjects.collector(name),
        Kind.BROKER: lambda: subjects.broker(
            tuple(name) if isinstance(name, list) else (name,)
        ),
    }
    return makers[Kind(arguments.what)]()


def _open(arguments: argparse.Namespace) -> Authority:
    return Authority(arguments.ca, _passphrase(arguments))


def _csr(arguments: argparse.Namespace) -> bytes | None:
    return None if arguments.csr is None else _read(arguments.csr)


def _passphrase(arguments: argparse.Namespace, *, new: bool = False) -> bytes | None:
    path: Path | None = arguments.passphrase_file
    if path is None:
        return None
    if path == Path("-"):
        first = getpass.getpass("Passphrase of the CA's key: ").encode()
        if new and first != getpass.getpass("The same again: ").encode():
            msg = "the two passphrases differ; nothing was made"
            raise KeyFileError(msg)
    else:
        first = (_read(path).splitlines() or [b""])[0]
    if not first:
        msg = f"the passphrase in {path} is empty: put it on the file's first line"
        raise KeyFileError(msg)
    return first


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"{path}: {error.strerror}; name a file that can be read"
        raise KeyFileError(msg) from error


def _positive(text: str) -> int:
    return _between(text, 1, 36_500)


def _port(text: str) -> int:
    return _between(text, 1, 65_535)


def _between(text: str, least: int, most: int) -> int:
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        msg = f"{text!r} is no whole number from {least} to {most}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)
