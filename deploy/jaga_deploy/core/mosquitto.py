"""The broker's rights and settings, as Mosquitto reads them. Pure: text in, text out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jaga_agent.wire.topics import FROM_SITE, REGION_PATTERN, ROOT, TO_SITE
from jaga_deploy.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COMMAND = "command"
WATERMARK = "watermark"


def rights(
    template: str,
    *,
    region: str,
    collectors: Sequence[str],
    operators: Sequence[str],
    shut_out: Sequence[str],
) -> str:
    """Return the ACL file: the template with every account's rights filled in.

    Who is in `shut_out` may do nothing at all, from the broker's next reload on, even
    over a connection that stands.
    """
    if not REGION_PATTERN.fullmatch(region):
        msg = f"{region!r} is no region: the Kemendagri code without dots, e.g. 6408"
        raise RefusedError(msg)
    base = f"{ROOT}/{region}"
    return fill(
        template,
        {
            "SITES": _lines(
                [
                    *(f"pattern write {base}/%u/{leaf}" for leaf in FROM_SITE),
                    *(f"pattern read {base}/%u/{leaf}" for leaf in TO_SITE),
                ]
            ),
            "COLLECTORS": _users(
                collectors,
                [
                    *(f"topic read {base}/+/{leaf}" for leaf in (*FROM_SITE, COMMAND)),
                    f"topic write {base}/+/{WATERMARK}",
                ],
            ),
            "OPERATORS": _users(
                operators,
                [
                    f"topic write {base}/+/{COMMAND}",
                    f"topic read {base}/+/reply",
                    f"topic read {base}/+/status",
                ],
            ),
            "SHUT_OUT": _users(shut_out, ["topic deny #"]),
        },
    )


def fill(template: str, values: Mapping[str, object]) -> str:
    """Return the text with every @NAME@ filled in; KeyError for one without a value."""
    return re.sub(r"@([A-Z_]+)@", lambda match: str(values[match[1]]), template)


def _users(names: Sequence[str], lines: Sequence[str]) -> str:
    if not names:
        return "# (nobody)"
    return "\n\n".join(_lines([f"user {name}", *lines]) for name in names)


def _lines(lines: Sequence[str]) -> str:
    return "\n".join(lines)
