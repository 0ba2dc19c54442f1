"""What `jaga-deploy list` shows: a table for a person, JSON for a program. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaga_deploy.authority import Standing

HEAD = ("KIND", "NAME", "STATE", "VALID TILL", "SERIAL")


def table(standing: Standing, now_s: int) -> Iterator[str]:
    """Yield the table's lines, sorted by kind and name, oldest certificate first."""
    rows = [HEAD]
    for each in sorted(
        standing.ledger.certificates, key=lambda each: (each.kind, each.name)
    ):
        state = each.state(now_s)
        if each.revoked_s is not None:
            state = f"revoked {day(each.revoked_s)}"
        till = day(each.not_after_s)
        rows.append((each.kind.value, each.label, state, till, each.serial))
    widths = [max(len(row[n]) for row in rows) for n in range(len(HEAD))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
    yield (
        f"CA till {day(standing.authority_ends_s)}; revocation list"
        f" {standing.crl.number} till {day(standing.crl.next_update_s)}"
    )


def json_text(standing: Standing, now_s: int) -> str:
    """Return the same as one JSON object; times are RFC 3339, absent is null."""
    shown = {
        "ca_not_after": _instant(standing.authority_ends_s),
        "crl": {
            "number": standing.crl.number,
            "next_update": _instant(standing.crl.next_update_s),
        },
        "certificates": [
            {
                "kind": each.kind.value,
                "name": each.label,
                "common_name": each.name,
                "state": each.state(now_s),
                "serial": each.serial,
                "hosts": each.hosts,
                "issued": _instant(each.issued_s),
                "not_before": _instant(each.not_before_s),
                "not_after": _instant(each.not_after_s),
                "revoked": None if each.revoked_s is None else _instant(each.revoked_s),
                "key_sha256": each.key_sha256,
            }
            for each in standing.ledger.certificates
        ],
        "warnings": standing.warnings(now_s),
    }
    return msgspec.json.format(msgspec.json.encode(shown), indent=2).decode()


def day(at_s: int) -> str:
    """Return e.g. 2026-11-24, in UTC as certificates are."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d")


def _instant(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
