"""What the core asks of checks reaches the checker, and the outcome the core."""

import types

from jaga_agent import config
from jaga_agent.core import timekeeping
from jaga_agent.core.actions import SendCheck
from jaga_agent.core.events import CheckDone, CheckVerdict
from jaga_agent.ports import Checked, Phases
from jaga_agent.runtime.checks import Checks

CONFIG = """
[site]
id = "tps-1"
[[uplink]]
name = "telkomsel"
device = "wan0"
[[target]]
name = "sirekap"
url = "https://sirekap.example/"
[mqtt]
host = "collector.example"
tls = false
"""


class Checker:
    """The port, kept by hand: told outcomes come when the test says."""

    def __init__(self, listener):
        self.listener = listener
        self.sent = []
        self.closed = False

    def send(self, check_id, device, target):
        self.sent.append((check_id, device, target.host))

    def close(self):
        self.closed = True


def test_a_check_goes_out_and_its_outcome_comes_back(tmp_path):
    path = tmp_path / "agent.toml"
    path.write_text(CONFIG)
    made, fed = [], []

    def make(listener):
        made.append(Checker(listener))
        return made[0]

    heard = []
    timekeeper = types.SimpleNamespace(hear=heard.append)
    doors = types.SimpleNamespace(make_checker=make, timekeeper=timekeeper)
    checks = Checks(config.load(path)[0], doors, fed.append)
    (checker,) = made
    checks.send(SendCheck(7, "telkomsel", "sirekap"))
    assert checker.sent == [(7, "wan0", "sirekap.example")]
    assert fed == []
    outcome = Checked(CheckVerdict.RESET, "connection reset by peer", Phases(), 823)
    checker.listener.checked(7, outcome)
    assert fed == [CheckDone(7, CheckVerdict.RESET, "connection reset by peer", 823)]
    assert heard == []
    time = timekeeping.of_http_date(1_795_000_000, sent_ns=0, received_ns=1)
    checks.send(SendCheck(8, "telkomsel", "sirekap"))
    ok = Checked(CheckVerdict.OK, "HTTP 200", Phases(), 2500, time)
    checker.listener.checked(8, ok)
    assert heard == [time]
    checks.close()
    assert checker.closed
