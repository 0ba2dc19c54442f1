"""The site's digests: when, over what, signed by whom, and that nothing waits for them."""

import asyncio
import contextlib
import logging
import os
import subprocess
from types import SimpleNamespace

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from jaga_agent.adapters.fakes import FakeClock, MemorySpool
from jaga_agent.adapters.signing import SiteKey
from jaga_agent.config import Config
from jaga_agent.core import digesting
from jaga_agent.errors import SigningError, SpoolError
from jaga_agent.runtime.digests import RETRY_S, Digests
from jaga_agent.runtime.troubles import Troubles
from jaga_agent.wire import evidence
from jaga_agent.wire.base import decode
from jaga_agent.wire.evidence import CODE_OF, NO_HASH, Digest, RecordCode
from support import virtual_time
from support.site_certificates import SiteAuthority

SITE = "tps-1"
CONFIG = msgspec.toml.decode(
    f"""
[site]
id = "{SITE}"
[mqtt]
host = "broker"
tls = false
[[uplink]]
name = "xl"
device = "wan0"
""",
    type=Config,
)


class Spool(MemorySpool):
    """Also what earlier boots left, and a card that may refuse."""

    def __init__(self, *earlier, boot=b"this one"):
        super().__init__(boot)
        self.earlier = list(earlier)
        self.refuses = False

    def boots(self):
        return [(s.boot, s.next_seq() - 1) for s in self.earlier] + [*super().boots()]

    def select(self, boot, first, last):
        found = [super().select(boot, first, last)]
        found += [s.select(boot, first, last) for s in self.earlier]
        return [record for part in found for record in part]

    def last_digest(self):
        heads = [s.last_digest() for s in self.earlier]
        return super().last_digest() or next((h for h in reversed(heads) if h), None)

    def append(self, seq, leaf, payload):
        if self.refuses:
            msg = "the card is full"
            raise SpoolError(msg)
        return super().append(seq, leaf, payload)

    def add(self, *leaves):
        for leaf in leaves:
            self.append(self.next_seq(), leaf, os.urandom(20))

    def digests(self):
        return [
            decode(r.payload, Digest)
            for r in self.select(self.boot, 1, self.next_seq())
            if r.leaf == "digest"
        ]


class Signer:
    """Signs by a name; may be slow, may fail, and may be overtaken by records."""

    def __init__(self, name=b"key 1"):
        self.name, self.failing, self.meanwhile = name, None, []
        self.takes_s = 0.0

    async def certificate(self):
        return b"certificate of " + self.name

    async def sign(self, data):
        await asyncio.sleep(self.takes_s)
        if self.failing:
            raise SigningError(self.failing)
        if self.meanwhile:
            self.meanwhile.pop()()
        return b"signed by " + self.name


def desk(spool, signer):
    loop = asyncio.get_running_loop()
    clock = FakeClock(source=loop.time)
    troubles = Troubles()
    doors = SimpleNamespace(spool=spool, clock=clock, signer=signer)
    spool.handed_on = []
    digests = Digests(
        CONFIG, doors=doors, troubles=troubles, recorded=spool.handed_on.append
    )
    return digests, troubles


@contextlib.asynccontextmanager
async def running(spool, signer):
    digests, troubles = desk(spool, signer)
    (work,) = digests.work()
    task = asyncio.get_running_loop().create_task(work)
    try:
        yield digests, troubles
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def in_virtual_time(test):
    def call():
        virtual_time.run(test())

    call.__name__ = test.__name__
    return call


def covered(digest):
    return (digest.of, digest.first, digest.last)


def assert_chained(spool, first=NO_HASH):
    """Each names the one before, and has the root of what it covers."""
    prev = first
    for record in spool.select(spool.boot, 1, spool.next_seq()):
        if record.leaf != "digest":
            continue
        digest = decode(record.payload, Digest)
        assert digest.prev == prev
        assert (digest.boot, digest.seq) == (record.boot, record.seq)
        kept = spool.select(digest.of, digest.first, digest.last)
        hashes = [evidence.hash_of(CODE_OF[r.leaf], r.payload) for r in kept]
        assert digest.root == evidence.root_of(hashes)
        prev = evidence.hash_of(RecordCode.DIGEST, record.payload)


@in_virtual_time
async def test_each_five_minutes_of_boot_time():
    spool = Spool()
    async with running(spool, Signer()):
        spool.add("event", "heartbeat")
        # The boot is 1000 s old: due at 1200, 1500, 1800.
        await asyncio.sleep(250)
        assert [covered(d) for d in spool.digests()] == [(spool.boot, 1, 2)]
        assert [(r.seq, r.leaf) for r in spool.handed_on] == [(3, "digest")]
        spool.add("heartbeat", "heartbeat")
        await asyncio.sleep(300)
        await asyncio.sleep(300)
    assert [covered(d) for d in spool.digests()] == [
        (spool.boot, 1, 2),
        (spool.boot, 3, 5),
    ]
    assert spool.digests()[0].at_ms == 1_200_000
    assert_chained(spool)


