"""An operator's commands, for real: his tool, a real Mosquitto, a real agent in the lab,
a real collector whose watermark proves a configuration."""

import json
import re
import signal
import subprocess

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from demo.stage import BIN, Stage, agent_config
from jaga_agent.wire.base import encode
from jaga_agent.wire.orders import Command
from support.operators import Operator
from support.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(300)]

TRIAL_S = 25
"""The collector says what it has of a site once it hears it on a new connection."""


class CommandedStage(Stage):
    """A stage whose agent obeys an operator, with a shorter trial."""

    @property
    def home(self):
        return self.directory / "agent"

    @property
    def card(self):
        """The technician's file."""
        return self.home / "agent.toml"

    def start_agent(self):
        self.home.mkdir(exist_ok=True)
        if not self.card.exists():
            self.operator = Operator(self.home / "operators", "ani")
            text = agent_config(self.site, self.home, (20, 40))
            text += f'\n[commands]\nkeys = "{self.home / "operators"}"\n'
            self.card.write_text(text)
        arguments = [BIN / "jaga-agent", "run", "--config", self.card]
        arguments += ["--trial-s", str(TRIAL_S)]
        self.agent = self._start("jaga-agent", arguments, self.lab.pi.popen)
        self._wait("jaga-agent", lambda: self.agent_status()["active"] is not None)

    def status(self):
        """As `agent_status`; empty while the agent starts anew."""
        try:
            return self.agent_status()
        except subprocess.CalledProcessError:
            return {}

    def command(self, *words, site=None, operator=None, **options):
        """Run the operator's tool; return its exit status and what it printed."""
        operator = operator or self.operator
        done = subprocess.run(
            [
                *(BIN / "jaga-collector", "command", *words),
                *("--site", site or self.site, "--operator", operator.name),
                *("--key", operator.key, "--socket", self.broker.socket_path),
                *("--api", self.base),
                *(w for k, v in options.items() for w in (f"--{k}", str(v))),
            ],
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def events(self, **of):
        found = self.get(f"/api/1/events?site={self.site}&limit=500")["events"]
        return [e for e in found if all(e[k] == v for k, v in of.items())]

    def source(self):
        return self.status().get("configuration", {}).get("source")

    def said(self):
        done = subprocess.run(
            [BIN / "jaga-agent", "check-config", "--no-devices", "--config", self.card],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def has_told(self, outcome, reason):
        """Whether the collector has an event of an order, with these words in it."""
        found = [e["reason"] for e in self.events(kind="order", new=outcome)]
        return any(re.search(reason, text) for text in found)


@pytest.fixture(scope="module")
def stage(shared_data, free_port):
    with CommandedStage(shared_data, free_port(), 0, lambda _: None) as stage:
        until(lambda: stage.get(f"/api/1/sites/{stage.site}")["boot_ms"], within_s=40)
        until(lambda: stage.status()["broker"]["connected"], within_s=30)
        until(lambda: all(u["health"] == "up" for u in stage.status()["uplinks"]))
        yield stage


def test_switch_to(stage):
    status, said = stage.command("switch-to", "indosat")
    assert status == 0, said
    assert re.search(r"accepted: switch-to, ordered by operator ani", said)
    assert re.search(r"done: moved from telkomsel to indosat in \d+ ms", said)
    assert stage.status()["active"] == "indosat"
    assert stage.status()["chosen"] == "indosat"
    decision = until(lambda: stage.events(kind="decision", rule="switchover"))[0]
    assert decision["reason"] == "indosat: ordered by operator ani"
    until(lambda: stage.has_told("done", "switch-to: moved from telkomsel"))
    told = stage.events(kind="order", new="done")[0]["evidence"]
    assert (told["operator"], told["action"]) == ("ani", "switch-to")


def test_to_where_it_cannot_it_is_refused_and_told_why(stage):
    stage.lab.uplinks["telkom-fibre"].blackhole()
    try:
        until(lambda: stage.status()["uplinks"][2]["health"] == "down", within_s=60)
        status, said = stage.command("switch-to", "telkom-fibre")
        assert status == 1
        assert "refused: telkom-fibre cannot carry the site: silent for" in said
        assert stage.status()["active"] == "indosat"
        until(lambda: stage.has_told("refused", "cannot carry the site"))
    finally:
        stage.lab.restore()


def test_hold_and_release(stage):
    status, said = stage.command("hold", "600")
    assert status == 0, said
    assert 590 < stage.status()["held_for_s"] <= 600
    status, said = stage.command("hold", "0")
    assert status == 0, said
    assert stage.status()["held_for_s"] is None
    # Nothing holds it there any more: back to the preferred one.
    until(lambda: stage.status()["active"] == "telkomsel", within_s=60)


def test_probe_now(stage):
    status, said = stage.command("probe-now")
    assert status == 0, said
    assert re.search(r"telkomsel up, \d+ ms, 3 of 3 targets", said)
    assert "telkom-fibre" in said


def test_set_mode_holds_at_once_and_over_a_restart(stage):
    status, said = stage.command("set-mode", "dormant")
    assert status == 0, said
    assert stage.status()["mode"] == "dormant"
    until(lambda: stage.status()["broker"]["connected"])
    assert stage.command("hold", "900")[0] == 0
    until(lambda: stage.get(f"/api/1/sites/{stage.site}")["mode"] == "dormant")
    stage.agent.send_signal(signal.SIGKILL)
    stage.agent.wait()
    stage.start_agent()
    assert stage.status()["mode"] == "dormant"
    assert stage.status()["held_for_s"] > 700
    until(lambda: stage.status()["broker"]["connected"])
    assert stage.command("hold", "0")[0] == 0
    status, said = stage.command("set-mode", "polling-day")
    assert status == 0, said
    until(lambda: stage.get(f"/api/1/sites/{stage.site}")["mode"] == "polling-day")


def test_diagnostics(stage, tmp_path):
    status, said = stage.command("send-diagnostics", output=tmp_path)
    assert status == 0, said
    told = json.loads((tmp_path / f"{stage.site}.json").read_text())
    assert told["status"]["site"] == stage.site
    assert told["config"]["mqtt"]["tls"] is False
    assert any("order accepted" in line for line in told["warnings"])


def test_a_modem_that_is_no_usb_device(stage):
    status, said = stage.command("reboot-modem", "indosat")
    assert status == 1
    assert re.search(r"refused: indosat: wan1 is no USB device", said)


def test_unsigned_from_the_broker_s_own_account(stage):
    order = stage.operator.order("switch-to", site=stage.site)
    client = paho.Client(
        CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5, transport="unix"
    )
    client.connect(str(stage.broker.socket_path))
    client.loop_start()
    try:
        for payload in (encode(Command(encode(order), b"")), b"hello"):
            client.publish(
                f"jaga/1/6408/{stage.site}/command", payload, qos=1
            ).wait_for_publish(10)
    finally:
        client.disconnect()
        client.loop_stop()
    until(lambda: stage.has_told("refused", "not signed by operator ani"))
    until(lambda: stage.has_told("refused", "not an order"))
    log = (stage.directory / "jaga-agent.log").read_text()
    assert "order refused operator=ani action=switch-to" in log


def test_an_operator_whom_the_site_does_not_know(stage, tmp_path):
    thief = Operator(tmp_path / "elsewhere", "ani")
    status, said = stage.command("switch-to", "indosat", operator=thief)
    assert status == 1
    assert "refused: not signed by operator ani" in said


def test_nobody_at_the_other_end(stage):
    status, said = stage.command("probe-now", site="tps-nowhere", **{"wait-s": 2})
    assert status == 1
    assert "tps-nowhere: no answer within 2 s: nothing was heard" in said


def changed(text, **to):
    for key, value in to.items():
        text, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
        assert count == 1, key
    return text


def test_a_configuration_that_reaches_the_collector_stays(stage, tmp_path):
    new = tmp_path / "new.toml"
    new.write_text(changed(stage.card.read_text(), hold_down_s=17))
    pid = stage.agent.pid
    status, said = stage.command("apply-configuration", new)
    assert status == 0, said
    assert "done: the collector has been reached with it" in said
    assert (stage.source(), stage.agent.poll(), stage.agent.pid) == (
        "applied",
        None,
        pid,
    )
    assert "in force: the configuration applied by an operator's order" in stage.said()
    until(lambda: stage.has_told("done", "apply-configuration: the collector"))
    # Also for the next start.
    stage.agent.send_signal(signal.SIGKILL)
    stage.agent.wait()
    stage.start_agent()
    assert stage.source() == "applied"


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (("id", '"tps-1"'), "site.id may not be changed"),
        (("region", '"64"'), "site.region may not be changed"),
        (("mode", '"sleepy"'), "site.mode"),
        (("tls", "true"), "mqtt.ca"),
    ],
)
def test_a_configuration_that_is_wrong_is_never_tried(stage, tmp_path, change, wanted):
    new = tmp_path / "new.toml"
    new.write_text(changed(stage.card.read_text(), **dict([change])))
    until(lambda: stage.status()["broker"]["connected"])
    status, said = stage.command("apply-configuration", new)
    assert status == 1
    assert "refused: " in said
    assert wanted in said
    assert stage.source() == "applied"


