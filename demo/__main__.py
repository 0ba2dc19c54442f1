"""`make demo`: a polling site loses its uplink, and the district's page shows it.

Tells what happens as it happens. With --once it ends by itself; its last line is one
JSON object and its exit status is 0 only if the failover, the failback and the page's
view of both were really seen.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
# The lab lives with the tests: it is never shipped.
sys.path.insert(0, str(ROOT / "tests"))

from demo.browser import chromium  # noqa: E402 - after the path above
from demo.stage import HOLD_DOWN_CAP_S, DemoError, Stage  # noqa: E402
from demo.view import View  # noqa: E402 - after the path above
from lab import LabError, boottime_s  # noqa: E402 - after the path above

if TYPE_CHECKING:
    from demo.browser import Screen
    from lab import Effect, Measurement

QUIET_S: Final = 20.0
"""Before the fault: long enough to look at the page."""
SILENT_S: Final = 12.0
ONLINE_S: Final = 60.0
FAILOVER_S: Final = 30.0
PAGE_S: Final = 5.0
VICTIM: Final = "telkomsel"


@dataclass
class Seen:
    """What was really seen in one round."""

    failover: bool = False
    failback: bool = False
    page_failover: bool = False
    page_failback: bool = False
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def all(self) -> bool:
        return (
            self.failover
            and self.failback
            and self.page_failover
            and self.page_failback
        )


class Story:
    """Tells and measures one demo."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._active: str | None = None
        self._site = ""

    def say(self, text: str) -> None:
        with self._lock:
            print(f"{time.monotonic() - self._began:7.1f} s  {text}", flush=True)

    def run(self) -> int:
        arguments = self._arguments
        with Stage(arguments.data, arguments.port, arguments.fleet, self.say) as stage:
            self._site = stage.site
            view = View(stage.base, self._tell)
            view.start()
            self._wait_online(stage, view)
            phone = stage.lab.phone.start()
            self.say("phone: opens a connection to Sirekap each 50 ms, and uploads")
            with chromium(stage.base, stage.directory) as screen:
                screen.open_site(stage.site)
                if not screen.shows(f"site-active-{stage.site}", VICTIM, PAGE_S * 2):
                    msg = f"the page does not show {VICTIM} carrying {stage.site}"
                    raise DemoError(msg)
                while True:
                    seen = self._round(stage, view, screen, phone)
                    if arguments.once:
                        break
                    self.say("again in a minute; Ctrl-C ends the demo")
                    self._pass(stage, 60.0)
            phone.stop()
        self.say("everything is taken down")
        print(json.dumps(seen.numbers), flush=True)
        return 0 if seen.all else 1

    def _wait_online(self, stage: Stage, view: View) -> None:
        self.say(f"waiting until all {stage.total} sites are online on the page")
        if not view.wait(lambda v: v.all_online(stage.total), ONLINE_S):
            stage.check()
            online = view.summary.get("online", 0)
            msg = f"only {online} of {stage.total} sites online after {ONLINE_S:.0f} s"
            raise DemoError(msg)
        self.say(f"district: {stage.total} of {stage.total} sites online")

    def _round(
        self, stage: Stage, view: View, screen: Screen, phone: Measurement
    ) -> Seen:
        seen = Seen()
        shown = f"site-active-{stage.site}"
        self.say(f"all is well; in {QUIET_S:.0f} s Telkomsel falls silent")
        self._pass(stage, QUIET_S)
        told = len(view.events)
        fault = stage.lab.uplinks[VICTIM].blackhole()
        self.say("FAULT: Telkomsel is silent: carrier up, nothing comes back")
        moved = view.wait(lambda v: self._decision(v, told, "failover"), FAILOVER_S)
        seen.failover = moved is not None
        refuge = "" if moved is None else str(moved["new"])
        seen.page_failover = seen.failover and screen.shows(shown, refuge, PAGE_S)
        self._tell_page(refuge, seen=seen.page_failover)
        self._pass(stage, SILENT_S)
        gap = phone.summary(fault.at_s - 1.0, boottime_s() - 2.5)
        told = len(view.events)
        stage.lab.uplinks[VICTIM].restore()
        self.say(
            "REPAIR: Telkomsel answers again; it must stay up for its hold-down to return"
        )
        back = view.wait(
            lambda v: self._decision(v, told, "failback"), HOLD_DOWN_CAP_S + FAILOVER_S
        )
        seen.failback = back is not None
        seen.page_failback = seen.failback and screen.shows(shown, VICTIM, PAGE_S)
        self._tell_page(VICTIM, seen=seen.page_failback)
        self._pass(stage, 3.0)
        lost, heartbeats = self._losses(stage)
        seen.numbers = {
            "gap_s": round(gap.gap_s, 3),
            "failover_s": None if moved is None else self._since(fault, moved),
            "heartbeats": heartbeats,
            "lost": lost,
            "sites_online": stage.get("/api/1/summary")["online"],
            "failback": seen.failback,
        }
        self.say(
            f"the phone noticed {gap.gap_s:.2f} s; {heartbeats} heartbeats of this site "
            f"arrived, {lost} lost"
        )
        return seen

    def _decision(self, view: View, told: int, rule: str) -> dict[str, Any] | None:
        for event in view.events[told:]:
            mine = event["site"] == self._site and event["kind"] == "decision"
            if mine and event["rule"] == rule:
                return event
        return None

    def _since(self, fault: Effect, event: dict[str, Any]) -> float:
        """Return seconds from the fault to the event, as the collector dates it."""
        boot_wall_s = time.time() - boottime_s()
        return round(event["at_ms"] / 1000 - boot_wall_s - fault.at_s, 3)

    def _losses(self, stage: Stage) -> tuple[int | None, int]:
        """Return what the collector lacks of what the agent recorded, and what it has."""
        deadline = time.monotonic() + 10
        while True:
            records = stage.agent_status()["records"]
            detail = stage.get(f"/api/1/sites/{stage.site}")
            behind = records["last_seq"] - (detail["last_seq"] or 0)
            has_all = detail["missing"] == 0 and behind <= 0
            if has_all or time.monotonic() > deadline:
                lacking = detail["lost"] + detail["missing"]
                lost = lacking + max(0, behind) + records["dropped"]
                return lost, detail["heartbeats"]
            time.sleep(0.1)

    def _tell(self, update: dict[str, Any]) -> None:
        """Say what the collector's stream tells of the lab site."""
        for event in update["events"]:
            if event["site"] != self._site:
                continue
            if event["kind"] == "health":
                change = f"{event['uplink']} {event['old']} → {event['new']}"
                self.say(f"collector hears: {change}: {event['reason']}")
            elif event["kind"] == "decision":
                times = [
                    f"{word} in {event[key]} ms"
                    for key, word in (
                        ("detected_ms", "detected"),
                        ("switched_ms", "switched"),
                    )
                    if event[key] is not None
                ]
                move = f"{event['old'] or 'nothing'} → {event['new']}"
                timing = f" ({', '.join(times)})" if times else ""
                self.say(f"collector hears: {event['rule'].upper()} {move}{timing}")

    def _tell_page(self, uplink: str, *, seen: bool) -> None:
        if seen:
            self.say(f"page shows: {self._site} is carried by {uplink}")
        else:
            self.say(f"page does NOT show {uplink or 'any move'} within {PAGE_S:.0f} s")

    def _pass(self, stage: Stage, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.5))
            stage.check()