@in_virtual_time
async def test_nothing_but_digests_and_histograms_is_left_for_later():
    spool = Spool()
    async with running(spool, Signer()):
        spool.add("histogram")
        await asyncio.sleep(900)
        assert spool.digests() == []
        spool.add("heartbeat")
        await asyncio.sleep(300)
    assert [covered(d) for d in spool.digests()] == [(spool.boot, 1, 2)]


@in_virtual_time
async def test_the_certificate_is_said_in_each_runs_first_and_when_it_changes():
    spool, signer = Spool(), Signer()
    async with running(spool, signer):
        for name in (b"key 1", b"key 1", b"renewed"):
            signer.name = name
            spool.add("heartbeat")
            await asyncio.sleep(300)
    spool.add("heartbeat")
    async with running(spool, signer):
        await asyncio.sleep(1)
    said = [(d.certificate, d.signature) for d in spool.digests()]
    assert said == [
        (b"certificate of key 1", b"signed by key 1"),
        (None, b"signed by key 1"),
        (b"certificate of renewed", b"signed by renewed"),
        (b"certificate of renewed", b"signed by renewed"),
    ]
    assert_chained(spool)


@in_virtual_time
async def test_what_earlier_boots_left_is_covered_at_the_start():
    first, second = Spool(boot=b"boot one"), Spool(boot=b"boot two")
    first.add("event", "heartbeat", "heartbeat")
    async with running(first, Signer()):
        await asyncio.sleep(1)
    first.add("heartbeat")
    second.add("event", "heartbeat")
    spool = Spool(first, second)
    async with running(spool, Signer()):
        spool.add("event")
        await asyncio.sleep(1)
        assert [covered(d) for d in spool.digests()] == [
            (b"boot one", 4, 5),
            (b"boot two", 1, 2),
        ]
        await asyncio.sleep(300)
    assert covered(spool.digests()[2]) == (spool.boot, 1, 3)
    head = evidence.hash_of(RecordCode.DIGEST, first.last_digest().payload)
    assert_chained(spool, head)


@in_virtual_time
async def test_what_an_earlier_run_left_is_covered_at_the_start():
    spool = Spool()
    spool.add("event", "heartbeat")
    async with running(spool, Signer()):
        spool.add("event")
        await asyncio.sleep(1)
        assert [covered(d) for d in spool.digests()] == [(spool.boot, 1, 2)]


@in_virtual_time
async def test_records_that_are_gone_are_declared():
    spool = Spool()
    spool.add("event", "heartbeat", "heartbeat", "heartbeat", "heartbeat")
    for seq in (2, 3, 5):
        del spool._records[seq]
    async with running(spool, Signer()):
        await asyncio.sleep(1)
    (digest,) = spool.digests()
    assert covered(digest) == (spool.boot, 1, 5)
    assert digest.missing == ((2, 3), (5, 5))
    assert_chained(spool)


@in_virtual_time
async def test_a_clean_stop_covers_what_is_left():
    spool = Spool()
    async with running(spool, Signer()) as (digests, _):
        spool.add("event", "event")
    await digests.close()
    assert [covered(d) for d in spool.digests()] == [(spool.boot, 1, 2)]
    await digests.close()
    assert len(spool.digests()) == 1


@in_virtual_time
async def test_a_key_that_cannot_sign_is_a_trouble_and_the_records_wait():
    spool, signer = Spool(), Signer()
    signer.failing = "openssl is not installed"
    async with running(spool, signer) as (_, troubles):
        spool.add("heartbeat")
        await asyncio.sleep(300)
        assert spool.digests() == []
        (said,) = troubles.all()
        assert "openssl is not installed" in said
        spool.add("heartbeat")
        signer.failing = None
        await asyncio.sleep(RETRY_S)
        assert [covered(d) for d in spool.digests()] == [(spool.boot, 1, 2)]
        assert troubles.all() == []


@in_virtual_time
async def test_a_card_that_refuses_is_a_trouble_and_the_digest_waits():
    spool = Spool()
    async with running(spool, Signer()) as (_, troubles):
        spool.add("heartbeat")
        spool.refuses = True
        await asyncio.sleep(300)
        assert "the card is full" in troubles.all()[0]
        spool.refuses = False
        await asyncio.sleep(RETRY_S)
    assert [covered(d) for d in spool.digests()] == [(spool.boot, 1, 1)]


@in_virtual_time
async def test_a_stop_does_not_wait_for_a_key_that_hangs():
    spool, signer = Spool(), Signer()
    signer.takes_s = 3600
    digests, _ = desk(spool, signer)
    spool.add("heartbeat")
    loop = asyncio.get_running_loop()
    before = loop.time()
    await digests.close()
    assert loop.time() - before < 10
    assert spool.digests() == []


