"""`jaga-agent explain` tells named stories, word for word, in both languages.

The texts are in `explained/STORY.LANGUAGE.txt`.
"""

from pathlib import Path
from string import Formatter

import pytest

from jaga_agent import explain, words
from jaga_agent.adapters.chain.entry import START, Content, Judged, Proof, linked
from jaga_agent.words import LANGUAGES, VARIANTS

EXPLAINED = Path(__file__).with_name("explained")
WALL_MS = 1_795_831_512_000
"""28 November 2026, 10:05:12 WITA."""

SILENT = {
    "silent_ms": "380",
    "took_ms": "190",
    "witnesses": "indosat, telkom-fibre",
    "cause": "4 packets sent, none came back for 210 ms",
    "cause_code": "cause.traffic",
    "packets": "4",
    "waited_ms": "210",
}
FIBRE = Judged(uplink="telkom-fibre", health="up", rtt_ms=13)


def said(kind, at_ms=0, *, age_s=30, **more):
    """Return an entry of `at_ms` after the story's moment."""
    return Content(
        boot="00" * 8,
        at_ms=100_000 + at_ms,
        wall_ms=WALL_MS + at_ms,
        clock_age_s=age_s,
        kind=kind,
        **more,
    )


def chain(*contents):
    entries, prev = [], START
    for number, content in enumerate(contents, 1):
        entry, _ = linked(content, id=number, prev=prev)
        entries.append(entry)
        prev = entry.hash
    return entries


def move(rule, old, new, **more):
    more = {"switched_ms": 3, "targets": 3, **more}
    return said("decision", rule=rule, uplink=new, old=old, new=new, **more)


SILENCE = move(
    "failover",
    "telkomsel",
    "indosat",
    reason="silent for 380 ms, 190 ms of them racing, while indosat answers",
    code="race.silent",
    values=SILENT,
    detected_ms=420,
    hold_down_ms=60_000,
    candidates=(
        Judged(uplink="telkomsel", health="down", code="race.silent", values=SILENT),
        Judged(uplink="indosat", health="up", rtt_ms=31),
        FIBRE,
    ),
    evidence=Proof(steps=1532, sha256="ab"),
)
BACK_UP = said(
    "health",
    48_000,
    uplink="telkomsel",
    old="down",
    new="up",
    reason="3 answered, RTT 41 ms",
    code="answered",
    values={"streak": "3", "rtt_ms": "41"},
    hold_until_ms=208_000,
)
QUOTA = {
    "target": "sirekap",
    "witnesses": "indosat",
    "verdict": "redirected",
    "detail": "http://portal/",
}
# name: (the chain, which id to tell of)
STORIES = {
    "silence": (
        [said("started", -9000), SILENCE, said("gap", 200, gap_ms=620, of=2)],
        2,
    ),
    "silence-and-back-soon": ([SILENCE, BACK_UP], 1),
    "silence-and-gone-back": (
        [
            SILENCE,
            BACK_UP,
            move("failback", "indosat", "telkomsel", at_ms=108_000),
        ],
        1,
    ),
    "gone-back": (
        [
            move(
                "failback",
                "indosat",
                "telkomsel",
                reason="has stayed up for its hold-down of 60 s",
                code="holddown.over",
                values={"held_s": "60"},
                candidates=(
                    Judged(uplink="telkomsel", health="up", rtt_ms=41),
                    Judged(uplink="indosat", health="up", rtt_ms=31),
                    FIBRE,
                ),
            )
        ],
        None,
    ),
    "quota": (
        [
            move(
                "failover",
                "telkomsel",
                "indosat",
                age_s=-1,
                reason="sirekap fails here and works by indosat",
                code="check.failed",
                values=QUOTA,
                hold_down_ms=240_000,
                candidates=(
                    Judged(
                        uplink="telkomsel",
                        health="down",
                        code="check.failed",
                        values=QUOTA,
                    ),
                    Judged(uplink="indosat", health="up", rtt_ms=31),
                    Judged(uplink="telkom-fibre", health="down", code="link.carrier"),
                ),
            )
        ],
        None,
    ),
    "slow": (
        [
            move(
                "switchover",
                "telkomsel",
                "telkom-fibre",
                code="slow",
                values={"rtt_ms": "1240", "base_ms": "41"},
                switched_ms=None,
                candidates=(
                    Judged(
                        uplink="telkomsel",
                        health="degraded",
                        rtt_ms=1240,
                        code="slow",
                        values={"rtt_ms": "1240", "base_ms": "41"},
                    ),
                    Judged(uplink="indosat", health="up", rtt_ms=31),
                    FIBRE,
                ),
            )
        ],
        None,
    ),
    "first": (
        [
            move(
                "first",
                None,
                "telkomsel",
                code="first",
                candidates=(
                    Judged(uplink="telkomsel", health="up", rtt_ms=41),
                    Judged(uplink="indosat", health="unknown", code="new"),
                ),
            )
        ],
        None,
    ),
    "a-reason-without-a-code": (
        [move("failover", "telkomsel", "indosat", reason="telkomsel: carrier lost")],
        None,
    ),
    "uplink-is-back": ([SILENCE, BACK_UP], 2),
    "target-at-fault": (
        [
            said(
                "target",
                target="sirekap",
                old="answering",
                new="silent",
                reason="silent on 3 of 3 usable uplinks while other targets answer",
                code="target.silent",
                values={"ways": "3"},
            )
        ],
        None,
    ),
    "started": ([said("started", reason="version 0.1.0; no uplink carried")], None),
    "clock": (
        [
            said(
                "clock",
                old="unknown",
                new="reflector",
                reason="the time is known",
                code="clock.first",
                values={
                    "source": "reflector",
                    "within_ms": "21",
                    "off_ms": "1795000000000",
                },
            )
        ],
        None,
    ),
    "clock-stepped": (
        [
            said(
                "clock",
                old="ntp",
                new="ntp",
                reason="stepped",
                code="clock.stepped",
                values={"source": "ntp", "step_ms": "3600000"},
            )
        ],
        None,
    ),
    "busy": (
        [
            said(
                "busy",
                uplink="telkomsel",
                reason="busy",
                code="busy",
                values={"rtt_ms": "612", "rate_kbit_s": "9800"},
            )
        ],
        None,
    ),
}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("story", STORIES)
def test_story(story, language):
    contents, number = STORIES[story]
    entries = chain(*contents)
    entry = explain.pick(entries, number)
    text = explain.tell(entry, entries, words.of(language), kept={2})
    assert text + "\n" == (EXPLAINED / f"{story}.{language}.txt").read_text()
    assert all(len(line) <= explain.WIDTH for line in text.splitlines())


