"""Checks on the real kernel, against real servers, with the faults made by nftables."""

import asyncio
import subprocess
import time

import pytest

from jaga_agent.adapters.checks import Caps, UplinkChecker
from jaga_agent.adapters.clock import BoottimeClock
from jaga_agent.core.timekeeping import CertificateTime
from support.certificates import Authority
from support.check_site import (
    HOST,
    NAME,
    PORTAL,
    RESET_AFTER_HELLO,
    RESOLVERS,
    SHORT,
    everything,
    reached,
    verdict,
)
from support.far_side import OK, dns_answer

pytestmark = pytest.mark.netns

# ---- what works

ALL = ["dns_s", "connect_s", "tls_s", "first_byte_s"]


RIGHT = {
    "tcp by address": (f"tcp://{HOST}:7000", ["connect_s"], ""),
    "tcp by name": (f"tcp://{NAME}:7000", ["dns_s", "connect_s"], ""),
    "dns": ("dns://192.0.2.53/kpu.go.id", ["dns_s"], "203.0.113.9"),
    "tls": (f"tls://{NAME}:443", ["dns_s", "connect_s", "tls_s"], "TLSv1.3"),
    "http": (f"http://{NAME}/", ["dns_s", "connect_s", "first_byte_s"], "HTTP 200"),
    "https": (f"https://{NAME}/", ALL, "HTTP 200"),
}


@pytest.mark.parametrize("case", RIGHT.values(), ids=RIGHT)
def test_what_works_is_ok_with_its_phases(site, far, cert, case):
    url, phases, said = case
    everything(far, cert)
    outcome = site.one(url)
    assert (verdict(outcome), outcome.detail) == ("ok", said)
    assert reached(outcome) == phases
    for phase in phases:
        assert 0 < getattr(outcome.phases, phase) < 5
    assert outcome.wire_bytes > 100


def test_each_device_has_its_own_path(site, far, cert):
    everything(far, cert)
    site.rule('iifname "far0" tcp dport 443 reject with tcp reset')
    target = site.target(f"https://{NAME}/")
    outcomes = site.check(("wan0", target), ("wan1", target))
    assert [verdict(o) for o in outcomes] == ["refused", "ok"]


def test_the_text_is_looked_for_and_a_body_only_then(site, far, cert):
    everything(far, cert)
    assert verdict(site.one(f"https://{NAME}/", expect_text="Sirekap")) == "ok"
    assert verdict(site.one(f"https://{NAME}/", expect_text="Kuota")) == "unexpected"
    assert verdict(site.one(f"https://{NAME}/")) == "ok"
    assert [request[:4] for request in far.requests] == [b"GET ", b"GET ", b"HEAD"]


def test_a_long_page_is_left_after_4_kib(site, far):
    page = b"HTTP/1.1 200 OK\r\n\r\n" + b"Sirekap" + b"." * 300_000
    far.web(HOST, 80, answer=page)
    outcome = site.one(f"http://{HOST}/", expect_text="Sirekap")
    assert verdict(outcome) == "ok"
    assert outcome.wire_bytes < 20_000


def test_a_server_that_refuses_head_is_asked_again_with_get(site, far):
    far.web(
        HOST,
        80,
        answer=lambda request: (
            b"HTTP/1.1 405 No\r\n\r\n" if request.startswith(b"HEAD") else OK
        ),
    )
    assert site.one(f"http://{HOST}/").detail == "HTTP 200"


# ---- faults of the path and the server

