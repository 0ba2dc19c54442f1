"""What was issued and revoked, and what follows from it. Pure: `now_s` is an argument.

Times are Unix seconds. Why the validities are what they are:
docs/decisions/certificates.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from jaga_deploy.core.subjects import Kind, Subject
from jaga_deploy.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY_S: Final = 86_400
SKEW_S: Final = DAY_S
"""A certificate begins so long before it is issued: the computer that issues it may keep
its clock in local time, and the broker's may be behind."""
CA_DAYS: Final = 3650
DAYS: Final = {
    Kind.SITE: 400,
    Kind.BROKER: 800,
    Kind.COLLECTOR: 800,
    Kind.OPERATOR: 800,
}
"""Defaults. A site's outlasts polling day, the recap and the disputes; the few others are
at hand, and each that ends stops the whole district."""
SOON_S: Final = 60 * DAY_S
"""So long before its end `list` begins to warn."""
VERSION: Final = 1


class Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One issued certificate."""

    serial: str
    """Hexadecimal, as in its file's name."""
    kind: Kind
    name: str
    """The common name."""
    label: str
    issued_s: int
    not_before_s: int
    not_after_s: int
    key_sha256: str
    """Of the public key (SubjectPublicKeyInfo, DER), hexadecimal."""
    hosts: tuple[str, ...] = ()
    revoked_s: int | None = None

    def of(self, subject: Subject) -> bool:
        """Tell whether it was issued to this holder."""
        return self.kind is subject.kind and self.name == subject.name

    def state(self, now_s: int) -> str:
        """Return `valid`, `expired` or `revoked`."""
        if self.revoked_s is not None:
            return "revoked"
        return "valid" if now_s <= self.not_after_s else "expired"


