"""`jaga-collector command` against the field's broker: TLS, certificates, rights."""

import asyncio
import multiprocessing
import subprocess
import zlib

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from jaga_agent.adapters import signing
from jaga_agent.wire.base import decode, encode
from jaga_agent.wire.orders import Command, Order, Reply, ReplyCode, order_to_sign
from jaga_server import cli
from jaga_server.adapters import counting
from jaga_server.errors import OrderError
from lab.field import Field
from support.waiting import until

SITES = ("tps-a", "tps-b", "tps-c")
REFUSED, ACCEPTED, DONE, FAILED = ReplyCode


class Site:
    """A site's client that answers each command by a script."""

    def __init__(self, field, name, *codes, content=b""):
        self.name, self.codes, self.content = name, codes, content
        self.keys = field.operator_keys
        self.heard = []
        self.subscribed = False
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv5
        )
        self.client.tls_set_context(field.site(name).context())
        self.client.on_connect = lambda client, *_: client.subscribe(
            f"jaga/1/6408/{name}/command", options=SubscribeOptions(qos=1)
        )
        self.client.on_subscribe = lambda *_: setattr(self, "subscribed", True)
        self.client.on_message = self._answer
        self.client.connect(field.address, field.port)

    def __enter__(self):
        self.client.loop_start()
        until(lambda: self.subscribed)
        return self

    def __exit__(self, *_):
        self.client.disconnect()
        self.client.loop_stop()

    def _answer(self, client, _userdata, message):
        command = decode(message.payload, Command)
        order = decode(command.body, Order)
        signed = asyncio.run(
            signing.verify(
                order_to_sign(command.body),
                command.signature,
                self.keys / f"{order.operator}.pub.pem",
            )
        )
        self.heard.append((order, signed, message.properties))
        more = Properties(PacketTypes.PUBLISH)
        more.CorrelationData = message.properties.CorrelationData
        for code in self.codes:
            content = self.content if code == DONE else b""
            reply = Reply(
                order.id, code, "says " + self.name, bytes(8), 1, 1, -1, content
            )
            topic = f"jaga/1/6408/{self.name}/reply"
            client.publish(topic, encode(reply), qos=1, properties=more)


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    home = tmp_path_factory.mktemp("f")
    with Field(home, sites=SITES, operators=["ani"]) as field:
        yield field


def command(field, *words, files=None, key=None):
    files = files or field.operator("ani")
    key = key or field.operator("ani").key.with_name("command.key")
    return cli.main(
        [
            *("command", *words, "--operator", "ani", "--key", str(key)),
            *("--broker", f"{field.address}:{field.port}", "--ca", str(files.ca)),
            *("--cert", str(files.cert), "--cert-key", str(files.key)),
        ]
    )


def test_an_order_travels_signed_with_all_that_mqtt_5_has_for_it(field, capsys):
    with Site(field, "tps-a", ACCEPTED, DONE) as site:
        assert command(field, "hold", "60", "--site", "tps-a", "--valid-s", "45") == 0
        ((order, signed, properties),) = site.heard
    assert signed
    assert (order.site, order.operator, order.action) == ("tps-a", "ani", "hold")
    assert order.arguments == {"for_s": "60"}
    assert order.expires_ms - order.issued_ms == 45_000
    assert order.counter >= order.issued_ms * 1000
    assert properties.CorrelationData == order.id
    assert properties.ResponseTopic == "jaga/1/6408/tps-a/reply"
    assert 0 < properties.MessageExpiryInterval <= 45
    assert capsys.readouterr().out.splitlines() == [
        "tps-a: accepted: says tps-a",
        "tps-a: done: says tps-a",
    ]


def test_many_sites_and_a_summary(field, tmp_path, capsys):
    listed = tmp_path / "sites.txt"
    listed.write_text("tps-b  # the hall\n\n# none\ntps-c\n")
    with (
        Site(field, "tps-a", ACCEPTED, DONE) as a,
        Site(field, "tps-b", REFUSED) as b,
        Site(field, "tps-c", ACCEPTED),
    ):
        words = ("probe-now", "--site", "tps-a", "--sites-from", str(listed))
        assert command(field, *words, "--wait-s", "2") == 1
        assert a.heard[0][0].counter != b.heard[0][0].counter
    said = capsys.readouterr().out
    assert "tps-c: no answer within 2 s: it was accepted" in said
    assert said.splitlines()[-1] == "3 sites: 1 done, 1 refused, 1 no answer"


