"""The collector's own JSON API, asked from an operator's computer. Decides nothing."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from typing import Final

from jaga_server.errors import OrderError

TIMEOUT_S: Final = 10.0
MOST_BYTES: Final = 4 * 1024 * 1024


def site(base: str, name: str) -> bytes:
    """Return what the collector at `base` (http://host:port) says of a site, as JSON.

    Raises:
        OrderError: it cannot be reached, or knows no such site.

    """
    address = f"{base.rstrip('/')}/api/1/sites/{urllib.parse.quote(name, safe='')}"
    if not address.startswith(("http://", "https://")):
        message = f"--api: want http://HOST:PORT or https://HOST, not {base!r}"
        raise OrderError(message)
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:  # noqa: S310 - the scheme is checked above
            return bytes(answer.read(MOST_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            message = f"--api: {address}: status {error.code}"
        raise OrderError(message) from error
    except (OSError, ValueError) as error:
        message = f"--api: {address}: {error}"
        raise OrderError(message) from error
