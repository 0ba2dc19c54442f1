"""Operators of a test: real keys by openssl, and commands signed with them."""

from __future__ import annotations

import secrets
import subprocess
import time
from typing import TYPE_CHECKING

from jaga_agent.wire.base import encode
from jaga_agent.wire.orders import Command, Order, order_to_sign

if TYPE_CHECKING:
    from pathlib import Path


def openssl(*words: str, stdin: bytes = b"") -> bytes:
    """Return what openssl says."""
    done = subprocess.run(
        ["openssl", *words], check=True, capture_output=True, timeout=30, input=stdin
    )
    return done.stdout


class Operator:
    """Who signs; the public half is `keys/NAME.pub.pem`."""

    def __init__(self, keys: Path, name: str = "ani", *, known: bool = True) -> None:
        """Make a key; `known`: put its public half where sites look."""
        keys.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.key = keys.parent / f"{name}-{secrets.token_hex(3)}.pem"
        openssl(
            *("ecparam", "-name", "prime256v1", "-genkey", "-noout"),
            *("-out", str(self.key)),
        )
        if known:
            public = str(keys / f"{name}.pub.pem")
            openssl("pkey", "-in", str(self.key), "-pubout", "-out", public)

    def order(self, action: str, **more) -> Order:
        """Return an order of now; `more` changes fields, `arguments` included."""
        now_ms = time.time_ns() // 1_000_000
        fields = {
            "id": secrets.token_bytes(16),
            "region": "6408",
            "site": "kpu-kutim",
            "operator": self.name,
            "counter": time.time_ns() // 1000,
            "issued_ms": now_ms,
            "expires_ms": now_ms + 60_000,
            "action": action,
            "arguments": {},
        }
        return Order(**{**fields, **more})

    def sign(self, order: Order) -> bytes:
        """Return the command's payload."""
        return self.sign_body(encode(order))

    def sign_body(self, body: bytes) -> bytes:
        signature = openssl(
            "dgst", "-sha256", "-sign", str(self.key), stdin=order_to_sign(body)
        )
        return encode(Command(body, signature))
