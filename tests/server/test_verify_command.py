"""`jaga-collector verify` as an officer runs it, beside a collector that is at work."""

import json
import sqlite3
import subprocess
import time
from datetime import UTC, datetime

import pytest

from jaga_server.store.sqlite import Store
from support.signing_site import SigningSite
from support.site_certificates import SiteAuthority
from support.waiting import until

SITE = "tps-6408012001-001"


def run(*command):
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def text_of(ms):
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()


@pytest.mark.slow
def test_beside_a_running_collector(broker, collector, publisher, tmp_path):
    authority = SiteAuthority(tmp_path / "ca")
    begin_ms = time.time_ns() // 1_000_000 - 720_000
    site = SigningSite(SITE, begin_ms, authority.issue(SITE))
    site.pass_(690)
    site.digest()
    process = collector(broker.port)
    process.start()
    process.wait_connected()
    publisher(broker.port).all(list(site.messages()))
    sent = len(site.records())
    until(lambda: len(process.records()) == sent, "all of it is stored")

    asked = ("verify", "--site", SITE, "--from", text_of(begin_ms - 1000))
    command = process.command(*asked, "--ca", authority.ca)
    done = run(*command)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"PROVEN: {SITE}, ")
    assert f"{sent} of {sent} records proven, 3 of 3 digests good" in done.stdout

    # It goes on taking records in; those wait for their digest.
    site.heartbeat()
    publisher(broker.port).all(list(site.messages())[-2:])
    until(lambda: len(process.records()) == sent + 1, "one more is stored")
    done = run(*command)
    assert done.returncode == 0
    assert f"{sent} of {sent + 1} records proven" in done.stdout
    assert "pending   " in done.stdout

    db = sqlite3.connect(process.database)
    db.execute("UPDATE sample SET lost = 0 WHERE seq = 2 AND uplink = 'telkomsel'")
    db.commit()
    db.close()
    done = run(*command)
    assert done.returncode == 1
    assert done.stdout.startswith(f"NOT PROVEN: {SITE}, ")
    assert f"altered   {site.spool.boot.hex()}/2 " in done.stdout
    assert "sample telkomsel lost is 0, sent was 2" in done.stdout
    told = json.loads(run(*command, "--json").stdout)
    assert told["findings_by_kind"] == {"altered": 1, "pending": 1}

    # The CA of the broker's connection is the sites' too, if it is configured.
    done = run(*process.command(*asked))
    assert done.returncode == 2
    assert "name it: --ca ca.crt" in done.stderr


WRONG = {
    "no time": (("--from", "yesterday"), "'yesterday' is no time; write e.g."),
    "backwards": (
        ("--from", "2027-02-15", "--to", "2027-02-14"),
        "--to must be after --from",
    ),
    "years": (("--from", "2020-01-01"), "at most 92 days"),
    "no CA": (("--from", "2027-02-14", "--ca", "none.crt"), "none.crt: No such file"),
    "a CA that is none": (("--ca", "collector.toml"), "no certificate in PEM"),
    "a list that is none": (("--crl", "collector.toml"), "no revocation list in PEM"),
    "no database": ((), "there is no such file"),
    "no site": ((), "nothing of a site"),
}


@pytest.mark.parametrize(("words", "said"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_looked_at(collector, tmp_path, words, said):
    """Exit status 2: never taken for an answer."""
    process = collector(1)
    if said != "there is no such file":
        Store(process.database).close()
    asked = {
        "--from": "2027-02-13",
        "--to": "2027-02-14",
        "--ca": SiteAuthority(tmp_path / "ca").ca,
    }
    if "--from" in words:
        asked["--to"] = "2027-02-15"
    asked |= dict(zip(words[::2], words[1::2], strict=True))
    for name in ("--ca", "--crl"):
        if asked.get(name) in {"collector.toml", "none.crt"}:
            asked[name] = process.folder / asked[name]
    options = [word for pair in asked.items() for word in pair]
    done = run(*process.command("verify", "--site", SITE, *options))
    assert done.returncode == 2
    assert done.stderr.startswith("jaga-collector: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
