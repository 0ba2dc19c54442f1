"""Certificates' dates, judged by what is known of the time: real TLS, real certificates."""

import ssl
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from jaga_agent import tls
from jaga_agent.core.timekeeping import CertificateTime
from support.dated_certificates import CA_EXTENSION, HOST, Pki

NOW = datetime.now(tz=UTC)  # noqa: TID251 (certificates are judged by the real clock)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """A root, servers of it, and one whose issuer between is out of date."""
    made = Pki(tmp_path_factory.mktemp("pki"))
    made.issue("root", NOW - 1000 * DAY, 4000, extension=CA_EXTENSION)
    made.issue("good", NOW - 30 * DAY, 60, signer="root")
    made.issue("expired", NOW - 300 * DAY, 90, signer="root")
    made.issue("future", NOW + 100 * DAY, 90, signer="root")
    made.issue("middle", NOW - 300 * DAY, 90, signer="root", extension=CA_EXTENSION)
    made.issue("below", NOW - 30 * DAY, 60, signer="middle")
    below = made.path("below")
    below.write_bytes(below.read_bytes() + made.path("middle").read_bytes())
    made.issue("stranger", NOW - 30 * DAY, 60)
    return made


class Handshake:
    """A client's and a server's TLS, joined in memory."""

    def __init__(self, pki):
        self.pki = pki
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.client.load_verify_locations(pki.path("root"))
        self.servers = {}

    def __call__(self, server, when, *, host=HOST, session=None, version=None):
        """Shake hands, judge, and return the client's side; raises as the client does."""
        context = self.servers.get(server)
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.pki.path(server), self.pki.path(server, "key"))
            if version:
                context.maximum_version = version
            self.servers[server] = context
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        far = context.wrap_bio(up, down, server_side=True)
        with tls.dated(self.client, when):
            near = self.client.wrap_bio(down, up, server_hostname=host, session=session)
        self._turn(near, far)
        tls.judge(near, when)
        return near

    @staticmethod
    def _turn(near, far):
        waiting = [near.do_handshake, far.do_handshake]
        for _ in range(10):
            for step in list(waiting):
                try:
                    step()
                except ssl.SSLWantReadError:
                    continue
                waiting.remove(step)
            if not waiting:
                break
        assert not waiting
        # TLS 1.3 sends its tickets with the first words.
        far.write(b".")
        assert near.read(1) == b"."


@pytest.fixture
def handshake(pki):
    return Handshake(pki)


def at(days, *, exact):
    return CertificateTime(int((NOW + days * DAY).timestamp()), is_exact=exact)


EXPIRED, EARLY = "certificate has expired", "certificate is not yet valid"
# name: (server, what it is judged by, what is said; None: it is taken)
CASES = {
    "the clock is right, a good one": ("good", None, None),
    "the clock is right, an expired one": ("expired", None, EXPIRED),
    "the clock is right, one of the future": ("future", None, EARLY),
    "not before the floor: good": ("good", at(-100, exact=False), None),
    "not before the floor: one begins later": ("future", at(-1, exact=False), None),
    "not before the floor: it had expired by then": (
        "expired",
        at(-100, exact=False),
        EXPIRED,
    ),
    "not before the floor: it may have expired since": (
        "expired",
        at(-250, exact=False),
        None,
    ),
    "the time is known: good": ("good", at(0, exact=True), None),
    "the time is known: expired": ("expired", at(0, exact=True), EXPIRED),
    "the time is known: of the future": ("future", at(0, exact=True), EARLY),
    "the time is known: good then": ("expired", at(-250, exact=True), None),
    "the issuer between had expired": ("below", at(-1, exact=False), EXPIRED),
    "the issuer between, and OpenSSL": ("below", None, EXPIRED),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_dates(handshake, case):
    server, when, said = case
    if said is None:
        assert handshake(server, when).version() == "TLSv1.3"
        return
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        handshake(server, when)
    assert caught.value.verify_message == said


@pytest.mark.parametrize("when", [at(-1, exact=False), at(0, exact=True)])
def test_chain_and_name_are_judged_all_the_same(handshake, when):
    with pytest.raises(ssl.SSLCertVerificationError, match="self-signed certificate"):
        handshake("stranger", when)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake("good", when, host="sirekap.example")


def test_ordinary_checking_comes_back(handshake):
    assert handshake("expired", at(-250, exact=False))
    with pytest.raises(ssl.SSLCertVerificationError, match=EXPIRED):
        handshake("expired", None)
    assert not handshake.client.verify_flags & tls.NO_CHECK_TIME


@pytest.mark.parametrize("version", [None, ssl.TLSVersion.TLSv1_2], ids=["1.3", "1.2"])
def test_a_session_taken_up_is_judged_too(handshake, version):
    first = handshake("expired", at(-250, exact=False), version=version)
    again = handshake("expired", at(-250, exact=False), session=first.session)
    assert again.session_reused
    with pytest.raises(tls.CertificateDateError, match=EXPIRED):
        handshake("expired", at(0, exact=True), session=first.session)


# ---- when a card was issued

BEGINS = {
    "utc time": datetime(2026, 11, 1, 9, 8, 7, tzinfo=UTC),
    "leap day": datetime(2028, 2, 29, 23, 59, 59, tzinfo=UTC),
    "generalized time": datetime(2050, 1, 2, 3, 4, 5, tzinfo=UTC),
    "of the last century": datetime(1999, 12, 31, 0, 0, 0, tzinfo=UTC),
}


@pytest.mark.parametrize("begins", BEGINS.values(), ids=BEGINS)
def test_when_it_was_issued(tmp_path, begins):
    path = Pki(tmp_path).issue("site", begins, 30)
    said = tls.issued_s(path)
    # The clock runs on while openssl makes the key.
    assert 0 <= said - begins.timestamp() < 30
    shown = subprocess.run(
        ["openssl", "x509", "-in", str(path), "-noout", "-startdate"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert said == ssl.cert_time_to_seconds(shown.removeprefix("notBefore="))


def test_the_first_of_a_chain_counts(pki):
    assert tls.issued_s(pki.path("below")) > tls.issued_s(pki.path("middle"))


SPOILT = {
    "no PEM": b"hello",
    "a key": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    "not base64": b"-----BEGIN CERTIFICATE-----\n\xff\n-----END CERTIFICATE-----\n",
    "empty": b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    "no certificate": b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
}


@pytest.mark.parametrize("content", SPOILT.values(), ids=SPOILT)
def test_what_is_no_certificate_is_said(tmp_path, content):
    path = tmp_path / "site.crt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"site\.crt: n"):
        tls.issued_s(path)


def test_a_certificate_cut_short_anywhere_is_said(pki, tmp_path):
    der = ssl.PEM_cert_to_DER_cert(pki.path("good").read_text())
    path = tmp_path / "site.crt"
    for length in range(len(der)):
        path.write_text(ssl.DER_cert_to_PEM_cert(der[:length]))
        with pytest.raises(ValueError, match="not a certificate"):
            tls.issued_s(path)
