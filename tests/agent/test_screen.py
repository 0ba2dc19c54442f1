"""`jaga-agent status` reads well at the end of a long day."""

import pytest

from jaga_agent import screen, words

RECORDS = {
    "waiting": 0,
    "last_seq": 9,
    "dropped": 0,
    "lost": 0,
    "watermark_age_s": 4.0,
    "sending_history": False,
}


def uplink(name, **changes):
    return {
        "name": name,
        "provider": name,
        "device": "wan0",
        "present": True,
        "carrier": True,
        "address": "192.168.8.100",
        "gateway": "192.168.8.1",
        "health": "up",
        "reason": "3 answered, RTT 41 ms",
        "health_for_s": 75.0,
        "active": False,
        "rtt_ms": 41.2,
        "heard_ago_s": 0.2,
        "racing": None,
        "busy": False,
        "failback_in_s": None,
        **changes,
    }


NOBODY = {"source": "unknown", "age_s": -1, "uncertainty_ms": None, "offset_ms": None}


def told(source="ntp", *, offset_ms=3.0, uncertainty_ms=110.0):
    return {
        "source": source,
        "age_s": 3,
        "uncertainty_ms": uncertainty_ms,
        "offset_ms": offset_ms,
    }


def answer(**changes):
    return {
        "site": "tps-6408052001-901",
        "region": "6408",
        "mode": "polling-day",
        "version": "0.1.0",
        "config_hash": "0" * 16,
        "running_s": 3700.0,
        "active": "telkomsel",
        "uplinks": [uplink("telkomsel", active=True), uplink("xl", device="wan1")],
        "faulty_targets": [],
        "decisions": [],
        "broker": {"connected": True, "reason": None, "for_s": 60.0},
        "records": RECORDS,
        "clock_age_s": -1,
        "clock": NOBODY,
        "clock_offset": None,
        "one_way": {},
        "troubles": [],
        "configuration": {"source": "file", "hash": "0" * 16},
        "held_for_s": None,
        "chosen": None,
        **changes,
    }


def offset(offset_ms, uncertainty_ms, *, synchronised=True):
    return {
        "offset_ms": offset_ms,
        "uncertainty_ms": uncertainty_ms,
        "collector_synchronised": synchronised,
        "age_s": 3.0,
    }


# name: (changes to the answer, what must stand there)
SCREENS = {
    "all well": ({}, "The site uses telkomsel (wan0): OK"),
    "nothing carries": (
        {"uplinks": [uplink("telkomsel", health="down")]},
        "NO UPLINK CARRIES THE SITE",
    ),
    "device gone": (
        {"uplinks": [uplink("telkomsel", present=False, health="down")]},
        "plug the modem in",
    ),
    "no carrier": (
        {"uplinks": [uplink("telkomsel", carrier=False)]},
        "check the cable, the SIM",
    ),
    "no address": (
        {"uplinks": [uplink("telkomsel", address=None)]},
        "the modem's DHCP has not answered",
    ),
    "no gateway": (
        {"uplinks": [uplink("telkomsel", gateway=None)]},
        "no gateway is known",
    ),
    "waiting for failback": (
        {"uplinks": [uplink("telkomsel", failback_in_s=42.7)]},
        "takes the site back in 42 s",
    ),
    "not measured yet": (
        {"uplinks": [uplink("xl", rtt_ms=None)]},
        "1 min 15 s         \N{EN DASH}",
    ),
    "collector away": (
        {"broker": {"connected": False, "reason": "timed out", "for_s": 61.0}},
        "NOT CONNECTED for 1 min 1 s: timed out",
    ),
    "target's fault": (
        {"faulty_targets": ["sirekap"]},
        "Not the site's fault: sirekap",
    ),
    "nobody told the time": ({}, "nobody has confirmed the time since boot"),
    "clock": (
        {"clock": told()},
        "NTP confirmed the time 3 s ago; right within 0.11 s",
    ),
    "woke in 1970": (
        {"clock": told("reflector", offset_ms=1_795_000_000_000.0)},
        "the Pi's own clock is off by 20775 d 11 h: records do not go by it",
    ),
    "an hour ahead": (
        {"clock": told("http-date", offset_ms=-3_600_000.0)},
        "the Pi's own clock is off by 1 h 0 min:",
    ),
    "clock behind": (
        {"clock_offset": offset(8_000.0, 21.4)},
        "boot; 8.0 s behind the collector's, ±21 ms",
    ),
    "clock ahead, by days": (
        {"clock_offset": offset(-90_000_000.0, 21.4)},
        "boot; 1 d 1 h ahead of the collector's, ±21 ms",
    ),
    "clock agrees": (
        {"clock": told(), "clock_offset": offset(3.0, 21.4)},
        "right within 0.11 s; agrees with the collector's within 21 ms",
    ),
    "nobody knows the time": (
        {"clock_offset": offset(3.0, 16_021.4, synchronised=False)},
        "(which is not confirmed itself)",
    ),
    "lossy one way": (
        {
            "one_way": {
                "xl": {"up_sent": 99, "up_lost": 20, "down_sent": 79, "down_lost": 1}
            }
        },
        "to the collector 20 of 99 packets lost, back from it 1 of 79",
    ),
    "records": (
        {"records": {**RECORDS, "waiting": 3, "dropped": 1}},
        "3 not yet confirmed by the collector; 1 dropped; as it said 4 s ago",
    ),
    "all records there": ({}, "the collector has them all; as it said 4 s ago"),
    "no word of the collector": (
        {"records": {**RECORDS, "watermark_age_s": None}},
        "the collector has not said yet",
    ),
    "a backlog on its way": (
        {"records": {**RECORDS, "waiting": 2160, "sending_history": True}},
        "2160 not yet confirmed by the collector; history is being sent;",
    ),
    "lost for good": (
        {"records": {**RECORDS, "lost": 7}},
        "7 lost, which the collector does not",
    ),
    "trouble": ({"troubles": ["nft is missing"]}, "! nft is missing"),
    "decision": (
        {
            "decisions": [
                {
                    "id": 12,
                    "wall_ms": 1_732_680_000_000,
                    "rule": "failover",
                    "from": "telkomsel",
                    "to": "xl",
                    "reason": "silent",
                    "detected_ms": 520.4,
                    "switched_ms": 3.1,
                    "gap_ms": 640.2,
                }
            ]
        },
        "switched in 3 ms, cut for 640 ms)\n  #12      silent",
    ),
}


@pytest.mark.parametrize("case", SCREENS.values(), ids=SCREENS)
def test_screen(case):
    changes, wanted = case
    shown = screen.render(answer(**changes))
    assert wanted in shown or wanted in " ".join(shown.split())


def test_the_active_uplink_is_marked():
    lines = screen.render(answer()).splitlines()
    marked = [line for line in lines if line.startswith("▶")]
    assert len(marked) == 1
    assert "telkomsel" in marked[0]


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        (0.4, "0 s"),
        (59, "59 s"),
        (61, "1 min 1 s"),
        (3600, "1 h 0 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_span(seconds, wanted):
    assert screen.span(seconds) == wanted


def test_the_clock_is_told_in_indonesian_too():
    of = words.of("id")
    assert screen.time_said(NOBODY, of).startswith("belum ada yang memastikan waktu")
    said = screen.time_said(told("reflector", offset_ms=-7_200_000.0), of)
    assert said == (
        "waktu dipastikan pusat pemantauan 3 dtk lalu; selisih paling banyak "
        "0,11 dtk; jam Pi sendiri meleset 2 jam 0 mnt: catatan tidak memakainya"
    )