FAULTS = {
    "a closed port": ("tcp://192.0.2.1:9", None, "refused", "connection refused"),
    "a router that knows no way": (
        "tcp://198.51.100.1:443",
        None,
        "unreachable",
        "no route to host (ICMP 3/1 from 10.9.0.1)",
    ),
    "a firewall that forbids by ICMP": (
        f"https://{HOST}/",
        "tcp dport 443 reject with icmp admin-prohibited",
        "unreachable",
        "(ICMP 3/13 from 192.0.2.1)",
    ),
    "a firewall that closes ports by ICMP": (
        f"https://{HOST}/",
        "tcp dport 443 reject",
        "unreachable",
        "connection refused (ICMP 3/3 from 192.0.2.1)",
    ),
    "a black hole": (
        f"https://{HOST}/",
        "tcp dport 443 drop",
        "timeout",
        "no answer to the connection request in 0.6 s",
    ),
    "TLS reset after the ClientHello": (
        f"https://{NAME}/",
        RESET_AFTER_HELLO,
        "reset",
        "connection reset by peer",
    ),
    "the ClientHello swallowed": (
        f"https://{NAME}/",
        "tcp dport 443 meta length > 100 drop",
        "timeout",
        "no answer to the TLS handshake in 0.6 s",
    ),
    "HTTP swallowed": (
        f"http://{NAME}/",
        "tcp dport 80 meta length > 100 drop",
        "timeout",
        "no answer to the HEAD request in 0.6 s",
    ),
    "DNS dead": (
        f"https://{NAME}/",
        "udp dport 53 drop",
        "dns-failed",
        "no answer from 192.0.2.53, 192.0.2.54 in 1.5 s",
    ),
    "DNS dead, asked itself": (
        "dns://192.0.2.53/kpu.go.id",
        "udp dport 53 drop",
        "dns-failed",
        "no answer from 192.0.2.53 in 1.5 s",
    ),
    "no name server there": (
        "dns://192.0.2.1/kpu.go.id",
        None,
        "unreachable",
        "192.0.2.1: connection refused (ICMP 3/3 from 192.0.2.1)",
    ),
    "no such name": (
        "https://other.example/",
        None,
        "dns-failed",
        "192.0.2.53 knows no IPv4 address; 192.0.2.54: connection refused",
    ),
}


@pytest.mark.parametrize("case", FAULTS.values(), ids=FAULTS)
def test_faults(site, far, cert, case):
    url, rule, wanted, said = case
    everything(far, cert)
    if rule:
        site.rule(rule)
    outcome = site.one(url, caps=SHORT)
    assert verdict(outcome) == wanted, outcome.detail
    assert said in outcome.detail
    assert outcome.wire_bytes > 0


def test_an_expired_certificate_and_a_pi_that_does_not_know_the_time(
    site, far, authority
):
    expired = authority.issue("expired", NAME, days=0)
    far.dns(RESOLVERS[0][0], {NAME: HOST})
    far.web(HOST, 443, cert=expired)
    target = site.target(f"https://{NAME}/")
    # Its validity ended in the second in which it was issued.
    subprocess.run(["sleep", "1.1"], check=True)
    (outcome,) = site.check(("wan0", target))
    assert verdict(outcome) == "certificate"
    assert outcome.detail == "certificate: certificate has expired"
    now_s = int(time.time())  # noqa: TID251 (certificates are judged by the real clock)
    # All that is known: it is later than yesterday, when the card was issued.
    site.clock.judged_by = CertificateTime(now_s - 86400, is_exact=False)
    assert verdict(site.one(f"https://{NAME}/")) == "ok"
    site.clock.judged_by = CertificateTime(now_s + 86400, is_exact=False)
    outcome = site.one(f"https://{NAME}/")
    assert outcome.detail == "certificate: certificate has expired"
    site.clock.judged_by = CertificateTime(now_s - 86400, is_exact=True)
    outcome = site.one(f"https://{NAME}/")
    assert outcome.detail == "certificate: certificate is not yet valid"
    site.clock.judged_by = CertificateTime(now_s - 86400, is_exact=False)
    far.web(HOST, 444, cert=authority.issue("old-other", "other.example", days=0))
    assert verdict(site.one(f"https://{NAME}:444/")) == "certificate"


