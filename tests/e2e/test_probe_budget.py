"""What an idle site's probes take of each uplink: the kernel's count, and the allowance.

Nothing is extrapolated from noise: each pulse that the agent's journal holds must be in
the kernel's count with the bytes of the table, and each interval must be one that the
day's allowance pays for.
"""

import contextlib
import itertools
import json
import time

import pytest

from demo.stage import BIN, agent_config
from jaga_agent.adapters import journal
from jaga_agent.core import governor
from jaga_agent.core.actions import SelectUplink, SendProbe
from jaga_agent.core.cost import PULSES
from jaga_agent.core.events import CheckDone, CheckVerdict, ProbeAnswered, TrafficSeen
from jaga_agent.core.model import Mode
from jaga_agent.core.pace import CARRIED_RATIO
from lab import Lab
from lab.namespace import end
from lab.topology import SIREKAP, UPLINKS
from support.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(260)]

ICMP = PULSES["icmp"]
DAY_S = 86_400
CHECKS_A_DAY_BYTES = 700_000
CHECK_INTERVAL_S = 900
SETTLED_S = 12.0
"""After the last first check: what it carried pays for no more pulses."""
# mode: (bytes of pulses a day, seconds watched: two intervals at least)
MODES = {Mode.POLLING_DAY: (500_000, 65.0), Mode.DORMANT: (100_000, 140.0)}


def counting():
    """Return a table that counts the echoes of each uplink, by direction."""
    names = [f"{way}_{plan.device}" for plan in UPLINKS for way in ("out", "in")]
    counters = "".join(f"counter {name} {{ }}\n" for name in names)
    out, back = (
        "".join(
            f'{key} "{plan.device}" icmp type {kind} counter name {way}_{plan.device}\n'
            for plan in UPLINKS
        )
        for key, kind, way in (
            ("oifname", "echo-request", "out"),
            ("iifname", "echo-reply", "in"),
        )
    )
    return (
        f"table inet weigh {{\n{counters}"
        "chain out { type filter hook postrouting priority 0; policy accept;\n"
        f"{out}}}\n"
        "chain back { type filter hook prerouting priority 0; policy accept;\n"
        f"{back}}}\n}}\n"
    )


def counted(lab):
    listed = json.loads(lab.pi.run(["nft", "-j", "list", "counters"]).stdout)[
        "nftables"
    ]
    return {
        each["counter"]["name"]: (each["counter"]["packets"], each["counter"]["bytes"])
        for each in listed
        if each.get("counter", {}).get("table") == "weigh"
    }


def config(lab, home, mode):
    """Return the demo's site with the pulses' own pace, and a check over TLS."""
    text = agent_config("tps-6408010001-001", home, (20, 40))
    assert "probe_interval_s = 2\n" in text
    assert '"polling-day"' in text
    text = text.replace("probe_interval_s = 2\n", "")
    text = text.replace('"polling-day"', f'"{mode.value}"')
    return text + (
        f'\n[[target]]\nname = "sirekap-web"\nurl = "https://{SIREKAP}/"\n'
        f'ca = "{lab.ca}"\n'
    )


class Site:
    """A lab whose agent is alone in it, and whose echoes the kernel counts."""

    def __init__(self, stack, mode):
        self.lab = stack.enter_context(Lab.create())
        stack.callback(self.lab.start_broker().stop)
        self.lab.pi.nft(counting())
        home = self.lab.directory / "agent"
        home.mkdir()
        (home / "agent.toml").write_text(config(self.lab, home, mode))
        command = [BIN / "jaga-agent", "run", "--config", home / "agent.toml"]
        with (home / "log").open("wb") as log:
            self.agent = self.lab.pi.popen(
                [str(word) for word in command], stdout=log, stderr=log
            )
        stack.callback(end, [self.agent], 15)
        self.journal = home / "journal.jsonl"

    def has_checked(self):
        found = self.journal.exists() and self.journal.read_bytes()
        return found and found.count(b'"CheckDone"') >= 2 * len(UPLINKS)

    def finish(self):
        """End the agent; return (the journal's steps, the kernel's count)."""
        end([self.agent], 15)
        _, steps = journal.read(self.journal)
        return list(steps), counted(self.lab)


