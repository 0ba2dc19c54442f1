"""English. The same keys as in `id.py`."""

from __future__ import annotations

from typing import Final

TEXTS: Final = {
    "decimal": ".",
    "and": "and",
    "clock": "%H:%M:%S",
    "months": "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
    "span.ms": "{n} ms",
    "span.s": "{n} s",
    "span.min": "{n} min",
    "span.min_s": "{n} min {s} s",
    "span.h_min": "{n} h {min} min",
    "span.d_h": "{n} d {h} h",
    "asked.unknown": "any target",
    "asked.one": "the 1 target",
    "asked.many": "{n} targets",
    "witness": "{uplink} ({rtt})",
    # Heads
    "title": "{what} {id}, {date} {clock} WITA",
    "title.decision": "Decision",
    "title.other": "Entry",
    "title.unconfirmed": "the Pi's clock was not confirmed yet: it may be off",
    "label.why": "Why",
    "label.cut": "Cut",
    "label.next": "Next",
    "label.proof": "Proof",
    "label.uplinks": "The uplinks at that moment",
    # What happened
    "move.first": "The site went onto {to}.",
    "move.failover": "{old} failed, so the site was moved to {to}.",
    "move.switchover": "{old} was bad, so the site was moved to {to}.",
    "move.failback": "The site went back from {old} to {to}.",
    "move.ordered": "An operator's order moved the site from {old} to {to}.",
    "move.other": "The site was moved from {old} to {to} (rule: {rule}).",
    "move.failed": "The kernel refused the move; it is tried again.",
    "why.old": "{old}: {reason}.",
    "why.new": "{to}: {reason}.",
    "why.since": "Nothing has come in by {old} since {clock}.",
    "cut.measured": "The site was cut for {gap}.",
    "cut.unmeasured": "How long the site was cut was not measured.",
    "cut.none": "{old} still worked: nothing should have been cut.",
    "cut.detected": "Noticed after {detected}.",
    "cut.switched": "Moved in {switched}.",
    # Candidates
    "health.up": "works",
    "health.degraded": "slow or lossy",
    "health.down": "down",
    "health.unknown": "not tested",
    "chosen.failover": "chosen: the most preferred one that works",
    "chosen.switchover": "chosen: clean, and for a while already",
    "chosen.failback": "chosen: preferred, and up for its hold-down",
    "chosen.ordered": "chosen: ordered",
    "chosen.other": "chosen",
    "left": "left: {reason}",
    "left.why": "left: see above",
    "left.ordered": "left: ordered",
    "left.preferred": "left: another one is preferred",
    "not.reason": "not chosen: {reason}",
    "not.later": "not chosen: works, but is less preferred",
    "not.waiting": "not chosen: has not worked for long enough yet",
    # What comes next
    "next.wait": (
        "{old} is preferred: once it answers again it must stay up for {held}, "
        "then it takes the site back."
    ),
    "next.until": (
        "{old} has answered again since {since} and takes the site back at {clock} "
        "if it stays up."
    ),
    "next.stays": "The site stays on {to} as long as that works.",
    "next.back": "{old} took the site back at {clock} (decision {id}).",
    "next.moved": "The site was moved again at {clock}, to {to} (decision {id}).",
    "next.stopped": "The agent stopped at {clock}.",
    "proof.kept": "{steps} recorded steps; run them again: jaga-agent replay {id}",
    "proof.gone": "{steps} recorded steps, no longer kept.",
    "proof.none": "none was kept.",
    # Other entries
    "entry.health": "{uplink}: {old} → {new}.",
    "entry.health.until": "It takes the site back at {clock} if it stays up.",
    "entry.target.silent": (
        "The target {target} fell silent on every uplink: its own fault. "
        "The site was not moved for it."
    ),
    "entry.target.answering": "The target {target} answers again.",
    "entry.started": "The agent started.",
    "entry.stopped": "The agent stopped.",
    "entry.break": "The chain has a break here.",
    "entry.turn": "A new file of the chain begins here.",
    "entry.gap": "The first packet came in by {uplink} after {gap}.",
    "entry.sealed": "The evidence of decision {of} was completed.",
    "entry.other": "{kind}: {uplink}",
    "kind.busy": "Load",
    "kind.check": "Check",
    "kind.quota": "Quota",
    "kind.order": "Order",
    "kind.configuration": "Configuration",
    "kind.governor": "Probing",
    "kind.clock": "Clock",
    # The engine's reasons
    "reason.new": "not tested yet",
    "reason.link.gone": "its device is gone: the modem was unplugged or reset itself",
    "reason.link.carrier": "no carrier: cable pulled or modem off",
    "reason.link.no_address": "no address or gateway: the modem gives none",
    "reason.race.silent": (
        "no answer from {asked} for {silent} while {witnesses} answered "
        "(first sign: {cause})"
    ),
    "reason.race.silent_alone": (
        "no answer from {asked} for {silent}; no other uplink answered either "
        "(first sign: {cause})"
    ),
    "reason.cause.traffic": "{packets} packets sent, none came back for {waited}",
    "reason.cause.syn": "{packets} connections asked for, none answered for {waited}",
    "reason.cause.late": "the answer from {target} was late",
    "reason.cause.refused": "the path to {target} was refused: {detail}",
    "reason.cause.not_sent": "a probe to {target} could not be sent: {detail}",
    "reason.cause.silent_too": "it did not answer when asked as a witness",
    "reason.cause.ordered": "it was tested on an operator's order",
    "reason.cause.verify": "it was tested after the move",
    "reason.verify": "it was tested after the move",
    "reason.loss.high": "it loses too many probes",
    "reason.loss.counted": "it lost {lost} of {of} probes",
    "reason.slow": "slow: a round trip takes {rtt}",
    "reason.slow.base": "slow: a round trip takes {rtt}, usually {base}",
    "reason.busy": (
        "full of the site's own traffic: a round trip takes {rtt} at {rate_kbit_s} "
        "kbit/s"
    ),
    "reason.busy.over": "no longer full: a round trip takes {rtt}",
    "reason.check.failed": (
        "{target} cannot be used by it, but by {witnesses}: {verdict}"
    ),
    "reason.check.alone": "{target} cannot be used: {verdict}",
    "reason.check.ok": "{target} can be used",
    "reason.dns.dead": "names cannot be looked up by it, but by {witnesses}",
    "reason.dns.dead.alone": "names cannot be looked up by it",
    "reason.answered": "{streak} answers in a row, round trip {rtt}",
    "reason.clean": "clean again, round trip {rtt}",
    "reason.clean.plain": "clean again",
    "reason.first": "the best uplink that works",
    "reason.holddown.over": "it has stayed up for its hold-down of {held}",
    "reason.target.silent": (
        "silent on {ways} of {ways} usable uplinks while other targets answer"
    ),
    "reason.target.failing": "fails on {ways} of {ways} usable uplinks: {verdict}",
    "reason.target.back": "answers again",
    "reason.thrift.quota": "{left_mb} of {quota_mb} MB are left: {what}",
    "reason.thrift.probes": (
        "its tests took {spent_kb} kB in 24 hours, {allowed_kb} kB are allowed: {what}"
    ),
    "reason.thrift.none": "quota and the tests' allowance suffice: {what}",
    "level.normal": "measured as usual",
    "level.thrift": "measured half as often",
    "level.sparing": "measured a quarter as often",
    "level.last-drops": "measured a twentieth as often, checked on suspicion only",
    "reason.order.switch": "ordered by operator {operator}",
    "reason.order.malformed": "not an order: {detail}",
    "reason.order.no_keys": "this site obeys nobody: {detail}",
    "reason.order.operator": "this site has no key of an operator {operator}",
    "reason.order.key": "the key of operator {operator} cannot be used: {detail}",
    "reason.order.forged": "not signed by operator {operator}: a forgery, or altered",
    "reason.order.elsewhere": "meant for site {site} of region {region}",
    "reason.order.memory": ("it cannot be told whether this was done before: {detail}"),
    "reason.order.repeated": "not newer than what this operator ordered before",
    "reason.order.same": "came again: answered again, not done again",
    "reason.order.early": (
        "issued {early} in the future: one of the two clocks is wrong"
    ),
    "reason.order.stale": "came {late} after it had expired",
    "reason.order.endless": "valid for {for}; {most} are the most",
    "reason.order.no_clock": (
        "this site does not know the time, and the order names no moment of this boot"
    ),
    "reason.order.unknown": "there is no action {action}",
    "reason.order.arguments": "{action}: {detail}",
    "reason.order.unfit": "{uplink} cannot carry the site: {why}",
    "reason.order.impossible": "{detail}",
    "reason.order.accepted": "{action}, ordered by operator {operator}",
    "reason.order.done": "{action}: {detail}",
    "reason.order.failed": "{action} failed: {detail}",
    "reason.order.many": "{count} more commands were refused",
    "reason.clock.first": (
        "the time is known, by {source}, within {within}; the Pi's own clock was off "
        "by {off}"
    ),
    "reason.clock.source": "the time comes from {source} now, not from {before} any more",
    "reason.clock.corrected": (
        "the time was wrong by {moved}; it is {source} now that tells it, within {within}"
    ),
    "reason.clock.stepped": (
        "the Pi's own clock stepped by {step}; records keep the time told by {source}"
    ),
    "reason.clock.stepped.unknown": (
        "the Pi's own clock stepped by {step}; nobody has confirmed the time yet"
    ),
    "reason.text": "{text}",
    # Who tells the time
    "source.unknown": "nobody",
    "source.ntp": "NTP",
    "source.reflector": "the collector",
    "source.http-date": "a web server with a good certificate",
    "source.modem": "the modem's network",
    "time.unknown": "nobody has confirmed the time since boot",
    "time.known": "{source} confirmed the time {age} ago; right within {within}",
    "time.off": "the Pi's own clock is off by {off}: records do not go by it",
    # Verdicts of checks
    "verdict.ok": "works",
    "verdict.dns-failed": "its name cannot be looked up",
    "verdict.refused": "the connection is refused",
    "verdict.unreachable": "the network says it cannot be reached",
    "verdict.timeout": "no answer",
    "verdict.reset": "the connection is cut off: the quota may be used up",
    "verdict.certificate": "another server answers in its place",
    "verdict.redirected": "led to another page: the quota may be used up",
    "verdict.unexpected": "the answer is not what it should be",
    "verdict.not-sent": "it could not be asked",
}
