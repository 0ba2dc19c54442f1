"""Bends messages by their structure: bytes alone seldom get past the first header."""

from __future__ import annotations

import random
import zlib

import msgspec

PREFIX = {"envelope": 2, "open_item": 2}
"""Bytes before the message, the door's own among them; 1 at other doors."""
ODD = (
    None, True, False, 0, 1, -1, -2, 127, 1000, 1001, 2**31, 2**63 - 1, 2**63, 2**64 - 1,
    -(2**63), 0.5, float("nan"), float("inf"), b"", b"8 octets", bytes(32), bytes(33),
    bytes(81), "", "x", "x" * 64, "x" * 65, "x" * 513, "\x00", "ß" * 40, [], {}, [[]],
    {"": ""}, {1: 2}, [0] * 600, [[0, b""]] * 9,
)  # fmt: skip


class Bending:
    """atheris' custom mutator."""

    def __init__(self, names, mutate):
        self._names = names
        self._mutate = mutate

    def __call__(self, data, max_size, seed):
        chance = random.Random(seed)
        if not data or chance.random() < 0.4:
            return self._mutate(data, max_size)
        name = self._names[data[0] % len(self._names)]
        head = PREFIX.get(name, 1)
        try:
            bent = self._bent(name, bytes(data[head:]), chance)
        except (
            msgspec.MsgspecError,
            ValueError,
            RecursionError,
            zlib.error,
            TypeError,
        ):
            return self._mutate(data, max_size)
        return (bytes(data[:head]) + bent)[:max_size]

    def _bent(self, name, message, chance):
        if name == "unpack":
            inflate = zlib.decompressobj(wbits=-15)
            inner = inflate.decompress(message, 1 << 16)
            return deflated(bend(inner, chance))
        tree = msgspec.msgpack.decode(message)
        if isinstance(tree, list) and tree and isinstance(tree[0], bytes):
            # A history's items, a command's order: bent inside, as often as outside.
            if name == "History" or (name == "envelope" and len(tree) < 3):
                if chance.random() < 0.7:
                    tree[0] = self._bent("unpack", tree[0], chance)
                    return msgspec.msgpack.encode(tree)
            elif name == "Command" and chance.random() < 0.7:
                tree[0] = bend(tree[0], chance)
                return msgspec.msgpack.encode(tree)
        return msgspec.msgpack.encode(changed(tree, chance))


def deflated(data):
    deflate = zlib.compressobj(1, wbits=-15)
    return deflate.compress(data) + deflate.flush()


def bend(message, chance):
    return msgspec.msgpack.encode(changed(msgspec.msgpack.decode(message), chance))


def changed(tree, chance):
    """Return it with one thing in it another, doubled, gone, or new."""
    if isinstance(tree, list) and tree and chance.random() < 0.85:
        copy = list(tree)
        at = chance.randrange(len(copy))
        match chance.randrange(8):
            case 0:
                del copy[at]
            case 1:
                copy.insert(at, copy[chance.randrange(len(copy))])
            case 2:
                copy.append(chance.choice(ODD))
            case 3:
                copy = copy[:at]
            case _:
                copy[at] = changed(copy[at], chance)
        return copy
    if isinstance(tree, dict) and tree and chance.random() < 0.7:
        key = chance.choice(list(tree))
        return {**tree, key: changed(tree[key], chance), "new": "one"}
    if isinstance(tree, bytes) and tree and chance.random() < 0.5:
        # A record within a history.
        try:
            return bend(tree, chance)
        except (msgspec.MsgspecError, ValueError, TypeError):
            return tree[: chance.randrange(len(tree) + 1)]
    if isinstance(tree, int) and not isinstance(tree, bool) and chance.random() < 0.4:
        near = tree + chance.choice((-1, 1, 256, -256))
        return min(max(near, -(2**63)), 2**64 - 1)
    return chance.choice(ODD)