@pytest.fixture(scope="module")
def sites():
    """Idle sites of each mode, watched in the same real time: it is what is measured."""
    with contextlib.ExitStack() as stack:
        running = {mode: Site(stack, mode) for mode in MODES}
        for site in running.values():
            until(site.has_checked, "every first check ended", 60)
        began, seen = time.perf_counter(), {}
        for mode, (_, watch_s) in sorted(MODES.items(), key=lambda item: item[1][1]):
            left_s = began + SETTLED_S + watch_s - time.perf_counter()
            time.sleep(max(0.0, left_s))
            seen[mode] = running[mode].finish()
        yield seen


@pytest.fixture(params=MODES, ids=lambda mode: mode.value)
def watched(request, sites):
    return request.param, *sites[request.param]


def pulses(steps, uplink):
    return [
        (step.at, action.probe_id)
        for step in steps
        for action in step.actions
        if isinstance(action, SendProbe) and action.uplink == uplink
    ]


def settled_at(steps):
    checked = [s.at for s in steps if isinstance(s.event, CheckDone)]
    return checked[2 * len(UPLINKS) - 1] + SETTLED_S


def test_each_pulse_is_in_the_kernels_count_with_the_bytes_of_the_table(watched):
    _, steps, kernel = watched
    answered = {s.event.probe_id for s in steps if isinstance(s.event, ProbeAnswered)}
    for plan in UPLINKS:
        sent = [probe_id for _, probe_id in pulses(steps, plan.name)]
        heard = [probe_id for probe_id in sent if probe_id in answered]
        assert sent
        assert heard == sent
        packets = len(sent)
        assert kernel[f"out_{plan.device}"] == (packets, packets * ICMP.request_bytes)
        assert kernel[f"in_{plan.device}"] == (packets, packets * ICMP.reply_bytes)
        both = kernel[f"out_{plan.device}"][1] + kernel[f"in_{plan.device}"][1]
        assert both == 64 * packets


def test_an_idle_uplinks_pulses_are_those_that_the_allowance_pays_for(watched):
    mode, steps, _ = watched
    allowance_bytes, watch_s = MODES[mode]
    paid_s = governor.probe_interval_s(ICMP.both_bytes, allowance_bytes)
    assert ICMP.both_bytes * DAY_S / paid_s <= allowance_bytes
    active = [a.uplink for s in steps for a in s.actions if isinstance(a, SelectUplink)]
    assert len(active) == 1
    since = settled_at(steps)
    for plan in UPLINKS:
        if plan.name == active[0]:
            continue
        sent = [at for at, _ in pulses(steps, plan.name) if at >= since]
        assert len(sent) >= int(watch_s / paid_s) - 1
        assert len(sent) >= 2
        assert all(later - at >= paid_s for at, later in itertools.pairwise(sent))


def test_the_active_ones_are_paid_for_by_the_allowance_and_what_is_carried(watched):
    mode, steps, _ = watched
    allowance_bytes, _ = MODES[mode]
    paid_s = governor.probe_interval_s(ICMP.both_bytes, allowance_bytes)
    (active,) = (
        a.uplink for s in steps for a in s.actions if isinstance(a, SelectUplink)
    )
    since = settled_at(steps)
    seen = [
        (s.at, s.event.rx_bytes + s.event.tx_bytes)
        for s in steps
        if isinstance(s.event, TrafficSeen) and s.event.uplink == active
    ]
    carried_bytes = seen[-1][1] - max(total for at, total in seen if at < since)
    sent = [at for at, _ in pulses(steps, active) if at >= since]
    # One more than there are intervals.
    paid = 1 + (steps[-1].at - since) / paid_s
    paid += CARRIED_RATIO * carried_bytes / ICMP.both_bytes
    assert 1 <= len(sent) <= paid


def test_a_days_checks_stay_within_their_share(watched):
    _, steps, _ = watched
    done = [s.event for s in steps if isinstance(s.event, CheckDone)]
    assert len(done) == 2 * len(UPLINKS)
    assert all(check.verdict is CheckVerdict.OK for check in done)
    # The first of them shook hands in full, the others took its session up.
    spent_bytes = sum(check.wire_bytes for check in done) / len(UPLINKS)
    assert 0 < spent_bytes * DAY_S / CHECK_INTERVAL_S <= CHECKS_A_DAY_BYTES
