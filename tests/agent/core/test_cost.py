"""What probes put on the wire: counted by kind, for 24 hours."""

import pytest

from jaga_agent.core.cost import ICMP_ERROR_BYTES, PULSES, Spent
from jaga_agent.core.model import Instant, UplinkName

A, B = UplinkName("a"), UplinkName("b")
HOUR = 3600.0


def at(hours):
    return Instant(1e6 * HOUR + hours * HOUR)


def test_sizes():
    assert (PULSES["icmp"].request_bytes, PULSES["icmp"].both_bytes) == (32, 64)
    assert PULSES["udp-echo"].both_bytes == 2 * (20 + 8 + 40)


# name: (what becomes of one ping, IP bytes)
FATES = {
    "nothing": (lambda s: None, 32),
    "answered": (lambda s: s.answered(1, at(0)), 64),
    "answered twice": (lambda s: [s.answered(1, at(0)) for _ in range(2)], 64),
    "refused": (lambda s: s.refused(1, at(0)), 32 + ICMP_ERROR_BYTES),
    "not sent": (lambda s: s.not_sent(1, at(0)), 0),
    "another's answer": (lambda s: s.answered(2, at(0)), 32),
}


@pytest.mark.parametrize(("fate", "want"), FATES.values(), ids=FATES)
def test_a_ping(fate, want):
    spent = Spent()
    spent.sent(1, A, "icmp", at(0))
    fate(spent)
    assert spent.by_kind(A, at(0)) == {"icmp": want}
    assert spent.by_kind(B, at(0)) == {}


def test_it_is_forgotten_after_a_day():
    spent = Spent()
    spent.sent(1, A, "icmp", at(0.5))
    spent.add(A, "tls", 5000, at(1.5))
    assert spent.by_kind(A, at(23.9)) == {"icmp": 32, "tls": 5000}
    assert spent.of(A, at(24.9)) == 5000
    assert spent.of(A, at(25.1)) == 0


def test_those_never_answered_are_not_remembered_for_ever():
    spent = Spent()
    for probe_id in range(3000):
        spent.sent(probe_id, A, "icmp", at(0))
    spent.answered(0, at(0))
    assert spent.of(A, at(0)) == 3000 * 32
    spent.answered(2999, at(0))
    assert spent.of(A, at(0)) == 3001 * 32
