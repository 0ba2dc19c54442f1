"""`jaga-agent status` for a tired technician: plain words, what is wrong first. Pure."""

from __future__ import annotations

import textwrap
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final

from jaga_agent import words

if TYPE_CHECKING:
    from jaga_agent.words import Words

Answer = dict[str, Any]

WITA: Final = timezone(timedelta(hours=8), "WITA")
"""Central Indonesian Time, the district's."""

WORDS: Final = {
    "up": "OK",
    "degraded": "SLOW/LOSSY",
    "down": "DOWN",
    "unknown": "NOT TESTED",
}


def render(answer: Answer) -> str:
    """Return the agent's answer as lines for an 80-column terminal."""
    lines = [*_headline(answer), "", *_uplinks(answer)]
    lines += _ordered(answer)
    if answer["faulty_targets"]:
        names = ", ".join(answer["faulty_targets"])
        lines += ["", f"Not the site's fault: {names} answers on no uplink."]
    lines += ["", *_connection(answer)]
    if answer["decisions"]:
        lines += [
            "",
            "Last decisions (jaga-agent explain ID)",
            *map(_decision, answer["decisions"][:5]),
        ]
    if answer["troubles"]:
        lines += ["", "Needs attention", *(f"  ! {t}" for t in answer["troubles"])]
    return "\n".join(lines)


def render_quota(answer: Answer) -> str:
    """Return `jaga-agent quota`'s answer as lines for an 80-column terminal."""
    lines = [f"  {'uplink':<14}{'used':>12}{'left':>12}{'of':>12}   counted since"]
    for row in answer["uplinks"]:
        since = "never seen"
        if row["since_ms"] is not None:
            at = datetime.fromtimestamp(row["since_ms"] / 1000, WITA)
            since = f"{at:%Y-%m-%d %H:%M} WITA"
        lines.append(
            f"  {row['name']:<14.13}{_megabytes(row['used_bytes']):>12}"
            f"{_megabytes(row['left_bytes']):>12}{_megabytes(row['quota_bytes']):>12}"
            f"   {since}"
        )
        for kind, spent in sorted(row["probe_bytes_24h"].items()):
            lines.append(f"      probes by {kind}: {spent / 1e3:.1f} kB in 24 hours")
        if row["power_losses"]:
            lines.append(
                f"      cut off by {row['power_losses']} power losses: each may lack "
                "up to 5 minutes"
            )
    if not answer["running"]:
        lines += ["", "jaga-agent is not running: as it was last kept, and since then"]
    return "\n".join(lines)


def _megabytes(of_bytes: int | None) -> str:
    return "–" if of_bytes is None else f"{of_bytes / 1e6:.1f} MB"


def _headline(answer: Answer) -> list[str]:
    head = (
        f"{answer['site']}   {answer['mode']}   jaga-agent {answer['version']}, "
        f"running {span(answer['running_s'])}"
    )
    active = next((u for u in answer["uplinks"] if u["active"]), None)
    if active is None:
        return [head, "", "NO UPLINK CARRIES THE SITE. Check modems and cables below."]
    state = WORDS[active["health"]]
    return [head, "", f"The site uses {active['name']} ({active['device']}): {state}"]


def _ordered(answer: Answer) -> list[str]:
    """Say what is as an operator ordered it, not as the card's file and the rules."""
    lines = []
    if answer["chosen"] is not None:
        lines.append(f"An operator chose {answer['chosen']}: it stays while it works.")
    if answer["held_for_s"]:
        held = span(answer["held_for_s"])
        lines.append(f"An operator holds the site where it works, for {held} more.")
    if answer["configuration"]["source"] != "file":
        word = "on trial, " if answer["configuration"]["source"] == "trial" else ""
        lines.append(
            f"Configuration: {word}applied by an operator, not the card's file."
        )
    return ["", *lines] if lines else []


def _uplinks(answer: Answer) -> list[str]:
    lines = [f"  {'uplink':<14}{'device':<8}{'state':<12}{'for':>12}{'RTT':>10}"]
    for uplink in answer["uplinks"]:
        rtt = "–" if uplink["rtt_ms"] is None else f"{uplink['rtt_ms']:.0f} ms"
        since = "–" if uplink["health_for_s"] is None else span(uplink["health_for_s"])
        mark = "▶" if uplink["active"] else " "
        lines.append(
            f"{mark} {uplink['name']:<14.13}{uplink['device']:<8.7}"
            f"{WORDS[uplink['health']]:<12}{since:>12}{rtt:>10}"
        )
        counts = answer["one_way"].get(uplink["name"])
        for note in [*_notes(uplink), *_one_way(counts)]:
            lines += textwrap.wrap(
                note, 80, initial_indent="      ", subsequent_indent="      "
            )
    return lines


