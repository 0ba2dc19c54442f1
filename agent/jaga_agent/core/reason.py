"""Why something was decided: a stable code with values, told in words elsewhere.

`str(reason)` is the English sentence of logs and of the wire; other languages are made
from code and values. Codes are append-only: records of old decisions keep them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ORDERED: Final = "order.switch"
"""Of a move that an operator ordered."""
ENGLISH: Final = {
    "new": "not probed yet",
    "link.gone": "device gone",
    "link.carrier": "carrier lost",
    "link.no_address": "no address or gateway",
    "race.silent": (
        "silent for {silent_ms} ms, {took_ms} ms of them racing, while {witnesses} "
        "answers ({cause})"
    ),
    "race.silent_alone": (
        "silent for {silent_ms} ms, {took_ms} ms of them racing; no other uplink "
        "answers ({cause})"
    ),
    "cause.traffic": "{packets} packets sent, none came back for {waited_ms} ms",
    "cause.syn": "{packets} connections asked for, none answered for {waited_ms} ms",
    "cause.late": "probe to {target} late",
    "cause.refused": "probe to {target} refused: {detail}",
    "cause.not_sent": "probe to {target} cannot be sent: {detail}",
    "cause.silent_too": "did not answer as a witness",
    "cause.verify": "verified after the move",
    "cause.ordered": "raced by an operator's order",
    "loss.high": "loses probes: above {limit_percent} % by CUSUM",
    "slow": "slow: RTT {rtt_ms} ms",
    "busy": (
        "busy with the site's own traffic: RTT {rtt_ms} ms at {rate_kbit_s} kbit/s"
    ),
    "busy.over": "queue is empty again: RTT {rtt_ms} ms",
    "check.failed": "{target} fails here and works by {witnesses}: {verdict}, {detail}",
    "check.alone": "{target} fails: {verdict}, {detail}",
    "check.ok": "{target} works",
    "dns.dead": "names cannot be resolved here ({target}) and can by {witnesses}",
    "answered": "{streak} answered, RTT {rtt_ms} ms",
    "clean": "clean again, RTT {rtt_ms} ms",
    "first": "the best usable uplink",
    "holddown.over": "has stayed up for its hold-down of {held_s} s",
    "target.silent": (
        "silent on {ways} of {ways} usable uplinks while other targets answer"
    ),
    "target.failing": "fails on {ways} of {ways} usable uplinks: {verdict}",
    "target.back": "answers again",
    "thrift.quota": "{left_mb} MB of {quota_mb} MB are left: {what}.",
    "thrift.probes": (
        "Probes took {spent_kb} kB in 24 hours, of {allowed_kb} kB allowed: {what}."
    ),
    "thrift.none": "Quota and probes' budget suffice: {what}.",
    "order.switch": "ordered by operator {operator}",
    "order.malformed": "not an order: {detail}",
    "order.no_keys": "this site obeys nobody: {detail}",
    "order.operator": "this site has no key of an operator {operator}",
    "order.key": "the key of operator {operator} cannot be used: {detail}",
    "order.forged": "not signed by operator {operator}",
    "order.elsewhere": "meant for site {site} of region {region}",
    "order.memory": "it cannot be told whether this was done before: {detail}",
    "order.repeated": "not newer than what this operator ordered before",
    "order.same": "came again: answered again, not done again",
    "order.early": "issued {early_s} s in the future: one of the two clocks is wrong",
    "order.stale": "came {late_s} s after it had expired",
    "order.endless": "valid for {for_s} s; {most_s} s are the most",
    "order.no_clock": (
        "this site does not know the time, and the order names no moment of this boot"
    ),
    "order.unknown": "there is no action {action}",
    "order.arguments": "{action}: {detail}",
    "order.unfit": "{uplink} cannot carry the site: {why}",
    "order.impossible": "{detail}",
    "order.accepted": "{action}, ordered by operator {operator}",
    "order.done": "{action}: {detail}",
    "order.failed": "{action} failed: {detail}",
    "order.many": "{count} more commands refused, too many to tell of each",
    "clock.first": (
        "the time is known, by {source}, within {within_ms} ms; the Pi's own clock was "
        "off by {off_ms} ms"
    ),
    "clock.source": "the time is {source}'s now, {before}'s before, within {within_ms} ms",
    "clock.corrected": (
        "the time was wrong by {moved_ms} ms and is {source}'s now, within {within_ms} ms"
    ),
    "clock.stepped": (
        "the Pi's own clock stepped by {step_ms} ms; records keep {source}'s time"
    ),
    "clock.stepped.unknown": (
        "the Pi's own clock stepped by {step_ms} ms; nobody has confirmed the time yet"
    ),
    "text": "{text}",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """A code of `ENGLISH` and the values of its sentence."""

    code: str
    values: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return ENGLISH[self.code].format_map(dict(self.values))


def because(code: str, **values: object) -> Reason:
    """Return a reason; floats are rounded to whole units.

    >>> str(because("slow", rtt_ms=1234.6))
    'slow: RTT 1235 ms'
    """
    return Reason(
        code,
        tuple(
            (name, f"{value:.0f}" if isinstance(value, float) else str(value))
            for name, value in values.items()
        ),
    )