class Ledger(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a CA has ever issued, oldest first."""

    version: int = VERSION
    crl_number: int = 0
    """Of the revocation list that this state of the ledger asks for."""
    certificates: tuple[Certificate, ...] = ()

    def held(self, subject: Subject) -> tuple[Certificate, ...]:
        """Return all that were issued to this holder, oldest first."""
        return tuple(each for each in self.certificates if each.of(subject))

    def current(self, subject: Subject) -> Certificate | None:
        """Return its newest one that is not revoked, expired or not."""
        kept = [each for each in self.held(subject) if each.revoked_s is None]
        return kept[-1] if kept else None

    def revoked(self) -> tuple[Certificate, ...]:
        """Return what the revocation list names."""
        return tuple(each for each in self.certificates if each.revoked_s is not None)

    def shut_out(self, now_s: int) -> tuple[str, ...]:
        """Return the accounts that have revoked certificates and no valid one, sorted."""
        shut = {each.name for each in self.revoked() if each.kind is not Kind.BROKER}
        valid = {
            each.name
            for each in self.certificates
            if each.kind is not Kind.BROKER and each.state(now_s) == "valid"
        }
        return tuple(sorted(shut - valid))

    def operators(self, now_s: int) -> tuple[str, ...]:
        """Return the accounts of operators with a valid certificate, sorted."""
        return self._accounts(Kind.OPERATOR, now_s)

    def collectors(self, now_s: int) -> tuple[str, ...]:
        """Return the accounts of collectors with a valid certificate, sorted."""
        return self._accounts(Kind.COLLECTOR, now_s)

    def _accounts(self, kind: Kind, now_s: int) -> tuple[str, ...]:
        return tuple(
            sorted(
                {
                    each.name
                    for each in self.certificates
                    if each.kind is kind and each.state(now_s) == "valid"
                }
            )
        )


def may_issue(ledger: Ledger, subject: Subject, now_s: int) -> None:
    """Raise RefusedError if the holder has a valid certificate already."""
    current = ledger.current(subject)
    if current is not None and current.state(now_s) == "valid":
        verbs = f"jaga-deploy {subject.kind} renew" + (
            "" if subject.name == "collector" else f" {subject.label}"
        )
        msg = (
            f"{subject} has a valid certificate ({current.serial}): to follow it up,"
            f" {verbs}; for a lost card or key revoke it first"
        )
        raise RefusedError(msg)


def may_renew(ledger: Ledger, subject: Subject) -> Certificate:
    """Return the certificate to follow up; raises RefusedError if there is none."""
    current = ledger.current(subject)
    if current is None:
        held = ledger.held(subject)
        why = "all of its certificates are revoked" if held else "it never had one"
        msg = f"{subject} cannot be renewed, {why}: issue it a new one"
        raise RefusedError(msg)
    return current


def may_use_key(ledger: Ledger, subject: Subject, key_sha256: str) -> None:
    """Raise RefusedError for a key that was revoked, or is another holder's."""
    for each in ledger.certificates:
        if each.key_sha256 != key_sha256:
            continue
        if each.revoked_s is not None:
            msg = (
                f"this key was revoked with certificate {each.serial} of {each.name}:"
                " make a new key (renew --new-key)"
            )
            raise RefusedError(msg)
        if not each.of(subject):
            msg = f"this key is that of {each.kind} {each.label}: make an own one"
            raise RefusedError(msg)


def validity(
    kind: Kind, days: int, authority: tuple[int, int], now_s: int
) -> tuple[int, int]:
    """Return first and last second of a new certificate; raises RefusedError.

    `authority` is the CA's own. A broker's begins with it: a Pi without a clock thinks
    it is the day its card was written, and must believe a server certificate issued
    later.
    """
    begin, end = authority
    if not begin <= now_s <= end:
        msg = (
            "by this computer's clock the CA is not valid now: set the clock, or begin"
            " a new CA"
        )
        raise RefusedError(msg)
    last = now_s + days * DAY_S
    if last > end:
        left = (end - now_s) // DAY_S
        msg = (
            f"{days} days are longer than the CA lasts: ask for --days {left} at most,"
            " or begin a new CA"
        )
        raise RefusedError(msg)
    return (begin if kind is Kind.BROKER else max(begin, now_s - SKEW_S)), last


def issue(ledger: Ledger, certificate: Certificate) -> Ledger:
    """Return the ledger with one more."""
    return msgspec.structs.replace(
        ledger, certificates=(*ledger.certificates, certificate)
    )


def revoke(
    ledger: Ledger, subject: Subject, serial: str | None, now_s: int
) -> tuple[Ledger, tuple[Certificate, ...]]:
    """Return the ledger with the holder's certificates revoked, and which these are.

    `serial`: this one only. Those revoked before stay as they are. Raises RefusedError
    if the holder has none, or none of that serial.
    """
    meant = [
        each
        for each in ledger.held(subject)
        if serial is None or each.serial == serial.lower()
    ]
    if not meant:
        which = "" if serial is None else f" with serial {serial}"
        msg = f"{subject} has no certificate{which}: see jaga-deploy list"
        raise RefusedError(msg)
    fresh = {
        each.serial: msgspec.structs.replace(each, revoked_s=now_s)
        for each in meant
        if each.revoked_s is None
    }
    after = msgspec.structs.replace(
        ledger,
        certificates=tuple(
            fresh.get(each.serial, each) for each in ledger.certificates
        ),
    )
    return after, tuple(fresh.values())


def next_crl(ledger: Ledger) -> Ledger:
    """Return the ledger that asks for a revocation list made anew."""
    return msgspec.structs.replace(ledger, crl_number=ledger.crl_number + 1)


def warnings(
    ledger: Ledger,
    authority_ends_s: int,
    crl: tuple[int, int],
    now_s: int,
) -> Iterator[str]:
    """Yield what ends soon or is out of step, and what to do.

    `crl` is the number and the last second of the revocation list in the folder.
    """
    number, crl_ends_s = crl
    if number != ledger.crl_number:
        yield (
            "the revocation list is older than the ledger (an interrupted run):"
            " jaga-deploy crl"
        )
    for what, ends_s, act in (
        ("the CA", authority_ends_s, "begin a new CA, and write every card anew"),
        (
            "the revocation list",
            crl_ends_s,
            (
                "jaga-deploy crl, then jaga-deploy broker config: a broker with an"
                " expired list lets nobody in"
            ),
        ),
    ):
        if ends_s - now_s < SOON_S:
            yield f"{what} {_ends(ends_s, now_s)}: {act}"
    ending: dict[Kind, list[str]] = {}
    seen: set[tuple[Kind, str]] = set()
    for each in reversed(ledger.certificates):
        if each.revoked_s is not None or (each.kind, each.name) in seen:
            continue
        seen.add((each.kind, each.name))
        if each.not_after_s - now_s < SOON_S:
            ending.setdefault(each.kind, []).append(
                f"{each.label} {_ends(each.not_after_s, now_s)}"
            )
    for kind, names in sorted(ending.items()):
        shown = ", ".join(sorted(names)[:3])
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield f"{kind}: {shown}{more}: jaga-deploy {kind} renew"


def _ends(ends_s: int, now_s: int) -> str:
    days = (ends_s - now_s) // DAY_S
    return "has ended" if ends_s < now_s else f"ends in {days} days"