def _notes(uplink: Answer) -> list[str]:
    notes = [] if uplink["health"] == "up" else [uplink["reason"]]
    if not uplink["present"]:
        notes.append("the device is not there: plug the modem in, or try another port")
    elif not uplink["carrier"]:
        notes.append("no carrier: check the cable, the SIM and the modem's lamp")
    elif uplink["address"] is None:
        notes.append("no address yet: the modem's DHCP has not answered")
    elif uplink["gateway"] is None:
        notes.append(f"has {uplink['address']} but no gateway is known")
    if uplink["busy"]:
        notes.append("busy: the site's own traffic fills its queue")
    if uplink["racing"]:
        notes.append(f"being tested now: {uplink['racing']}")
    if uplink["failback_in_s"]:
        notes.append(f"takes the site back in {span(uplink['failback_in_s'])}")
    return notes


def _one_way(counts: Answer | None) -> list[str]:
    """Return on which way packets get lost, if any do."""
    if counts is None or not (counts["up_lost"] or counts["down_lost"]):
        return []
    up = f"to the collector {counts['up_lost']} of {counts['up_sent']} packets lost"
    down = f"back from it {counts['down_lost']} of {counts['down_sent']}"
    return [f"{up}, {down}"]


def _clock(answer: Answer) -> str:
    line = time_said(answer["clock"], words.of("en"))
    offset = answer["clock_offset"]
    if offset is None:
        return line
    off_ms, within_ms = offset["offset_ms"], offset["uncertainty_ms"]
    if abs(off_ms) <= within_ms:
        line += f"; agrees with the collector's within {_ms(within_ms)}"
    else:
        which = "behind" if off_ms > 0 else "ahead of"
        line += f"; {_ms(abs(off_ms))} {which} the collector's, ±{_ms(within_ms)}"
    if not offset["collector_synchronised"]:
        line += " (which is not confirmed itself)"
    return line


def time_said(clock: Answer, of: Words) -> str:
    """Return who tells the time and how exactly, in a language's words.

    `offset_ms` is UTC minus the Pi's own clock; None where nobody knows.
    """
    if clock["offset_ms"] is None:
        return of.say("time.unknown")
    age_s = clock["age_s"]
    line = of.say(
        "time.known",
        source=of.texts[f"source.{clock['source']}"],
        age=of.span(age_s) if age_s >= 60 else of.say("span.s", n=age_s),
        within=of.span(clock["uncertainty_ms"] / 1e3),
    )
    off_ms = abs(clock["offset_ms"])
    if off_ms > clock["uncertainty_ms"]:
        line += "; " + of.say("time.off", off=of.span(off_ms / 1e3))
    return line


def _ms(milliseconds: float) -> str:
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    return f"{seconds:.1f} s" if seconds < 60 else span(seconds)


def _connection(answer: Answer) -> list[str]:
    broker, records = answer["broker"], answer["records"]
    if broker["connected"]:
        line = f"Collector: connected for {span(broker['for_s'])}"
    else:
        line = (
            f"Collector: NOT CONNECTED for {span(broker['for_s'])}: {broker['reason']}"
        )
    clock = textwrap.wrap(
        _clock(answer), 80, initial_indent="Clock:     ", subsequent_indent=" " * 11
    )
    return [line, *_records(broker["connected"], records), *clock]


def _records(connected: bool, records: Answer) -> list[str]:
    """Return what the collector has not confirmed, since when, and what is gone."""
    parts = []
    if records["waiting"]:
        parts.append(f"{records['waiting']} not yet confirmed by the collector")
    else:
        parts.append("the collector has them all")
    if connected and records["sending_history"] and records["waiting"]:
        parts.append("history is being sent")
    if records["dropped"]:
        parts.append(f"{records['dropped']} dropped")
    if records["lost"]:
        parts.append(f"{records['lost']} lost, which the collector does not know yet")
    age_s = records["watermark_age_s"]
    if age_s is None:
        parts.append("the collector has not said yet what it has")
    else:
        parts.append(f"as it said {span(age_s)} ago")
    return textwrap.wrap(
        "; ".join(parts), 80, initial_indent="Records:   ", subsequent_indent=" " * 11
    )


def _decision(decision: Answer) -> str:
    at = datetime.fromtimestamp(decision["wall_ms"] / 1000, WITA)
    times = [
        f"{word} in {decision[key]:.0f} ms"
        for key, word in (("detected_ms", "detected"), ("switched_ms", "switched"))
        if decision[key] is not None
    ]
    if decision["gap_ms"] is not None:
        times.append(f"cut for {decision['gap_ms']:.0f} ms")
    timing = f" ({', '.join(times)})" if times else ""
    number = "" if decision["id"] is None else f"#{decision['id']}"
    return (
        f"  {at:%H:%M:%S} {decision['rule']:<10} {decision['from'] or 'nothing'} → "
        f"{decision['to']}{timing}\n"
        + textwrap.fill(
            decision["reason"],
            80,
            initial_indent=f"  {number:<9}",
            subsequent_indent="           ",
        )
    )


def span(seconds: float) -> str:
    """Return a duration as people say it.

    >>> [span(s) for s in (0.4, 59, 61, 3600, 90000)]
    ['0 s', '59 s', '1 min 1 s', '1 h 0 min', '1 d 1 h']
    """
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
