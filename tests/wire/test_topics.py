"""Topics: what is ours and what is not, and what a collector subscribes to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from jaga_agent.wire.topics import (
    CONSUMED,
    LEAVES,
    REGION_PATTERN,
    SITE_PATTERN,
    Topic,
    parse,
    subscription,
)

OURS = {
    "jaga/1/6408/tps-6408052001-901/heartbeat": ("6408", "tps-6408052001-901"),
    "jaga/1/6408/kpu-kutim/event": ("6408", "kpu-kutim"),
    "jaga/1/64/a/status": ("64", "a"),
    f"jaga/1/6408052001/{'x' * 64}/status": ("6408052001", "x" * 64),
}


@pytest.mark.parametrize(("topic", "parts"), OURS.items())
def test_ours(topic, parts):
    parsed = parse(topic)
    assert parsed is not None
    assert (parsed.region, parsed.site) == parts
    assert str(parsed) == topic


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "jaga",
        "jaga/1/6408/kpu-kutim",
        "jaga/1/6408/kpu-kutim/heartbeat/more",
        "/jaga/1/6408/kpu-kutim/heartbeat",
        "jaga/1/6408/kpu-kutim/heartbeat/",
        "jaga/2/6408/kpu-kutim/heartbeat",
        "jaga/01/6408/kpu-kutim/heartbeat",
        "Jaga/1/6408/kpu-kutim/heartbeat",
        "jaga/1/6408/kpu-kutim/Heartbeat",
        "jaga/1/6408/kpu-kutim/commands",
        "jaga/1/6408/kpu-kutim/",
        "jaga/1//kpu-kutim/heartbeat",
        "jaga/1/6408//heartbeat",
        "jaga/1/6/kpu-kutim/heartbeat",
        "jaga/1/64080520011/kpu-kutim/heartbeat",
        "jaga/1/64.08/kpu-kutim/heartbeat",
        "jaga/1/٦٤٠٨/kpu-kutim/heartbeat",
        "jaga/1/+/kpu-kutim/heartbeat",
        "jaga/1/6408/+/heartbeat",
        "jaga/1/6408/#",
        "jaga/1/6408/KPU/heartbeat",
        "jaga/1/6408/-kpu/heartbeat",
        "jaga/1/6408/kpu-/heartbeat",
        "jaga/1/6408/kpu kutim/heartbeat",
        "jaga/1/6408/kpu\nkutim/heartbeat",
        "jaga/1/6408/kpu-kutim\n/heartbeat",
        f"jaga/1/6408/{'x' * 65}/heartbeat",
    ],
)
def test_not_ours(topic):
    assert parse(topic) is None


READ = ("heartbeat", "event", "status", "history", "reply", "command")

SUBSCRIPTIONS = {
    "everything": ({}, "jaga/1/+/+/"),
    "one district": ({"region": "6408"}, "jaga/1/6408/+/"),
    "shared": (
        {"region": "6408", "share": "ingest"},
        "$share/ingest/jaga/1/6408/+/",
    ),
}


@pytest.mark.parametrize(
    ("options", "prefix"), SUBSCRIPTIONS.values(), ids=SUBSCRIPTIONS
)
def test_subscription(options, prefix):
    assert subscription(**options) == tuple(prefix + leaf for leaf in READ)


@given(
    st.from_regex(REGION_PATTERN, fullmatch=True),
    st.from_regex(SITE_PATTERN, fullmatch=True),
    st.sampled_from(LEAVES),
)
def test_roundtrip_and_exactly_one_filter_matches(region, site, leaf):
    topic = Topic(region, site, leaf)
    assert parse(str(topic)) == topic
    for filters in (subscription(), subscription(region)):
        matches = [topic_matches_sub(f, str(topic)) for f in filters].count(True)
        assert matches == (leaf in CONSUMED)