DATE = b"Sun, 06 Nov 2094 08:49:37 GMT"
DATE_S = 3_939_871_777
DATES = {
    "https": ("https://{}/", b"Date: %s\r\n" % DATE, DATE_S),
    "https, a GET": ("https://{}/", b"Date: %s\r\n" % DATE, DATE_S),
    "http proves nothing": ("http://{}/", b"Date: %s\r\n" % DATE, None),
    "from a cache": ("https://{}/", b"Date: %s\r\nAge: 7\r\n" % DATE, None),
    "fresh from a cache": ("https://{}/", b"Date: %s\r\nAge: 0\r\n" % DATE, DATE_S),
    "none": ("https://{}/", b"", None),
    "an obsolete form": (
        "https://{}/",
        b"Date: Sunday, 06-Nov-94 08:49:37 GMT\r\n",
        None,
    ),
    "no date": ("https://{}/", b"Date: Sun, 41 Foo 2094 08:49:37 GMT\r\n", None),
    "a portal's redirect, certificate verified": (
        "https://{}/",
        b"Location: https://elsewhere.example/\r\nDate: %s\r\n" % DATE,
        DATE_S,
    ),
}


@pytest.mark.parametrize("name", DATES)
def test_the_date_of_a_verified_answer_is_a_reading_of_the_time(site, far, cert, name):
    url, header, wanted_s = DATES[name]
    status = b"302 Found" if b"Location" in header else b"200 OK"
    answer = b"HTTP/1.1 %s\r\n%sContent-Length: 7\r\n\r\nSirekap" % (status, header)
    far.dns(RESOLVERS[0][0], {NAME: HOST})
    far.web(HOST, 443, cert=cert, answer=answer)
    far.web(HOST, 80, answer=answer)
    site.clock = BoottimeClock()
    site.clock.certificate_time = lambda: None
    began_ns = site.clock.stamp().boot_ns
    more = {"expect_text": "Sirekap"} if "GET" in name else {}
    outcome = site.one(url.format(NAME), **more)
    ended_ns = site.clock.stamp().boot_ns
    if wanted_s is None:
        assert outcome.time is None
        return
    of = outcome.time
    assert of.source.value == "http-date"
    assert began_ns < of.boot_ns < ended_ns
    # Half a second of resolution, half the time that the check took.
    assert 500_000_000 <= of.uncertainty_ns <= 500_000_000 + (ended_ns - began_ns) // 2
    utc_s = (of.epoch_ns + of.boot_ns) / 1e9
    assert abs(utc_s - wanted_s - 0.5) <= of.uncertainty_ns / 1e9


def test_the_date_of_a_server_that_is_not_the_right_one_is_nothing(
    site, far, authority, cert, tmp_path
):
    far.dns(RESOLVERS[0][0], {NAME: HOST})
    answer = b"HTTP/1.1 200 OK\r\nDate: %s\r\n\r\n" % DATE
    far.web(HOST, 443, cert=Authority(tmp_path / "ca").issue("x", NAME), answer=answer)
    outcome = site.one(f"https://{NAME}/")
    assert (verdict(outcome), outcome.time) == ("certificate", None)


