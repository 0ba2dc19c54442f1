"""One step's working copy of the state: changes are collected, then frozen again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jaga_agent.core.actions import (
    Action,
    Candidate,
    ReportBusy,
    ReportGap,
    ReportHealth,
    ReportTarget,
    SelectUplink,
    SendCheck,
    SendProbe,
)
from jaga_agent.core.estimate import LossTest, RoundTrip
from jaga_agent.core.model import Health, Instant, TargetName, UplinkName
from jaga_agent.core.reason import ORDERED, Reason, because
from jaga_agent.core.state import (
    USABLE,
    Chosen,
    Cut,
    Path,
    Probe,
    State,
    UplinkState,
    changed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class Turn:
    """The state while one event is worked in. One door for each kind of change."""

    def __init__(self, state: State, now: Instant) -> None:
        self.now = now
        self.policy = state.policy
        self.per: list[UplinkState] = list(state.per)
        self.active = state.active
        self._state = state
        self._outstanding = state.outstanding
        self._faulty = state.faulty_targets
        self._next_probe_id = state.next_probe_id
        self._usable_since = state.usable_since
        self._cut = state.cut
        self.hold_until = state.hold_until
        self.chosen = state.chosen
        self._actions: list[Action] = []

    def done(self) -> tuple[State, tuple[Action, ...]]:
        """Return the frozen outcome."""
        state = State(
            self.policy,
            tuple(self.per),
            self.active,
            self._outstanding,
            self._faulty,
            self._next_probe_id,
            self.usable_since,
            self._cut,
            self.hold_until,
            self.chosen,
        )
        return state, tuple(self._actions)

    # Uplinks

    def index(self, name: UplinkName) -> int:
        """Return the uplink's place."""
        return self._state.index(name)

    @property
    def active_index(self) -> int | None:
        """The place of the uplink that carries the site."""
        return None if self.active is None else self._state.index(self.active)

    def name(self, index: int) -> UplinkName:
        """Return the uplink's name."""
        return self.policy.uplinks[index].name

    def change(self, index: int, **changes: Any) -> None:
        """Replace fields of one uplink's state."""
        self.per[index] = changed(self.per[index], changes)

    def set_health(self, index: int, new: Health, reason: Reason) -> None:
        """Change an uplink's health: the one door, which also reports it."""
        per = self.per[index]
        if per.health is new:
            return
        first_usable = new in USABLE and self.usable_since is None
        self.change(index, health=new, since=self.now, reason=reason)
        if first_usable:
            self._regroup()
        if per.health is Health.UP or (per.health in USABLE and new is Health.DOWN):
            half_life_s = self.policy.penalty_half_life_s
            self.change(index, damping=per.damping.fallen(self.now, half_life_s))
        if new in (Health.DOWN, Health.DEGRADED):
            # The doubts were right: the next ones are not made to wait.
            self.change(
                index,
                check_calm_until=None,
                check_calm_s=0.0,
                doubt_calm_until=None,
                doubt_calm_s=0.0,
            )
        if new is Health.DOWN:
            # What comes back may be another link: its round trips are learnt anew.
            self.change(
                index, race=None, streak=0, loss=LossTest(), overall=RoundTrip()
            )
            self.set_busy(index, None)
        self._actions.append(ReportHealth(self.name(index), per.health, new, reason))

    def set_busy(self, index: int, reason: Reason | None) -> None:
        """Take note that an uplink's queue is (None: no longer) full of our own."""
        per = self.per[index]
        if per.busy == (reason is not None):
            return
        self.change(index, busy=reason is not None)
        if reason is None:
            rtt_ms = (per.overall.srtt_s or 0.0) * 1000
            over = because("busy.over", rtt_ms=rtt_ms)
            self._actions.append(ReportBusy(self.name(index), False, over))
        else:
            self._actions.append(ReportBusy(self.name(index), True, reason))

    @property
    def usable_since(self) -> Instant | None:
        """Since when any uplink is usable; None while none is."""
        if not any(per.health in USABLE for per in self.per):
            return None
        return self._usable_since

    @property
    def regrouping(self) -> bool:
        """Whether all had been silent until a moment ago: one answer is then enough."""
        since = self.usable_since
        return since is None or self.now < since + self.policy.regroup_s

    def _regroup(self) -> None:
        """Ask every other uplink at once, so that the active one gets its chance."""
        self._usable_since = self.now
        for index, per in enumerate(self.per):
            if per.linked and per.health is Health.DOWN:
                self.change(index, last_probe_at=None)

    def select(self, index: int, rule: str, reason: Reason) -> None:
        """Make one uplink carry the site."""
        previous = self.active
        detected_s = None
        heard_at = self.now
        if previous is not None and rule == "failover":
            last = self.per[self.index(previous)].heard_at
            if last is not None:
                heard_at, detected_s = last, self.now - last
        if previous is not None:
            self._cut = Cut(heard_at, self.per[index].traffic.rx_packets)
        self.active = self.name(index)
        ordered = reason.code == ORDERED
        self.chosen = Chosen(self.active, self.now) if ordered else None
        self._actions.append(
            SelectUplink(
                self.active, previous, rule, reason, detected_s, self._candidates()
            )
        )

    def _candidates(self) -> tuple[Candidate, ...]:
        return tuple(
            Candidate(
                uplink.name,
                per.health,
                None if per.overall.srtt_s is None else per.overall.srtt_s * 1000,
                per.reason,
            )
            for uplink, per in zip(self.policy.uplinks, self.per, strict=True)
        )

    def came_in(self, index: int) -> None:
        """Take note of a packet received: the first one after a move ends its cut."""
        if self._cut is None or self.name(index) != self.active:
            return
        if self.per[index].traffic.rx_packets == self._cut.rx_packets:
            return
        gap_s = self.now - self._cut.since
        self._cut = None
        self._actions.append(ReportGap(self.name(index), gap_s))

    # Paths and targets

    def path(self, index: int, target: TargetName) -> Path:
        """Return one target's path through one uplink."""
        return self.per[index].paths[self.policy.targets.index(target)]

    def set_path(self, index: int, target: TargetName, **changes: Any) -> None:
        """Replace fields of one path."""
        at = self.policy.targets.index(target)
        paths = self.per[index].paths
        path = replace(paths[at], **changes)
        self.change(index, paths=(*paths[:at], path, *paths[at + 1 :]))

    def target_answers(self, target: TargetName) -> None:
        """Take note that a target answered somewhere."""
        if target in self._faulty:
            self._faulty -= {target}
            self.tell(ReportTarget(target, True, because("target.back")))

    def judge_target(self, target: TargetName) -> bool:
        """Return whether the target is at fault: silent wherever other targets answer."""
        if target in self._faulty:
            return True
        at = self.policy.targets.index(target)
        usable = [per for per in self.per if per.health in USABLE and per.linked]
        if len(self.policy.targets) < 2 or not usable:
            return False
        silent_everywhere = all(per.paths[at].misses >= 2 for per in usable)
        others_answer = all(
            any(p.misses == 0 and p.round_trip.srtt_s is not None for p in per.paths)
            for per in usable
        )
        if not (silent_everywhere and others_answer):
            return False
        self.blame_target(target, because("target.silent", ways=len(usable)))
        return True

    def blame_target(self, target: TargetName, reason: Reason) -> None:
        """Take note that a target is at fault itself."""
        if target not in self._faulty:
            self._faulty |= {target}
            self.tell(ReportTarget(target, False, reason))

    def tell(self, action: Action) -> None:
        """Add an action to this step's."""
        self._actions.append(action)

    def live_targets(self) -> list[TargetName]:
        """Return the targets worth a race: all, but those known to be at fault."""
        live = [t for t in self.policy.targets if t not in self._faulty]
        return live or list(self.policy.targets)

    # Probes

    def send(
        self,
        index: int,
        target: TargetName,
        timeout_s: float,
        *,
        racing: bool,
        asleep: bool,
    ) -> None:
        """Send one probe that is overdue after `timeout_s`."""
        probe = Probe(
            self._next_probe_id,
            self.name(index),
            target,
            self.now,
            Instant(self.now + timeout_s),
            racing,
            asleep,
        )
        self._next_probe_id += 1
        self._outstanding = (*self._outstanding, probe)
        self.change(index, last_probe_at=self.now)
        self._actions.append(SendProbe(probe.probe_id, probe.uplink, target))

    def send_check(self, index: int, target: TargetName) -> int:
        """Send one check and return its id."""
        check_id = self._next_probe_id
        self._next_probe_id += 1
        self._actions.append(SendCheck(check_id, self.name(index), target))
        return check_id

    def take(self, probe_id: int) -> Probe | None:
        """Return the probe and forget it; None if it is too old to be known."""
        found = next((p for p in self._outstanding if p.probe_id == probe_id), None)
        if found is not None:
            self._outstanding = tuple(p for p in self._outstanding if p is not found)
        return found

    def forget_probes(self, uplink: UplinkName) -> None:
        """Forget what is under way on an uplink that lost its link."""
        self._outstanding = tuple(p for p in self._outstanding if p.uplink != uplink)

    def overdue_probes(self) -> Iterator[Probe]:
        """Mark and yield each probe whose deadline has just passed."""
        late = [
            p for p in self._outstanding if not p.overdue and p.deadline <= self.now
        ]
        if late:
            self._outstanding = tuple(
                replace(p, overdue=True) if p in late else p for p in self._outstanding
            )
        yield from late

    def drop_lost_probes(self) -> None:
        """Forget probes so old that their reply would not count any more."""
        # The same sum as in `next_deadline`: a difference would round differently.
        after_s = self.policy.lost_after_s
        if any(
            p.overdue and p.sent_at + after_s <= self.now for p in self._outstanding
        ):
            self._outstanding = tuple(
                p
                for p in self._outstanding
                if not (p.overdue and p.sent_at + after_s <= self.now)
            )

    def racing(self, index: int, since: Instant) -> list[Probe]:
        """Return this uplink's race probes sent since then and still awaited."""
        name = self.name(index)
        return [
            p
            for p in self._outstanding
            if p.uplink == name and p.racing and not p.overdue and p.sent_at >= since
        ]