def test_a_configuration_that_does_not_is_rolled_back_by_itself(stage, tmp_path):
    new = tmp_path / "new.toml"
    new.write_text(changed(stage.card.read_text(), host='"192.0.2.77"'))
    status, said = stage.command("apply-configuration", new)
    assert status == 1, said
    assert re.search(r"failed: rolled back: the collector was not reached within", said)
    assert stage.source() == "applied"
    until(lambda: stage.has_told("failed", "apply-configuration failed: rolled back"))


def test_killed_in_its_trial_the_next_start_is_without_it(stage, tmp_path):
    new = tmp_path / "new.toml"
    new.write_text(changed(stage.card.read_text(), host='"192.0.2.78"'))
    until(lambda: stage.status()["broker"]["connected"])
    status, said = stage.command("apply-configuration", new, **{"wait-s": 2})
    assert (status, "no answer within 2 s: it was accepted" in said) == (1, True), said
    until(lambda: stage.source() == "trial")
    stage.agent.send_signal(signal.SIGKILL)
    stage.agent.wait()
    stage.start_agent()
    assert stage.source() == "applied"
    until(lambda: stage.has_told("failed", "rolled back: the agent ended before"))


def test_the_technician_s_file_has_the_last_word(stage):
    stage.agent.terminate()
    stage.agent.wait()
    stage.card.write_text(changed(stage.card.read_text(), hold_down_s=18))
    assert f"in force: {stage.card}" in stage.said()
    stage.start_agent()
    assert stage.source() == "file"
