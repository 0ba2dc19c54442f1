"""What a technician would look at, packed for one reply. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from jaga_agent import strict_toml
from jaga_agent.wire.base import deflated
from jaga_agent.wire.orders import CONTENT_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaga_agent.config import Config

_JSON = msgspec.json.Encoder()


def packed(status: Mapping[str, Any], config: Config, warnings: Sequence[str]) -> bytes:
    """Return status, configuration without secrets, and the log's last warnings.

    JSON in DEFLATE (RFC 1951), of at most CONTENT_BYTES: if it is too much, the oldest
    warnings go first, then the older decisions.
    """
    kept = list(warnings)
    told: dict[str, Any] = {
        "status": dict(status),
        "config": strict_toml.without_secrets(config),
        "warnings": kept,
        "left_out": 0,
    }
    while len(content := _deflated(told)) > CONTENT_BYTES:
        if kept:
            dropped = max(1, len(kept) // 4)
            del kept[:dropped]
            told["left_out"] = len(warnings) - len(kept)
        elif told["status"].get("decisions"):
            del told["status"]["decisions"]
        else:
            return _deflated({"error": "too much even without the log"})
    return content


def _deflated(value: object) -> bytes:
    return deflated(_JSON.encode(value))
