"""A whole district comes back within one second: broker and collector take it.

Each site is the agent's own connection, outbox and numbering (`support.slim_site`), with
a certificate of its own, before a broker set up by `jaga-deploy` and a real collector.
"""

import asyncio
import secrets
import signal
import sqlite3
import time

import pytest

from collector_lab import CollectorProcess
from jaga_server import site_list
from lab.field import Field
from support.places import shared_data
from support.slim_site import SlimSite, configuration

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

RECOVERED_S = 30.0
BACKLOG = 6
"""Records each site makes while there is no broker: a minute of polling day."""


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    names = [site.site for site in site_list.read(shared_data() / "kutim-sites.csv")]
    # Short: a Unix socket's path has 107 bytes.
    with Field(tmp_path_factory.mktemp("f"), sites=names) as field:
        yield field, names


class TlsCollector(CollectorProcess):
    """A collector with the certificate that the CA gave it."""

    def __init__(self, folder, field):
        super().__init__(folder, field.port, sites=shared_data() / "kutim-sites.csv")
        files = field.collector()
        text = self.config.read_text()
        self.config.write_text(
            text.replace("tls = false", "").replace(
                "[mqtt]\n",
                f'[mqtt]\nca = "{files.ca}"\ncert = "{files.cert}"\n'
                f'key = "{files.key}"\n',
            )
        )


async def until(done, what, within_s):
    """Wait for it; return how long it took."""
    began_s = time.monotonic()
    while not done():
        assert time.monotonic() - began_s < within_s, what()
        await asyncio.sleep(0.1)
    return time.monotonic() - began_s


def stored(database):
    """How many records each boot has."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        return dict(
            db.execute(
                "SELECT boot, count(*) FROM record JOIN boot USING (boot_no)"
                " GROUP BY boot"
            )
        )


async def test_a_district_that_returns_within_one_second_is_back_in_half_a_minute(
    field, tmp_path
):
    field, names = field
    collector = TlsCollector(tmp_path, field)
    await asyncio.to_thread(collector.start)
    sites = []
    try:
        for name in names:
            path = tmp_path / f"{name}.toml"
            path.write_text(
                configuration(name, field.address, field.port, field.site(name))
            )
            sites.append(SlimSite(path, boot=secrets.token_bytes(8)))
        for site in sites:
            site.presence.start()

        def connected():
            return sum(site.presence.is_connected for site in sites)

        def waiting():
            return sum(site.spool.depth() for site in sites)

        first_s = await until(
            lambda: connected() == len(sites),
            lambda: f"{connected()} of {len(sites)} connected",
            RECOVERED_S,
        )
        field.broker.stop(signal.SIGKILL)
        await until(
            lambda: connected() == 0, lambda: f"{connected()} still connected", 20
        )
        for _ in range(BACKLOG):
            for site in sites:
                site.beat()
        await asyncio.to_thread(field.restart)
        began_s = time.monotonic()
        for site in sites:
            site.presence.reconnect_now("the district's power is back")
        back_s = await until(
            lambda: connected() == len(sites),
            lambda: f"{connected()} of {len(sites)} connected",
            RECOVERED_S,
        )
        newest = {site.spool.boot: site.spool.next_seq() - 1 for site in sites}
        await until(
            lambda: stored(collector.database) == newest,
            lambda: (
                f"{sum(stored(collector.database).values())} of"
                f" {sum(newest.values())} records stored"
            ),
            RECOVERED_S,
        )
        stored_s = time.monotonic() - began_s
        await until(
            lambda: waiting() == 0,
            lambda: f"{waiting()} records are not covered by a watermark",
            RECOVERED_S,
        )
        covered_s = time.monotonic() - began_s
        figures = (
            f"{len(sites)} sites: first arrival {first_s:.1f} s; after the return"
            f" connected {back_s:.1f} s, all records stored {stored_s:.1f} s,"
            f" covered {covered_s:.1f} s"
        )
        print(figures)  # noqa: T201 - the measured figures, shown by -s
        assert covered_s < RECOVERED_S, figures
        assert collector.get("/api/1/summary")["presence"]["online"] == len(sites)
    finally:
        await asyncio.gather(*(site.presence.close() for site in sites))
        await asyncio.to_thread(collector.stop)
