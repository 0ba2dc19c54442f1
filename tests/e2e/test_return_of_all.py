"""A whole district comes back within one second: broker and collector take it.

Each site is the agent's own connection, outbox and numbering (`support.slim_site`), with
a certificate of its own, before a broker set up by `jaga-deploy` and a real collector.
"""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest

from collector_lab import CollectorProcess
from jaga_server import site_list
from lab.clock import boottime_s
from lab.field import Field
from support.places import ROOT, shared_data
from support.slim_site import configuration
from support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RECOVERED_S = 30.0
PROCESSES = 4
BACKLOG = 6
"""Records each site makes while there is no broker: a minute of polling day."""


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    names = [site.site for site in site_list.read(shared_data() / "kutim-sites.csv")]
    with Field(tmp_path_factory.mktemp("f"), sites=names) as field:
        yield field, names


class TlsCollector(CollectorProcess):
    """A collector with the certificate that the CA gave it."""

    def __init__(self, folder, field):
        super().__init__(folder, field.port, sites=shared_data() / "kutim-sites.csv")
        self.certify(field.collector(), field.collector("history"))

    def stored(self):
        """Boot, in hexadecimal, and seq of every record."""
        with contextlib.closing(
            sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        ) as db:
            return set(
                db.execute(
                    "SELECT lower(hex(boot)), seq FROM record JOIN boot USING (boot_no)"
                )
            )


class Fleet:
    """One process of many sites."""

    def __init__(self, paths):
        self.said = {"connected": 0, "uncovered": 0, "newest": {}}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.slim_fleet", *paths],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self._process.stdout:
            self.said = json.loads(line)

    def order(self, word):
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self._reader.join()
        self._process.stdout.close()


class District:
    """All of them."""

    def __init__(self, paths):
        self._fleets = [Fleet(paths[n::PROCESSES]) for n in range(PROCESSES)]
        self.sites = len(paths)

    def order(self, word):
        for fleet in self._fleets:
            fleet.order(word)

    def sum(self, what):
        return sum(fleet.said[what] for fleet in self._fleets)

    def made(self):
        """Every record made so far: boot and seq."""
        for fleet in self._fleets:
            for boot, newest in fleet.said["newest"].items():
                yield from ((boot, seq) for seq in range(1, newest + 1))

    def close(self):
        for fleet in self._fleets:
            fleet.close()


def test_a_district_that_returns_within_a_second_is_back_in_half_a_minute(
    field, tmp_path
):
    field, names = field
    paths = []
    for name in names:
        path = tmp_path / f"{name}.toml"
        path.write_text(
            configuration(name, field.address, field.port, field.site(name))
        )
        paths.append(str(path))
    collector = TlsCollector(tmp_path, field)
    collector.start()
    district = District(paths)
    try:

        def all_connected():
            return district.sum("connected") == district.sites

        until(all_connected, "all are connected", 60)
        field.broker.stop(signal.SIGKILL)
        until(lambda: district.sum("connected") == 0, "none is connected", 30)
        for _ in range(BACKLOG):
            district.order("beat")
        until(
            lambda: district.sum("uncovered") >= BACKLOG * district.sites,
            "the records are made",
            30,
        )
        made = set(district.made())
        field.restart()
        began_s = boottime_s()
        district.order("return")

        def took_s(done, what):
            until(done, what, RECOVERED_S)
            return boottime_s() - began_s

        connected_s = took_s(all_connected, "all are connected again")
        caught_up_s = took_s(
            lambda: made <= collector.stored(), "the backlog is in the database"
        )
        figures = (
            f"{district.sites} sites returned: connected in {connected_s:.1f} s,"
            f" all they had made meanwhile stored in {caught_up_s:.1f} s"
        )
        print(figures)  # noqa: T201 - the measured figures, shown by -s
        assert caught_up_s < RECOVERED_S, figures
        assert collector.get("/api/1/summary")["online"] == district.sites
    finally:
        district.close()
        collector.stop()