def test_the_wrong_server(site, far, authority, cert, tmp_path):
    far.dns(RESOLVERS[0][0], {NAME: HOST})
    far.web(HOST, 443, cert=authority.issue("other", "other.example"))
    far.web(HOST, 444, cert=Authority(tmp_path / "ca").issue("x", NAME))
    far.raw(HOST, 445, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    other, stranger, plain = (
        site.one(f"tls://{NAME}:{port}") for port in (443, 444, 445)
    )
    assert [verdict(o) for o in (other, stranger, plain)] == ["certificate"] * 3
    assert "Hostname mismatch" in other.detail
    assert "unable to get local issuer certificate" in stranger.detail
    system = site.one(f"tls://{NAME}:444", ca=None)
    assert verdict(system) == "certificate"
    assert reached(system) == ["dns_s", "connect_s"]


def test_a_ca_file_that_cannot_be_used_is_no_fault_of_the_path(site, far, cert):
    everything(far, cert)
    outcome = site.one(f"tls://{NAME}:443", ca="/nonexistent")
    assert verdict(outcome) == "not-sent"
    assert outcome.detail.startswith("the CA file /nonexistent cannot be used: no such")


def test_quota_used_up_dns_answers_http_goes_to_the_portal_tls_is_reset(
    site, far, cert
):
    everything(far, cert)
    far.web(
        PORTAL,
        80,
        answer=b"HTTP/1.1 302 Found\r\nLocation: http://portal.example/?u=x\r\n\r\n",
    )
    site.to_portal(80)
    site.rule(RESET_AFTER_HELLO)
    outcomes = site.check(
        ("wan0", site.target("dns://192.0.2.53/kpu.go.id")),
        ("wan0", site.target(f"tcp://{NAME}:443")),
        ("wan0", site.target(f"http://{NAME}/")),
        ("wan0", site.target(f"https://{NAME}/")),
    )
    assert [verdict(o) for o in outcomes] == ["ok", "ok", "redirected", "reset"]
    assert outcomes[2].detail == "HTTP 302 to portal.example"


def test_a_portal_that_takes_tls_too_has_the_wrong_certificate(
    site, far, cert, authority
):
    everything(far, cert)
    far.web(PORTAL, 443, cert=authority.issue("portal", "portal.example"))
    target = site.target(f"https://{NAME}/")
    # Also with a session at hand that the portal cannot take up.
    outcomes = site.check(
        ("wan0", target), ("wan0", target), between=lambda: site.to_portal(443)
    )
    assert [verdict(o) for o in outcomes] == ["ok", "certificate"]
    assert "Hostname mismatch" in outcomes[1].detail


# ---- names


def test_the_next_server_is_asked_when_one_fails_or_is_silent(site, far, cert):
    far.dns(RESOLVERS[0][0], {}, rcode=2)
    far.dns(RESOLVERS[1][0], {NAME: HOST})
    far.tcp(HOST, 7000)
    assert verdict(site.one(f"tcp://{NAME}:7000")) == "ok"
    site.rule("ip daddr 192.0.2.53 drop")
    outcome = site.one(f"tcp://{NAME}:7000")
    assert verdict(outcome) == "ok"
    assert 0.9 < outcome.phases.dns_s < 5
    assert far.questions[0] == ("192.0.2.53", NAME)
    assert far.questions[-1] == ("192.0.2.54", NAME)


def test_a_question_that_was_lost_is_asked_again(site, far):
    far.dns(RESOLVERS[0][0], {"kpu.go.id": "203.0.113.9"})
    site.rule(
        "udp dport 53 limit rate over 1/minute burst 1 packets accept\n"
        "udp dport 53 drop"
    )
    outcome = site.one("dns://192.0.2.53/kpu.go.id")
    assert verdict(outcome) == "ok"
    assert outcome.phases.dns_s > 0.9


def test_forged_answers_are_not_believed(site, far):
    def forge(question):
        other_number = bytes([question[0] ^ 1]) + question[1:]
        other_name = question.replace(b"kpu", b"kpv")
        lie = "203.0.113.66"
        return [
            dns_answer(other_number, lie),
            dns_answer(other_name, lie),
            question,
            b"",
            b"\xc0" * 300,
        ]

    far.dns(RESOLVERS[0][0], {"kpu.go.id": "203.0.113.9"}, before=forge)
    outcome = site.one("dns://192.0.2.53/kpu.go.id")
    assert (verdict(outcome), outcome.detail) == ("ok", "203.0.113.9")


def test_an_answer_that_cannot_be_true(site, far):
    far.dns(RESOLVERS[0][0], {NAME: "192.168.8.1"})
    outcome = site.one("dns://192.0.2.53/sirekap.example")
    assert verdict(outcome) == "dns-failed"
    assert outcome.detail == "192.0.2.53 says 192.168.8.1, which cannot be true"


@pytest.mark.slow
def test_a_dead_resolver_does_not_hide_a_path_that_works(site, far, cert):
    everything(far, cert)
    target = site.target(f"https://{NAME}/")
    first, second, other = site.check(
        ("wan0", target),
        ("wan1", target),
        ("wan1", site.target("https://www.kpu.example/")),
        caps=SHORT,
        between=lambda: site.rule("udp dport 53 drop"),
    )
    assert reached(first) == ALL
    assert verdict(second) == "ok"
    assert reached(second) == ALL[1:]
    assert second.detail == (
        "DNS failed (no answer from 192.0.2.53, 192.0.2.54 in 1.5 s), "
        f"went to {HOST} as before; HTTP 200"
    )
    assert verdict(other) == "dns-failed"


# ---- what says nothing of the path


@pytest.mark.slow
def test_not_sent(site, wire, far):
    far.tcp(HOST, 7000)
    url = f"tcp://{HOST}:7000"
    gone = site.one(url, device="wan7")
    assert (verdict(gone), gone.detail) == ("not-sent", "wan7 is gone")
    wire.ip(wire.here, "link", "set", "wan1", "down")
    down = site.one(url, device="wan1")
    assert (verdict(down), down.detail) == ("not-sent", "wan1 is down")
    wire.ip(wire.there, "link", "set", "far0", "down")
    idle = site.one(url)
    assert (verdict(idle), idle.detail) == ("not-sent", "wan0 has no carrier")
    wire.ip(wire.there, "link", "set", "far0", "up")
    wire.ip(wire.here, "addr", "flush", "dev", "wan0")
    nameless = site.one(url)
    assert verdict(nameless) == "not-sent"
    assert nameless.detail == "wan0 has no IPv4 address"
    assert nameless.wire_bytes == 0


@pytest.mark.slow
def test_a_gateway_that_is_gone(site, wire, far):
    wire.ip(wire.there, "addr", "flush", "dev", "far0")
    outcome = site.one(f"tcp://{HOST}:7000")
    assert verdict(outcome) == "unreachable"
    assert outcome.detail == "no route to host (the next hop does not answer ARP)"


@pytest.mark.slow
def test_a_cable_pulled_meanwhile_is_no_silence_of_the_path(site, wire, far):
    far.web(HOST, 80)
    site.rule("tcp dport 80 meta length > 100 drop")

    async def main():
        told = asyncio.Queue()

        class Listener:
            def checked(self, check_id, outcome):
                told.put_nowait(outcome)

        # The kernel takes up to a second to tell of a carrier (linkwatch).
        caps = Caps(answer_s=2.5)
        checker = UplinkChecker(Listener(), site.clock, RESOLVERS, caps)
        checker.send(1, "wan0", site.target(f"http://{HOST}/"))
        await asyncio.sleep(0.2)
        wire.ip(wire.there, "link", "set", "far0", "down")
        return await asyncio.wait_for(told.get(), 10)

    outcome = wire.run(main)
    assert (verdict(outcome), outcome.detail) == ("not-sent", "wan0 has no carrier")


def test_closed_means_silent_and_nothing_left_open(site, wire, far):
    site.rule("tcp dport 80 drop\nudp dport 53 drop")

    async def main():
        told = []

        class Listener:
            def checked(self, *what):
                told.append(what)

        checker = UplinkChecker(Listener(), site.clock, RESOLVERS)
        checker.send(1, "wan0", site.target(f"http://{HOST}/"))
        checker.send(2, "wan0", site.target("dns://192.0.2.54/kpu.go.id"))
        await asyncio.sleep(0.1)
        checker.close()
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()}, timeout=5)
        return told

    assert wire.run(main) == []
    sockets = subprocess.run(
        ["ip", "netns", "exec", wire.here, "ss", "-Htuan"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert sockets.stdout == ""