def test_diagnostics_are_printed(field, capsys):
    deflate = zlib.compressobj(wbits=-15)
    content = deflate.compress(b'{"status":{"x":1}}') + deflate.flush()
    with Site(field, "tps-a", DONE, content=content):
        assert command(field, "send-diagnostics", "--site", "tps-a") == 0
    assert '"x": 1' in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"no deflate", bytes(100)])
def test_diagnostics_that_are_none(field, capsys, content):
    with Site(field, "tps-a", DONE, content=content):
        assert command(field, "send-diagnostics", "--site", "tps-a") == 0
    assert "cannot be read" in capsys.readouterr().out


def test_a_site_s_account_commands_nobody(field, capsys):
    files = field.site("tps-b")
    with Site(field, "tps-a", DONE) as site:
        words = ("hold", "60", "--site", "tps-a", "--wait-s", "3")
        assert command(field, *words, files=files) == 1
        assert site.heard == []
    assert "Not authorized" in capsys.readouterr().out


def test_the_collector_s_account_commands_nobody(field, capsys):
    with Site(field, "tps-a", DONE) as site:
        words = ("hold", "60", "--site", "tps-a", "--wait-s", "3")
        assert command(field, *words, files=field.collector()) == 1
        assert site.heard == []
    assert "Not authorized" in capsys.readouterr().out


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=30)


def test_faults_are_one_line_that_says_what_to_do(field, tmp_path, capsys):
    def fails(*words, **more):
        assert command(field, *words, **more) == 1
        said = capsys.readouterr().err
        assert said.startswith("jaga-collector: ")
        assert said.count("\n") == 1
        return said

    key = tmp_path / "some.key"
    assert "No such file" in fails("probe-now", "--site", "tps-a", key=key)
    key.write_text("nonsense")
    key.chmod(0o600)
    assert "jaga-deploy operator issue" in fails("probe-now", "--site", "x", key=key)
    openssl("genrsa", "-out", str(key), "2048")
    assert "not an ECDSA key" in fails("probe-now", "--site", "x", key=key)
    key.chmod(0o644)
    assert "chmod o=" in fails("probe-now", "--site", "x", key=key)
    assert "to whom?" in fails("probe-now")
    assert "no site id" in fails("probe-now", "--site", "TPS/1")
    assert "needs UPLINK" in fails("switch-to", "--site", "x")
    assert "takes nothing more" in fails("probe-now", "now", "--site", "x")
    assert "cannot be read" in fails(
        "apply-configuration", str(tmp_path / "no.toml"), "--site", "x"
    )
    assert "1 to 86400" in fails("probe-now", "--site", "x", "--valid-s", "0")
    long = tmp_path / "long.toml"
    long.write_text("#" * 50_000)
    assert "are the most" in fails("apply-configuration", str(long), "--site", "x")
    long.write_text("#" * 33_000)
    assert "no site takes" in fails("apply-configuration", str(long), "--site", "x")


def test_a_counter_rises_whatever_the_clock_does(tmp_path):
    path = tmp_path / "command.key.counter"
    assert counting.take(path, 1_000_000, 3) == 1_000_000
    assert counting.take(path, 5, 1) == 1_000_003
    assert counting.take(path, 2_000_000, 1) == 2_000_000
    path.write_text("damaged")
    with pytest.raises(OrderError, match="no number"):
        counting.take(path, 5, 1)
    with pytest.raises(OrderError, match="counter"):
        counting.take(tmp_path / "no" / "where", 5, 1)


def _take(path):
    return [counting.take(path, 0, 2) for _ in range(50)]


def test_two_at_once_never_take_the_same(tmp_path):
    path = tmp_path / "counter"
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        taken = [n for many in pool.map(_take, [path] * 3) for n in many]
    assert len(taken) == len(set(taken)) == 150