@in_virtual_time
async def test_a_record_that_takes_the_digests_number_meanwhile():
    spool, signer = Spool(), Signer()
    digests, _ = desk(spool, signer)
    spool.add("heartbeat")
    signer.meanwhile = [lambda: spool.add("event")] * 2
    await digests.close()
    (digest, *rest) = spool.digests()
    assert covered(digest) == (spool.boot, 1, 1)
    assert digest.seq == 4
    assert [covered(d) for d in rest] == [(spool.boot, 2, 4)]
    assert_chained(spool)


@in_virtual_time
async def test_without_a_key_digests_are_unsigned():
    spool = Spool()
    async with running(spool, None):
        spool.add("heartbeat")
        await asyncio.sleep(300)
    (digest,) = spool.digests()
    assert (digest.signature, digest.certificate) == (b"", None)
    assert_chained(spool)


def test_that_there_is_no_key_is_said_once(caplog):
    async def start():
        async with running(Spool(), None):
            await asyncio.sleep(2000)

    with caplog.at_level(logging.WARNING):
        virtual_time.run(start())
    assert [r.message for r in caplog.records if "not signed" in r.message] == [
        "no key in [mqtt]: digests are not signed and prove nothing of who sent"
    ]


@in_virtual_time
async def test_a_long_backlog_is_many_digests():
    spool = Spool()
    spool._max_records = 10_000
    spool.add(*["heartbeat"] * (digesting.RECORDS + 5))
    async with running(spool, Signer()):
        await asyncio.sleep(1)
    assert [covered(d) for d in spool.digests()] == [
        (spool.boot, 1, digesting.RECORDS),
        (spool.boot, digesting.RECORDS + 1, digesting.RECORDS + 5),
    ]
    assert_chained(spool)


# The real key


@pytest.fixture
def authority(tmp_path):
    return SiteAuthority(tmp_path)


def is_signed_by(digest, der):
    key = x509.load_der_x509_certificate(der).public_key()
    data = evidence.digest_to_sign(CONFIG.site.region, SITE, digest)
    key.verify(digest.signature, data, ec.ECDSA(SHA256()))
    return True


async def test_a_real_key_signs_and_its_renewal_goes_on_in_the_chain(authority):
    files = authority.issue(SITE)
    signer = SiteKey(files.key, files.certificate)
    spool = Spool()
    digests, _ = desk(spool, signer)
    spool.add("heartbeat")
    await digests.close()
    old = files.der
    authority.issue(SITE)
    spool.add("heartbeat")
    await digests.close()
    first, second = spool.digests()
    assert first.certificate == old
    assert second.certificate == files.der != old
    assert is_signed_by(first, old)
    assert is_signed_by(second, files.der)
    assert_chained(spool)


@pytest.fixture
def rsa(tmp_path):
    key, certificate = tmp_path / "rsa.key", tmp_path / "rsa.crt"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes"),
            *("-subj", f"/CN={SITE}", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    return SiteKey(key, certificate)


async def test_a_key_of_another_kind_is_a_trouble_and_no_poison(rsa):
    """Its signature is longer than the wire has room for."""
    spool = Spool()
    spool.add("heartbeat")
    digests, troubles = desk(spool, rsa)
    assert not await digests._try(None)
    assert "want ECDSA P-256" in troubles.all()[0]
    assert spool.digests() == []


async def test_half_a_renewal_signs_nothing(authority):
    files = authority.issue(SITE)
    other = authority.issue(SITE, tag="renewed")
    files.key.write_bytes(other.key.read_bytes())
    signer = SiteKey(files.key, files.certificate)
    with pytest.raises(SigningError, match="is not the key of"):
        await signer.certificate()
    files.certificate.write_bytes(other.certificate.read_bytes())
    assert await signer.certificate() == other.der


async def test_a_key_replaced_while_it_signs_is_not_believed(authority):
    files = authority.issue(SITE)
    signer = SiteKey(files.key, files.certificate)
    await signer.certificate()
    authority.issue(SITE)
    with pytest.raises(SigningError, match="was replaced just now"):
        await signer.sign(b"data")


BROKEN = {
    "no key": ("key", None, "No such file"),
    "no certificate": ("certificate", None, "No such file"),
    "a key that is none": ("key", b"nonsense", "cannot use"),
    "a certificate that is none": ("certificate", b"nonsense", "no certificate in PEM"),
    "a certificate of bytes": ("certificate", b"\xff\x00", "no certificate in PEM"),
}


@pytest.mark.parametrize(("which", "content", "said"), BROKEN.values(), ids=BROKEN)
async def test_files_that_will_not_do(authority, which, content, said):
    files = authority.issue(SITE)
    path = getattr(files, which)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SigningError, match=said):
        await SiteKey(files.key, files.certificate).certificate()
