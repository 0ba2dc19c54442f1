"""The judge of orders: tables, and what must hold whatever comes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_agent.core import orders
from jaga_agent.core.model import Mode, UplinkName
from jaga_agent.core.orders import Asked, Here, Memory, Past, judge
from jaga_agent.core.reason import Reason
from jaga_agent.wire.orders import ACTIONS, ORDER_ID_BYTES

NOW_MS = 1_796_000_000_000
BOOT, OTHER_BOOT = b"bootboot", b"another!"
UPLINKS = (UplinkName("telkomsel"), UplinkName("xl"))
HERE = Here("6408", "kpu-kutim", BOOT, 900_000, NOW_MS, UPLINKS)
CLOCKLESS = replace(HERE, wall_ms=None)
ORDER = Asked(
    id=b"x" * ORDER_ID_BYTES,
    region="6408",
    site="kpu-kutim",
    operator="ani",
    counter=NOW_MS * 1000,
    issued_ms=NOW_MS - 2000,
    expires_ms=NOW_MS + 58_000,
    action="switch-to",
    arguments={"uplink": "xl"},
    boot=BOOT,
    boot_expires_ms=960_000,
)
USED = Memory(counters={"ani": ORDER.counter, "budi": 7})


def code(verdict):
    outcome = verdict.outcome
    return outcome.code if isinstance(outcome, Reason) else type(outcome).__name__


def changed(**changes):
    return replace(ORDER, **changes)


# name: (order, here, memory, signed) → (code or task, whether the counter is used up)
CASES = {
    "good": (ORDER, HERE, Memory(), True, "SwitchTo", True),
    "not signed": (ORDER, HERE, Memory(), False, "order.forged", False),
    "another site": (changed(site="tps-1"), HERE, Memory(), True, "order.elsewhere", False),
    "another region": (changed(region="64"), HERE, Memory(), True, "order.elsewhere", False),
    "repeated": (ORDER, HERE, USED, True, "order.repeated", False),
    "older": (changed(counter=5), HERE, USED, True, "order.repeated", False),
    "same id, newer": (
        ORDER,
        HERE,
        Memory(recent=(Past(ORDER.id.hex(), "ani", "hold", 2, ""),)),
        True,
        "order.repeated",
        False,
    ),
    "another operator's counter": (
        ORDER, HERE, Memory(counters={"budi": 2**62}), True, "SwitchTo", True,
    ),
    "after the memory was lost": (
        ORDER, HERE, orders.lost(NOW_MS), True, "order.repeated", False,
    ),
    "expired": (
        changed(expires_ms=NOW_MS - 1), HERE, Memory(), True, "order.stale", True,
    ),
    "expires now": (changed(expires_ms=NOW_MS), HERE, Memory(), True, "SwitchTo", True),
    "from the future": (
        changed(issued_ms=NOW_MS + 300_001, expires_ms=NOW_MS + 400_000),
        HERE, Memory(), True, "order.early", False,
    ),
    "counter from the future": (
        changed(counter=(NOW_MS + 400_000) * 1000),
        HERE, Memory(), True, "order.early", False,
    ),
    "a little ahead": (
        changed(issued_ms=NOW_MS + 299_000, expires_ms=NOW_MS + 400_000),
        HERE, Memory(), True, "SwitchTo", True,
    ),
    "valid for ever": (
        changed(expires_ms=NOW_MS + 2 * 86_400_000),
        HERE, Memory(), True, "order.endless", True,
    ),
    "no clock, this boot": (ORDER, CLOCKLESS, Memory(), True, "SwitchTo", True),
    "no clock, another boot": (
        changed(boot=OTHER_BOOT), CLOCKLESS, Memory(), True, "order.no_clock", True,
    ),
    "no clock, no boot": (
        changed(boot=None, boot_expires_ms=None),
        CLOCKLESS, Memory(), True, "order.no_clock", True,
    ),
    "no clock, too late": (
        changed(boot_expires_ms=899_999), CLOCKLESS, Memory(), True, "order.stale", True,
    ),
    "a clock, and too late by it": (
        changed(expires_ms=NOW_MS - 1, boot_expires_ms=2**40),
        HERE, Memory(), True, "order.stale", True,
    ),
    "no such action": (
        changed(action="format-card"), HERE, Memory(), True, "order.unknown", True,
    ),
    "no argument": (changed(arguments={}), HERE, Memory(), True, "order.arguments", True),
    "one too many": (
        changed(arguments={"uplink": "xl", "now": "yes"}),
        HERE, Memory(), True, "order.arguments", True,
    ),
    "no such uplink": (
        changed(arguments={"uplink": "axis"}),
        HERE, Memory(), True, "order.arguments", True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_case(case):
    order, here, memory, signed, wanted, spends = case
    verdict = judge(order, here, memory, signed=signed)
    assert (code(verdict), verdict.spends) == (wanted, spends)


TASKS = {
    ("probe-now",): orders.ProbeNow(),
    ("switch-to", "uplink", "xl"): orders.SwitchTo(UPLINKS[1]),
    ("hold", "for_s", "900"): orders.Hold(900),
    ("hold", "for_s", "0"): orders.Hold(0),
    ("set-mode", "mode", "dormant"): orders.SetMode(Mode.DORMANT),
    ("send-diagnostics",): orders.SendDiagnostics(),
    ("reboot-modem", "uplink", "telkomsel"): orders.RebootModem(UPLINKS[0]),
    ("apply-configuration", "toml", "x = 1"): orders.ApplyConfiguration("x = 1"),
}


@pytest.mark.parametrize("words", TASKS, ids=" ".join)
def test_task(words):
    action, *pair = words
    arguments = dict([pair]) if pair else {}
    order = changed(action=action, arguments=arguments)
    assert judge(order, HERE, Memory(), signed=True).outcome == TASKS[words]


@pytest.mark.parametrize("for_s", ["", "-1", "1.5", "1e3", "86401", "٣", "9" * 40])
def test_a_hold_of_no_sensible_length(for_s):
    order = changed(action="hold", arguments={"for_s": for_s})
    assert code(judge(order, HERE, Memory(), signed=True)) == "order.arguments"


def test_the_closed_list_is_the_contract_s():
    assert {name: wanted for name, (wanted, _) in orders.TASKS.items()} == ACTIONS


@pytest.mark.parametrize("name", ["", ".", "..", "../ani", "a/b", ".ani", "a\n", "ü"])
def test_no_operator_s_name_leads_out_of_the_folder(name):
    assert not orders.OPERATOR.fullmatch(name)


ANY = st.builds(
    Asked,
    id=st.binary(min_size=16, max_size=16),
    region=st.sampled_from(["6408", "64"]),
    site=st.sampled_from(["kpu-kutim", "tps-1"]),
    operator=st.sampled_from(["ani", "budi"]),
    counter=st.integers(0, 5) | st.integers(0, 2**63 - 1),
    issued_ms=st.integers(NOW_MS - 10**6, NOW_MS + 10**6),
    expires_ms=st.integers(NOW_MS - 10**6, NOW_MS + 10**6),
    action=st.sampled_from([*orders.TASKS, "x"]),
    arguments=st.dictionaries(
        st.sampled_from(["uplink", "for_s", "mode", "toml", "y"]), st.text(max_size=9)
    ),
    boot=st.sampled_from([None, BOOT, OTHER_BOOT]),
    boot_expires_ms=st.none() | st.integers(0, 2 * 10**6),
)
PLACES = st.sampled_from([HERE, CLOCKLESS])


@given(st.lists(st.tuples(ANY, PLACES), max_size=12))
def test_nothing_is_done_twice_in_whatever_order_it_comes(asked):
    memory, done = Memory(), []
    for order, here in asked * 2:
        verdict = judge(order, here, memory, signed=True)
        if verdict.spends:
            memory = memory.spent(order)
        if not isinstance(verdict.outcome, Reason):
            assert verdict.spends
            done.append((order.operator, order.counter))
    assert len(done) == len(set(done))


@given(ANY, PLACES)
def test_what_is_refused_stays_refused_when_the_circumstances_change(order, here):
    verdict = judge(order, here, Memory(), signed=True)
    if isinstance(verdict.outcome, Reason) and verdict.spends:
        later = Memory().spent(order)
        for place in (HERE, CLOCKLESS):
            assert not judge(order, place, later, signed=True).spends


@given(ANY, PLACES)
def test_unsigned_nothing_is_obeyed_and_nothing_is_used_up(order, here):
    verdict = judge(order, here, Memory(), signed=False)
    assert (code(verdict), verdict.spends) == ("order.forged", False)


@given(st.integers(0, 10**7))
def test_after_the_memory_was_lost_nothing_old_counts_and_something_new_does(later_ms):
    memory = orders.lost(NOW_MS)
    at_ms = NOW_MS + later_ms
    order = changed(counter=at_ms * 1000, issued_ms=at_ms, expires_ms=at_ms + 1000)
    verdict = judge(order, replace(HERE, wall_ms=at_ms), memory, signed=True)
    assert isinstance(verdict.outcome, Reason) == (later_ms <= orders.EARLY_MS)
    assert orders.lost(None) is None


def test_only_so_many_outcomes_are_remembered_and_each_once():
    memory = Memory()
    for number in range(40):
        for outcome in (1, 2):
            memory = memory.with_past(Past(f"{number:02}", "ani", "hold", outcome, ""))
    assert [p.id for p in memory.recent] == [f"{n:02}" for n in range(24, 40)]
    assert {p.code for p in memory.recent} == {2}
