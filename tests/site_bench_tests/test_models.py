"""The models do what the originals' documents say."""

from __future__ import annotations

import pytest

from site_bench import models
from site_bench.models import OPNSENSE, PFSENSE, Dpinger, Mwan3


def warmed(settings, rtt_s=0.02):
    pinger = Dpinger(settings)
    number = pinger.prefill(rtt_s, 1000.0)
    return pinger, number


def alarm_after_s(settings, outcome, until_s=120):
    """Ping from 1000 s on; when the alarm's look (each second) finds it."""
    pinger, number = warmed(settings)
    step, steps = settings.send_interval_s, int(until_s / settings.send_interval_s)
    for n in range(steps):
        now_s = 1000.0 + n * step
        pinger.sent(number + n, now_s)
        rtt_s = outcome(n)
        if rtt_s is not None:
            pinger.answered(number + n, rtt_s)
        if pinger.alarm(now_s):
            return now_s - 1000.0
    return None


# Measured with the original on a silent line: 15 s and 16 s.
@pytest.mark.parametrize(
    ("settings", "seconds"), [(PFSENSE, (13, 15)), (OPNSENSE, (15, 18))]
)
def test_dpinger_takes_as_long_as_the_original(settings, seconds):
    assert seconds[0] <= alarm_after_s(settings, lambda _: None) <= seconds[1]


def test_dpinger_takes_a_late_reply_for_an_answer():
    pinger, number = warmed(PFSENSE)
    for n in range(30):
        pinger.sent(number + n, 1000.0 + n * 0.5)
    assert pinger.alarm(1017.0)
    for n in range(30):
        pinger.answered(number + n, 0.3)
    assert pinger.loss_ratio(1017.0) == 0
    assert not pinger.alarm(1017.0)


def test_dpinger_averages_the_delay():
    # 1.5 s on a line of 20 ms: the mean of the window passes 500 ms after a third.
    assert 17 <= alarm_after_s(PFSENSE, lambda _: 1.5) <= 22
    assert alarm_after_s(PFSENSE, lambda _: 0.4) is None


def test_dpinger_forgets_what_left_its_window():
    pinger, number = warmed(PFSENSE)
    pinger.sent(number, 2000.0)
    assert pinger.latency_s() is None
    pinger.answered(5, 1.0)  # an answer to what is forgotten
    assert pinger.latency_s() is None


def test_mwan3_is_offline_after_five_and_back_after_five():
    tracker = Mwan3()
    assert [tracker.round(False) for _ in range(5)] == [True] * 4 + [False]
    assert [tracker.round(True) for _ in range(5)] == [False] * 4 + [True]
    assert tracker.score == 10


def test_mwan3_starts_over_with_each_good_round():
    tracker = Mwan3()
    for _ in range(50):
        assert all(tracker.round(good) for good in (False, False, False, False, True))


@pytest.mark.parametrize(
    ("answer", "full"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nNetworkManager is online\n", True),
        (b"HTTP/1.1 204 No\r\nX-NetworkManager-Status: online\r\n\r\n", True),
        (b"HTTP/1.1 302 Found\r\nLocation: http://portal.invalid/\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>Kuota habis</html>", False),
        (b"", False),
    ],
)
def test_networkmanager_wants_its_own_answer(answer, full):
    assert models.nm_full(answer) is full


@pytest.mark.parametrize(
    ("down", "current", "wanted"),
    [
        ([False, False, False], 1, 0),
        ([True, False, False], 0, 1),
        ([True, True, False], 0, 2),
        ([True, True, True], 1, 1),
    ],
)
def test_the_first_usable_tier(down, current, wanted):
    assert models.first_usable(down, current) == wanted
