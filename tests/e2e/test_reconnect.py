"""The agent's own connection moves with a failover: real kernel, agent, broker with TLS."""

import re
import statistics

import pytest

from demo.stage import BIN, agent_config
from lab import Lab, boottime_s
from lab.field import Field
from lab.namespace import end
from lab.topology import BROKER
from support.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(180)]

SITE = "tps-6408041010-002"
TELKOMSEL, INDOSAT = "telkomsel", "indosat"
CONNECTED, MOVED = "broker connected", "move rule=failover"
RESUMED = "TLS session taken up again: True"


class Log:
    """An agent's log, read as it grows."""

    def __init__(self, path):
        self._path = path

    def count(self, text):
        return self._path.read_text().count(text)

    def when(self, text, more_than, within_s=30):
        """Return when the text stood there once more, in seconds since boot."""
        until(lambda: self.count(text) > more_than, text, within_s)
        return boottime_s()


@pytest.fixture
def lab():
    with Lab.create() as running:
        yield running


@pytest.fixture
def field(lab):
    with Field(
        lab.directory / "field",
        sites=[SITE],
        address=BROKER,
        port=8883,
        start=lab.internet.popen,
    ) as running:
        yield running


@pytest.fixture
def log(lab, field):
    home = lab.directory / "agent"
    home.mkdir()
    files = field.site(SITE)
    config = agent_config(SITE, home, (2, 4))
    tls = f'ca = "{files.ca}"\ncert = "{files.cert}"\nkey = "{files.key}"\n'
    config, changed = re.subn(r"^tls = false\n", tls, config, flags=re.MULTILINE)
    assert changed == 1
    (home / "agent.toml").write_text(config)
    path = home / "log"
    with path.open("wb") as file:
        agent = lab.pi.popen(
            [
                *(str(BIN / "jaga-agent"), "run", "--verbose"),
                *("--config", str(home / "agent.toml")),
            ],
            stdout=file,
            stderr=file,
        )
    try:
        yield Log(path)
    finally:
        end([agent], 8)


def test_it_is_back_within_a_second_of_the_switch(lab, log):
    uplink, took = lab.uplinks[TELKOMSEL], []
    for n in range(1, 4):
        # The connection follows the failback too.
        log.when(f"to={TELKOMSEL} ", n - 1, 60)
        log.when(CONNECTED, 2 * n - 2)
        uplink.blackhole()
        moved_s = log.when(MOVED, n - 1)
        took.append(log.when(CONNECTED, 2 * n - 1) - moved_s)
        uplink.restore()
    assert statistics.median(took) < 1.0, took
    # The carrier's round trips are in it, but no whole handshake.
    assert log.count(RESUMED) >= 3
