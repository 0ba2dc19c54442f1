"""A real agent with its site's certificate, killed, stopped, rebooted: `verify` proves it.

Lab, the field's broker (TLS, rights), collector and agent as on polling day. A reboot is
another boot id and an empty RAM, which is all that an agent knows a reboot by.
"""

import shutil
import signal
import sqlite3
import subprocess
import time
import uuid
from datetime import UTC, datetime

import pytest

from collector_lab import CollectorProcess
from demo.stage import BIN, agent_config
from lab import Lab
from lab.field import Field
from lab.namespace import end
from lab.topology import BROKER
from support.waiting import until

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(300)]

SITE = "tps-6408041010-001"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
AS_AFTER_REBOOT = 'mount --bind "$1" ' + BOOT_ID + '; shift; exec "$@"'


class Life:
    """One site's agent, started and ended again and again, and the collector it tells."""

    def __init__(self, lab, field):
        self.lab, self.field = lab, field
        self.home = lab.directory / "agent"
        self.ram = lab.directory / "ram"
        self.home.mkdir()
        folder = lab.directory / "collector"
        folder.mkdir()
        self.collector = CollectorProcess(folder, field.port)
        self.collector.certify(field.collector(), field.collector("history"))
        text = self.collector.config.read_text()
        self.collector.config.write_text(
            text.replace('host = "127.0.0.1"', f'host = "{BROKER}"', 1)
        )
        log = self.collector.log.open("ab")
        with log:
            self._collector = lab.internet.popen(
                [str(w) for w in self.collector.command("run")], stdout=log, stderr=log
            )
        self.config = self.home / "agent.toml"
        files = field.site(SITE)
        text = agent_config(SITE, self.home, (600, 600))
        for old, new in (
            (
                "tls = false",
                f'ca = "{files.ca}"\ncert = "{files.cert}"\nkey = "{files.key}"',
            ),
            (f'run_directory = "{self.home}"', f'run_directory = "{self.ram}"'),
        ):
            assert old in text
            text = text.replace(old, new)
        self.config.write_text(text)
        self.log = self.home / "agent.log"
        self.agent = None
        self.boot_id = None

    def close(self):
        end([p for p in (self.agent, self._collector) if p is not None])

    def start(self):
        command = [BIN / "jaga-agent", "run", "--config", self.config]
        if self.boot_id is not None:
            shell = ["unshare", "--mount", "sh", "-c", AS_AFTER_REBOOT, "sh"]
            command = [*shell, self.boot_id, *command]
        with self.log.open("ab") as log:
            self.agent = self.lab.pi.popen(
                [str(word) for word in command], stdout=log, stderr=log
            )

    def end(self, how):
        self.agent.send_signal(how)
        self.agent.wait(30)

    def reboot(self):
        """After the power was cut: what was in RAM alone is gone."""
        self.boot_id = self.home / "boot_id"
        self.boot_id.write_text(f"{uuid.uuid4()}\n")
        shutil.rmtree(self.ram)

    def rows(self, sql, *values):
        if not self.collector.database.exists():
            return []
        db = sqlite3.connect(f"file:{self.collector.database}?mode=ro", uri=True)
        try:
            return db.execute(sql, values).fetchall()
        except sqlite3.OperationalError:
            return []  # its tables are being made
        finally:
            db.close()

    def stored(self, leaf):
        return len(self.rows("SELECT 1 FROM record WHERE leaf = ?", leaf))

    def wait(self, leaf, count):
        until(
            lambda: self.alive() and self.stored(leaf) >= count,
            f"{count} of {leaf} are stored: {self.log.read_text()[-2000:]}",
            60,
        )

    def alive(self):
        assert self.agent.poll() is None, self.log.read_text()[-2000:]
        assert self._collector.poll() is None, self.collector.log.read_text()[-2000:]
        return True

    def verify(self, from_ms, to_ms=None, *words):
        moment = [datetime.fromtimestamp(from_ms / 1000, UTC).isoformat()]
        if to_ms is not None:
            to = datetime.fromtimestamp(to_ms / 1000, UTC).isoformat()
            moment += ["--to", to]
        return subprocess.run(
            [
                str(word)
                for word in self.collector.command(
                    "verify", "--site", SITE, "--from", *moment, *words
                )
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    with Lab.create() as lab:
        field = Field(
            lab.directory / "field",
            sites=[SITE],
            address=BROKER,
            port=8883,
            start=lab.internet.popen,
        )
        with field:
            life = Life(lab, field)
            try:
                yield life
            finally:
                life.close()


def test_killed_stopped_and_rebooted_it_is_all_proven(life):
    from_ms = time.time_ns() // 1_000_000 - 1000
    life.start()
    life.wait("heartbeat", 2)
    life.end(signal.SIGKILL)
    life.start()
    # What the killed run left, covered by the next one at its start.
    life.wait("digest", 1)
    life.wait("heartbeat", 4)
    life.end(signal.SIGTERM)
    life.reboot()
    life.start()
    # And by the stop's digest what came until then: it may have waited for this run.
    life.wait("digest", 2)
    life.wait("heartbeat", 5)
    life.end(signal.SIGTERM)
    life.start()
    life.wait("digest", 3)

    boots = life.rows("SELECT count(DISTINCT of_boot) FROM digest")
    assert boots == [(2,)]
    done = life.verify(from_ms)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"PROVEN: {SITE}, ")
    life.from_ms = from_ms


def test_one_row_altered_is_named(life):
    db = sqlite3.connect(life.collector.database, timeout=10)
    boot_no, seq, uplink = db.execute(
        "SELECT boot_no, seq, uplink FROM sample ORDER BY boot_no, seq LIMIT 1"
    ).fetchone()
    boot = db.execute("SELECT boot FROM boot WHERE boot_no = ?", (boot_no,)).fetchone()
    db.execute(
        "UPDATE sample SET sent = sent + 1 WHERE boot_no = ? AND seq = ? AND uplink = ?",
        (boot_no, seq, uplink),
    )
    db.commit()
    done = life.verify(life.from_ms)
    db.execute(
        "UPDATE sample SET sent = sent - 1 WHERE boot_no = ? AND seq = ? AND uplink = ?",
        (boot_no, seq, uplink),
    )
    db.commit()
    db.close()
    assert done.returncode == 1
    assert done.stdout.startswith(f"NOT PROVEN: {SITE}, ")
    assert f"altered   {boot[0].hex()}/{seq} " in done.stdout
    assert f"sample {uplink} sent is " in done.stdout


def test_a_damaged_spool_begins_a_new_chain(life):
    life.end(signal.SIGTERM)
    digests = life.stored("digest")
    shutil.rmtree(life.ram)
    for file in life.home.glob("spool.sqlite3*"):
        file.write_bytes(b"not a database, whatever it was")
    life.start()
    life.wait("heartbeat", life.stored("heartbeat") + 1)
    life.end(signal.SIGTERM)
    life.start()
    life.wait("digest", digests + 1)
    done = life.verify(life.from_ms)
    assert done.returncode == 1
    assert "began a new chain here" in done.stdout
    assert "forged" not in done.stdout
    assert "altered" not in done.stdout
