"""The collector's own JSON API, asked from an operator's computer. Decides nothing."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from typing import Final

import msgspec

from jaga_server.errors import OrderError
from jaga_server.web.schema import SiteDetail

TIMEOUT_S: Final = 10.0
MOST_BYTES: Final = 4 * 1024 * 1024
_DETAIL = msgspec.json.Decoder(SiteDetail)


def site(base: str, name: str) -> SiteDetail:
    """Return what the collector at `base` (http://host:port) knows; raises OrderError."""
    address = f"{base.rstrip('/')}/api/1/sites/{urllib.parse.quote(name, safe='')}"
    if not address.startswith(("http://", "https://")):
        message = f"--api: want http://HOST:PORT or https://HOST, not {base!r}"
        raise OrderError(message)
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:  # noqa: S310 - the scheme is checked above
            return _DETAIL.decode(answer.read(MOST_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            message = f"--api: {address}: status {error.code}"
        raise OrderError(message) from error
    except (OSError, ValueError) as error:
        message = f"--api: {address}: {error}"
        raise OrderError(message) from error
    except msgspec.MsgspecError as error:
        message = f"--api: {address} does not answer as this version does: {error}"
        raise OrderError(message) from error
