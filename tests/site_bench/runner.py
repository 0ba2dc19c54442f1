"""One subject on one lab: bring a fault upon it, watch the phone, repair, again."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from lab import Lab, analysis
from lab.clock import boottime_s, sleep_until
from lab.errors import LabError
from site_bench.cases import ACTIVE, GREEDY_BIT_S, UPLOAD_BIT_S, Case
from site_bench.observe import MQTT, OTHER, ByteCount, Cost, RouteWatch
from site_bench.outcome import Idle, Run

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from lab import Measurement
    from site_bench.subjects import Subject

SETTLE_S = 2.0
STARTED_S = 20.0
OFFSET_S = 10.0
"""A fault comes at any point of a round of probes; the longest is 10 s."""
STARTS_WITHIN_S = 3.0
"""How long after a fault a late phone starts, at most."""
TIMEOUT_S = 2.0
"""Of the phone's attempts: what became of one is known after it."""
LOOKUP_S = 0.05
"""The phone looks a name up so often (lab.lookups)."""
QUICK_WINDOW_S = 15.0
USUAL_WINDOW_S = 30.0
LONG_WINDOW_S = 60.0
QUIET_S = 2.0
"""Without a bad attempt for so long, the site is back."""
STEP_S = 0.5


class Bench:
    """A lab with one subject on its Pi."""

    def __init__(self, make: type[Subject], rng: random.Random | None = None) -> None:
        self.lab = Lab.create()
        self._rng = rng or random.Random()
        try:
            self.lab.start_broker()
            self.subject = make(self.lab)
            self.routes = RouteWatch(self.lab.pi)
            self.routes.__enter__()
            self.subject.serve_names()
            self.subject.start()
        except BaseException:
            self.lab.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.subject.stop()
        self.routes.__exit__(kind, error, trace)
        self.lab.close()

    def run(self, case: Case, *, quick: bool = False) -> Run:
        """Run a case once; the site is whole and on its first uplink on return.

        Raises LabError, also then.
        """
        how = {"late": self._late, "names": self._names}.get(case.use, self._used)
        # Not in a `finally`: whoever interrupts does not want to wait for it.
        try:
            run = how(case, quick=quick)
        except LabError:
            self._repair()
            raise
        self._repair()
        return run

    def _repair(self) -> None:
        self.lab.restore()
        self.subject.reset()

    def idle(self, seconds: float) -> Idle:
        """Watch it for so long while nobody uses the site.

        What it asks at its start is not idleness: the agent checks Sirekap once by each
        uplink, and then each 15 minutes (0.3 MB a day, `tests/agent/adapters`).
        """
        sleep_until(boottime_s() + STARTED_S)
        count = ByteCount(self.lab)
        count.start()
        cost = Cost(self.subject.process)
        before_s = boottime_s()
        sleep_until(before_s + seconds)
        took_s = boottime_s() - before_s
        totals = count.read()
        count.stop()
        day = 86_400 / took_s
        return Idle(
            subject=self.subject.name,
            seconds=took_s,
            probe_bytes_day={name: of[OTHER] * day for name, of in totals.items()},
            mqtt_bytes_day=sum(of[MQTT] for of in totals.values()) * day,
            cpu_ratio=cost.cpu_ratio(),
            rss_bytes=cost.rss_bytes(),
        )

    def _used(self, case: Case, *, quick: bool) -> Run:
        upload_bit_s = GREEDY_BIT_S if case.use == "greedy" else UPLOAD_BIT_S
        phone = self.lab.phone.start(timeout_s=TIMEOUT_S, upload_bit_s=upload_bit_s)
        try:
            phone.wait_good(ACTIVE, timeout_s=30)
            self._pause(SETTLE_S, SETTLE_S + OFFSET_S)
            cost = Cost(self.subject.process)
            began_s = boottime_s()
            effect = case.act(self.lab, self._lasts_s(case, quick=quick))
            self._tell(case)
            # What lasts is judged from its beginning; a repair, from the repair.
            since_s = effect.at_s
            until_s = boottime_s() if case.lasts_s else since_s
            until_s += self._window_s(case, quick=quick)
            until_s, ended = self._watch(phone, case, since_s, until_s)
            cpu, rss = cost.cpu_ratio(), cost.rss_bytes()
            reported = self._reported(case, began_s)
        finally:
            phone.stop()
        summary = phone.summary(since_s, until_s)
        good = [a for a in phone.log().attempts if a.start_s >= since_s and a.good()]
        back_s = good[0].start_s + good[0].duration_s - since_s if good else None
        upload = analysis.upload_gap(phone.log().upload, since_s - 1, until_s)
        moved = self.routes.moves(since_s, until_s)
        return Run(
            case=case.name,
            subject=self.subject.name,
            bad_s=summary.bad_s,
            ended=ended,
            upload_gap_s=None if upload is None else upload.gap_s,
            upload_open=upload is not None and upload.open and upload.gap_s > QUIET_S,
            moves=len(moved),
            moved_after_s=moved[0] - since_s if moved else None,
            back_after_s=None if case.goal.back_within_s is None else back_s,
            reported=reported,
            cpu_ratio=cpu,
            rss_bytes=rss,
        )

    def _late(self, case: Case, *, quick: bool) -> Run:
        self._pause(SETTLE_S, SETTLE_S + OFFSET_S)
        effect = case.act(self.lab, self._lasts_s(case, quick=quick))
        self._tell(case)
        self._pause(0.0, STARTS_WITHIN_S)
        cost = Cost(self.subject.process)
        phone = self.lab.phone.start(timeout_s=TIMEOUT_S, upload_bit_s=0)
        try:
            since_s = boottime_s()
            until_s = since_s + self._window_s(case, quick=quick)
            until_s, ended = self._watch(phone, case, since_s, until_s)
            cpu, rss = cost.cpu_ratio(), cost.rss_bytes()
        finally:
            phone.stop()
        summary = phone.summary(effect.at_s, until_s)
        moved = self.routes.moves(effect.at_s, until_s)
        return Run(
            case=case.name,
            subject=self.subject.name,
            bad_s=summary.bad_s,
            ended=ended,
            moves=len(moved),
            moved_after_s=moved[0] - effect.at_s if moved else None,
            cpu_ratio=cpu,
            rss_bytes=rss,
        )

    def _names(self, case: Case, *, quick: bool) -> Run:
        from lab.lookups import Lookups  # comes with the hook

        log = self.lab.directory / f"lookups-{boottime_s():.3f}.jsonl"
        lookups = Lookups(self.lab.phone, log)
        try:
            self._pause(SETTLE_S, SETTLE_S + OFFSET_S)
            effect = case.act(self.lab, 0.0)
            self._tell(case)
            until_s = effect.at_s + self._window_s(case, quick=quick)
            sleep_until(until_s + TIMEOUT_S)
            after = lookups.between(effect.at_s, until_s)
        finally:
            lookups.stop()
        last = [each.bad for each in after if each.start_s >= until_s - QUIET_S]
        moved = self.routes.moves(effect.at_s, until_s)
        return Run(
            case=case.name,
            subject=self.subject.name,
            bad_s=sum(each.bad for each in after) * LOOKUP_S,
            ended=bool(last) and not any(last),
            moves=len(moved),
            moved_after_s=moved[0] - effect.at_s if moved else None,
        )

    def _watch(
        self, phone: Measurement, case: Case, since_s: float, until_s: float
    ) -> tuple[float, bool]:
        """Wait for the window's end, and longer if the site is not back by then.

        Returns when the window ended, and whether the site was good again by then.
        """
        # A case that wants no move is over when its window is.
        patience_s = self.subject.patience_s if case.told else 0.0
        last_s = max(until_s, since_s + patience_s)
        sleep_until(until_s + TIMEOUT_S)
        while True:
            if back(phone.log(), until_s):
                return until_s, True
            if until_s >= last_s:
                return until_s, False
            until_s += STEP_S
            sleep_until(until_s + TIMEOUT_S)

    def _tell(self, case: Case) -> None:
        if case.told:
            self.subject.tell()
        elif case.goal.back_within_s is not None:
            self.subject.tell_back()

    def _reported(self, case: Case, since_s: float) -> bool | None:
        if case.report is None:
            return None
        return self.subject.reports(case.report, since_s)

    def _lasts_s(self, case: Case, *, quick: bool) -> float:
        if quick and case.quick_lasts_s is not None:
            return case.quick_lasts_s
        return case.lasts_s or 0.0

    def _window_s(self, case: Case, *, quick: bool) -> float:
        # A case with a window of its own has it for a reason.
        if not quick or USUAL_WINDOW_S < case.window_s <= LONG_WINDOW_S:
            return case.window_s
        usual = case.window_s <= USUAL_WINDOW_S
        return min(case.window_s, QUICK_WINDOW_S if usual else LONG_WINDOW_S)

    def _pause(self, least_s: float, most_s: float) -> None:
        sleep_until(boottime_s() + self._rng.uniform(least_s, most_s))


def back(log: analysis.PhoneLog, until_s: float) -> bool:
    """Return whether the last attempts before `until_s` were all good. Pure."""
    last = [a.good() for a in log.attempts if until_s - QUIET_S <= a.start_s <= until_s]
    return bool(last) and all(last)