def test_every_text_is_of_a_story_and_no_other():
    wanted = {f"{story}.{language}.txt" for story in STORIES for language in LANGUAGES}
    assert {path.name for path in EXPLAINED.iterdir()} == wanted


def test_a_follow_up_leads_to_its_decision_and_nothing_to_nothing():
    entries = chain(SILENCE, said("gap", of=1), said("sealed", of=1), said("stopped"))
    assert [explain.pick(entries, n).id for n in (1, 2, 3, 4)] == [1, 1, 1, 4]
    assert explain.pick(entries, None).id == 1
    assert explain.pick(entries, 9) is None
    assert explain.pick([], None) is None
    assert explain.pick(chain(said("started")), None).kind == "started"


# Words


def placeholders(text):
    return sorted(name for _, name, _, _ in Formatter().parse(text) if name)


def test_no_language_lacks_a_text():
    assert set(LANGUAGES["id"]) == set(LANGUAGES["en"])


@pytest.mark.parametrize("key", LANGUAGES["en"])
def test_both_languages_say_the_same_values(key):
    assert placeholders(LANGUAGES["id"][key]) == placeholders(LANGUAGES["en"][key])


def test_every_variant_has_its_text():
    for code, variants in VARIANTS.items():
        assert code in variants
        assert all(f"reason.{variant}" in LANGUAGES["en"] for variant in variants)


def test_every_code_of_the_engine_has_words():
    reason = pytest.importorskip(
        "jaga_agent.core.reason", reason="this engine gives its reasons as sentences"
    )
    lacking = {c for c in reason.ENGLISH if f"reason.{c}" not in LANGUAGES["en"]}
    assert lacking == set()


# language, code, values: want
REASONS = {
    "values amiss": ("en", "race.silent", {"took_ms": "1"}, None),
    "unknown": ("en", "weather.rain", {}, None),
    "no code": ("en", None, {}, None),
    "a variant": ("en", "slow", {"rtt_ms": "900"}, "slow: a round trip takes 0.90 s"),
    "the fuller one": (
        "id",
        "slow",
        {"rtt_ms": "900", "base_ms": "40"},
        "lambat: pulang-pergi 0,90 dtk, biasanya 40 ms",
    ),
    "a level of thrift": (
        "id",
        "thrift.quota",
        {"left_mb": "90", "quota_mb": "9000", "what": "x", "level": "sparing"},
        "tersisa 90 dari 9000 MB: diukur seperempat dari biasanya",
    ),
    "a cause without a code": (
        "en",
        "race.silent_alone",
        {"took_ms": "200", "asked": "3 targets", "cause": "3 packets lost"},
        (
            "no answer from 3 targets for 0.20 s; no other uplink answered either "
            "(first sign: 3 packets lost)"
        ),
    ),
    "a verdict nobody knows": (
        "en",
        "check.alone",
        {"target": "sirekap", "verdict": "strange"},
        "sirekap cannot be used: strange",
    ),
}


@pytest.mark.parametrize("case", REASONS.values(), ids=REASONS)
def test_reason(case):
    language, code, values, want = case
    assert words.of(language).reason(code, values) == want


@pytest.mark.parametrize(
    ("seconds", "english", "indonesian"),
    [
        (0.003, "3 ms", "3 ms"),
        (0.38, "0.38 s", "0,38 dtk"),
        (9.999, "10.00 s", "10,00 dtk"),
        (42.4, "42 s", "42 dtk"),
        (60, "1 min", "1 mnt"),
        (61, "1 min 1 s", "1 mnt 1 dtk"),
        (3599.9, "1 h 0 min", "1 jam 0 mnt"),
        (5400, "1 h 30 min", "1 jam 30 mnt"),
    ],
)
def test_span(seconds, english, indonesian):
    assert words.of("en").span(seconds) == english
    assert words.of("id").span(seconds) == indonesian


def test_names_are_listed_as_people_do():
    listed = words.of("id").listed
    assert [listed(n) for n in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a dan b",
        "a, b dan c",
    ]
