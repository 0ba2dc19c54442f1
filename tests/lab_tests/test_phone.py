"""What the phone feels, measured through a switch made by hand."""

from __future__ import annotations

import pytest

from lab import boottime_s
from lab.topology import PROVIDERS
from support.waiting import until

pytestmark = [pytest.mark.netns]


def progress_by(phone, provider: str) -> int:
    return sum(
        mark.what == "progress" and PROVIDERS.get(mark.seen) == provider
        for mark in phone.log().upload
    )


def carried_by_telkomsel(lab, gateway):
    gateway.switch("telkomsel")
    phone = lab.phone.start()
    phone.wait_good("telkomsel")
    until(lambda: progress_by(phone, "telkomsel") >= 5)
    return phone


def test_a_healthy_site_has_no_gap(lab, gateway) -> None:
    phone = carried_by_telkomsel(lab, gateway)
    start_s = boottime_s()
    until(lambda: boottime_s() - start_s > 1)
    log = phone.stop()
    summary = phone.summary()
    assert {spell.provider for spell in summary.spells} == {"telkomsel"}
    assert len(log.attempts) >= 20
    assert summary.upload_gap is not None
    # Another's load may delay us; a site without fault still loses next to nothing.
    assert summary.bad_attempts <= 0.2 * summary.attempts


def test_a_phone_that_speaks_tls(lab, gateway) -> None:
    gateway.switch("telkomsel")
    phone = lab.phone.start(upload_bit_s=0, interval_ms=200, ca=lab.ca)
    first = phone.wait_good("telkomsel")
    lab.uplinks["telkomsel"].quota()
    until(lambda: any(a.error for a in phone.log().attempts))
    log = phone.stop()
    assert first.ok
    assert "ConnectionResetError" in {a.error for a in log.attempts}


@pytest.mark.slow
def test_the_gap_is_the_time_until_the_switch(lab, gateway) -> None:
    phone = carried_by_telkomsel(lab, gateway)
    gateway.send_resets()
    fault = lab.uplinks["telkomsel"].blackhole()
    until(lambda: boottime_s() - fault.at_s > 1)
    gateway.switch("indosat")
    switched_s = boottime_s()
    gateway.forget_connections()
    first = phone.wait_good("indosat", since_s=fault.at_s)
    # An open connection that is told so comes back by the other provider.
    until(lambda: progress_by(phone, "indosat") >= 3)
    phone.stop()
    summary = phone.summary(from_s=fault.at_s - 0.5, to_s=boottime_s())
    gap = summary.gap
    assert gap is not None
    assert not gap.open
    assert gap.from_s <= fault.at_s
    assert gap.to_s == pytest.approx(first.start_s, abs=0.3)
    assert 0.8 <= gap.gap_s <= switched_s - fault.at_s + 1.5
    assert [spell.provider for spell in summary.spells] == ["telkomsel", "indosat"]
    assert summary.upload_gap is not None
    assert summary.upload_gap.gap_s >= 0.9
    assert "ConnectionResetError" in {mark.error for mark in phone.log().upload}


@pytest.mark.slow
def test_behind_the_carrier_nat_an_open_connection_dies_unnoticed(lab, gateway) -> None:
    phone = carried_by_telkomsel(lab, gateway)
    fault = lab.uplinks["telkomsel"].blackhole()
    gateway.switch("indosat")
    gateway.forget_connections()
    phone.wait_good("indosat", since_s=fault.at_s)
    offered = lab.uplinks["indosat"].counters()["up"].delivered
    until(lambda: boottime_s() - fault.at_s > 3)
    log = phone.stop()
    # New connections work; the upload's segments reach the carrier and are dropped.
    assert lab.uplinks["indosat"].counters()["up"].delivered > offered
    after = [mark for mark in log.upload if mark.at_s > fault.at_s + 0.5]
    assert after == []
    gap = phone.summary(to_s=boottime_s()).upload_gap
    assert gap is not None
    assert gap.open
    assert gap.gap_s > 2


def test_attempts_under_way_at_the_end_are_not_lost(lab, gateway) -> None:
    phone = lab.phone.start(timeout_s=30, upload_bit_s=0)  # no default: all hang
    lab.uplinks["telkomsel"].blackhole()
    gateway.switch("telkomsel")
    start_s = boottime_s()
    until(lambda: boottime_s() - start_s > 0.6)
    log = phone.stop()
    hanging = [a for a in log.attempts if a.error == "unfinished"]
    assert hanging
    assert max(a.duration_s for a in hanging) > 0.3
    summary = phone.summary()
    assert summary.gap is not None
    assert summary.gap.open
