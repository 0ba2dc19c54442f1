"""Signatures by the openssl program, with real keys."""

import asyncio
import os
import subprocess

import pytest

from jaga_agent.adapters import signing
from jaga_agent.errors import SigningError


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=30)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    home = tmp_path_factory.mktemp("keys")
    for name in ("ani", "budi"):
        key = str(home / f"{name}.pem")
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        openssl("pkey", "-in", key, "-pubout", "-out", str(home / f"{name}.pub.pem"))
    return home


async def test_what_a_key_signed_its_public_half_knows_and_no_other(keys):
    data = os.urandom(40_000)
    signature = await signing.sign(data, keys / "ani.pem")
    assert len(signature) <= 72
    assert await signing.verify(data, signature, keys / "ani.pub.pem")
    assert not await signing.verify(data, signature, keys / "budi.pub.pem")
    assert not await signing.verify(data + b"\0", signature, keys / "ani.pub.pem")


async def test_every_altered_byte_of_a_signature_is_noticed(keys):
    signature = await signing.sign(b"switch", keys / "ani.pem")
    altered = [
        signature[:at] + bytes((signature[at] ^ 1 << bit,)) + signature[at + 1 :]
        for at in range(len(signature))
        for bit in (0, 7)
    ]
    wrong = [*altered, b"", signature + b"\0", signature[:-1], bytes(72), signature * 2]
    for each in wrong:
        assert not await signing.verify(b"switch", each, keys / "ani.pub.pem"), each


async def test_longest_signature_with_something_behind_it(keys):
    """openssl itself reads no further than 72 bytes."""
    for number in range(200):
        signature = await signing.sign(b"%d" % number, keys / "ani.pem")
        if len(signature) == 72:
            break
    data = b"%d" % number
    assert await signing.verify(data, signature, keys / "ani.pub.pem")
    assert not await signing.verify(data, signature + b"\0", keys / "ani.pub.pem")


async def test_several_at_once(keys):
    signature = await signing.sign(b"x", keys / "ani.pem")
    told = await asyncio.gather(
        *(signing.verify(b"x", signature, keys / "ani.pub.pem") for _ in range(8))
    )
    assert told == [True] * 8


@pytest.mark.parametrize("content", [None, "no key", ""])
async def test_a_key_that_is_none_is_named(keys, tmp_path, content):
    path = tmp_path / "citra.pub.pem"
    if content is not None:
        path.write_text(content)
    signature = await signing.sign(b"x", keys / "ani.pem")
    with pytest.raises(SigningError, match=r"citra\.pub\.pem"):
        await signing.verify(b"x", signature, path)
    with pytest.raises(SigningError, match=r"citra\.pub\.pem"):
        await signing.sign(b"x", path)


async def test_a_locked_key_asks_nobody(tmp_path, keys):
    locked = tmp_path / "locked.pem"
    openssl(
        "pkcs8", "-topk8", "-in", str(keys / "ani.pem"), "-v2", "aes-256-cbc",
        "-passout", "pass:secret", "-out", str(locked),
    )  # fmt: skip
    with pytest.raises(SigningError, match=r"locked\.pem"):
        await asyncio.wait_for(signing.sign(b"x", locked), 10)


async def test_no_openssl(monkeypatch, keys):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SigningError, match="apt-get install openssl"):
        await signing.sign(b"x", keys / "ani.pem")