def main() -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after one round")
    parser.add_argument("--port", type=int, default=8080, help="of the page")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("JAGA_SHARED_DATA", ROOT.parent / "shared/data")),
        help="folder of kutim-sites.csv and kutim-kecamatan.geojson",
    )
    parser.add_argument(
        "--fleet", type=int, help="simulated sites (default: all others of the list)"
    )
    arguments = parser.parse_args()
    arguments.data = arguments.data.resolve()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        _require(arguments.data)
        return Story(arguments).run()
    except (DemoError, LabError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except _Ended as end:
        print("demo: ended; nothing is left behind", file=sys.stderr)
        return 128 + int(end.args[0])


class _Ended(KeyboardInterrupt):
    """A signal asked for the end; its argument is the signal's number."""


def _interrupt(signal_number: int, _frame: object) -> None:
    """End in order; a second Ctrl-C must not end the taking down half-way."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    print("\ndemo: taking everything down …", file=sys.stderr, flush=True)
    raise _Ended(signal_number)


def _require(data: Path) -> None:
    if not (data / "kutim-sites.csv").exists():
        msg = f"no kutim-sites.csv in {data}; give its folder with --data"
        raise DemoError(msg)
    if os.geteuid() != 0:
        msg = "the lab needs root for network namespaces; use: sudo make demo"
        raise DemoError(msg)


if __name__ == "__main__":
    sys.exit(main())
