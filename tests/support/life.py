"""One site's real agent with its certificate, started and ended again and again.

Lab, the field's broker (TLS, rights), collector and agent as on polling day. A reboot is
another boot id and an empty RAM, which is all that an agent knows a reboot by.
"""

import contextlib
import shutil
import sqlite3
import subprocess
import uuid
from datetime import UTC, datetime

from collector_lab import CollectorProcess
from demo.stage import BIN, agent_config
from jaga_agent.adapters.control import ask
from jaga_agent.errors import StatusError
from lab import Lab
from lab.field import Field
from lab.namespace import end
from lab.topology import BROKER
from support.waiting import until

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
        self.start_collector()
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

    def start_collector(self):
        command = [str(w) for w in self.collector.command("run")]
        with self.collector.log.open("ab") as log:
            self._collector = self.lab.internet.popen(command, stdout=log, stderr=log)

    def stop_collector(self):
        self._collector.terminate()
        assert self._collector.wait(30) == 0

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

    def status(self):
        """What the agent's socket answers; None while there is none."""
        with contextlib.suppress(StatusError, OSError):
            answer = ask(self.home / "agent.sock", "status")
            return answer if "records" in answer else None
        return None


@contextlib.contextmanager
def one_life():
    """The lab, the field's broker and a collector; the agent is not started yet."""
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
