"""From a real broker to the database and the page: nothing lost, nothing twice."""

import signal

import httpx
import pytest

pytestmark = pytest.mark.slow

SITE = "tps-6408012001-001"
OTHER = "tps-6408012001-002"


def beats(site, count):
    return [(site.topic("heartbeat"), site.heartbeat()) for _ in range(count)]


def identities(*sites):
    return {(s.site, s.boot, n) for s in sites for n in range(1, s.seq + 1)}


def settled(metrics):
    return (
        sum(v for k, v in metrics.items() if k.startswith("jaga_stored_total"))
        + sum(v for k, v in metrics.items() if k.startswith("jaga_rejected_total"))
        + metrics["jaga_duplicate_total"]
    )


def test_everything_published_is_stored_once(
    broker, room, publisher, simulate, wait_until
):
    first, second = simulate(SITE), simulate(OTHER)
    link = publisher(broker.port)
    # More than both windows of 20 and of 1000: acknowledgements must flow.
    messages = [
        (first.topic("status"), first.status()),
        *beats(first, 1500),
        *beats(second, 700),
        (first.topic("event"), first.event()),
    ]
    link.all(messages)
    repeat = messages[1:301]
    link.all(repeat)
    wait_until(
        lambda: (
            room.metrics()["jaga_received_total"] == len(messages) + len(repeat)
            and room.metrics()["jaga_in_flight"] == 0
        ),
        "all received and settled",
    )
    records = room.records()
    assert len(records) == len(set(records)) == 2201
    assert set(records) == identities(first, second)
    metrics = room.metrics()
    assert metrics["jaga_duplicate_total"] == 300
    assert settled(metrics) == metrics["jaga_received_total"]
    detail = room.get(f"/api/1/sites/{SITE}")
    assert detail["heartbeats"] == 1500
    assert (detail["lost"], detail["missing"]) == (0, 0)
    assert detail["events"][0]["rule"] == "failover"
    assert detail["site"]["uplinks"][0]["device"] == "wan0"
    assert room.stop() == 0
    assert "Traceback" not in room.log.read_text()


def test_a_killed_collector_loses_nothing(
    broker, room, publisher, simulate, wait_until
):
    site = simulate(SITE)
    link = publisher(broker.port)
    for _ in range(3):
        for topic, beat in beats(site, 400):
            link.send(topic, beat)
        room.stop(signal.SIGKILL)
        link.all(beats(site, 50))
        room.start()
    link.all(beats(site, 1))
    wait_until(lambda: len(room.records()) >= site.seq, "all stored", 30)
    assert set(room.records()) == identities(site)
    detail = room.get(f"/api/1/sites/{SITE}")
    assert (detail["heartbeats"], detail["lost"]) == (site.seq, 0)


def test_a_restarted_broker_loses_nothing(
    broker, room, publisher, simulate, wait_until
):
    site = simulate(SITE)
    publisher(broker.port).all(beats(site, 300))
    broker.stop()
    wait_until(lambda: not room.connected(), "the page says that the broker is gone")
    broker.start()
    publisher(broker.port).all(beats(site, 300))
    wait_until(lambda: len(room.records()) == site.seq, "all stored", 40)
    assert set(room.records()) == identities(site)
    told = [
        line for line in room.log.read_text().splitlines() if "not connected" in line
    ]
    # First that it was shut down, then that nobody answers: not one for each attempt.
    assert 1 <= len(told) <= 2


def test_stopping_commits_and_acknowledges_what_is_in_hand(
    broker, room, publisher, simulate, wait_until
):
    site = simulate(SITE)
    publisher(broker.port).all(beats(site, 500))
    assert room.stop() == 0
    stored = len(room.records())
    room.start()
    wait_until(lambda: len(room.records()) == site.seq, "the rest comes")
    metrics = room.metrics()
    # What was committed was acknowledged, so the broker sends only the rest.
    assert metrics["jaga_received_total"] == site.seq - stored
    assert metrics["jaga_duplicate_total"] == 0


def test_poison_is_acknowledged_counted_and_kept(
    broker, room, publisher, simulate, wait_until
):
    site = simulate(SITE)
    good = site.heartbeat()
    twice = site.heartbeat(uplinks=good.uplinks + good.uplinks)
    far = site.heartbeat(
        uplinks=tuple(
            type(u)(
                **{f: getattr(u, f) for f in u.__struct_fields__}
                | {"signal_dbm": 2**63}
            )
            for u in good.uplinks
        )
    )
    poison = [
        (site.topic("heartbeat"), b"not msgpack"),
        (site.topic("heartbeat"), b""),
        (site.topic("event"), good),
        (site.topic("status"), good),
        (site.topic("heartbeat"), twice),
        (site.topic("heartbeat"), far),
        ("jaga/1/6408/Not_A_Site/heartbeat", good),
    ]
    # Three windows of the default size, or the consumer would stop for good.
    flood = poison * 500
    link = publisher(broker.port)
    link.all(flood)
    link.all([(site.topic("heartbeat"), good)])
    wait_until(lambda: len(room.records()) == 1, "the good one is stored", 30)
    wait_until(lambda: not room.metrics()["jaga_in_flight"], "all settled")
    metrics = room.metrics()
    assert metrics['jaga_rejected_total{reason="malformed"}'] == 5 * 500
    assert metrics['jaga_rejected_total{reason="uplink named twice"}'] == 500
    assert metrics['jaga_rejected_total{reason="unknown topic"}'] == 500
    assert metrics["jaga_received_total"] == settled(metrics) == len(flood) + 1
    assert room.log.read_text().count("message refused") == 3
    room.stop()
    room.start()
    room.wait_connected()
    link.all(beats(site, 1))
    wait_until(lambda: len(room.records()) == 2, "the next one is stored")
    assert room.metrics()["jaga_received_total"] == 1


def test_a_site_that_is_on_no_list_is_shown(
    broker, room, publisher, simulate, wait_until
):
    stranger = simulate("tps-6408999999-001")
    publisher(broker.port).all(beats(stranger, 1))

    def rows():
        return {s["site"]: s for s in room.get("/api/1/sites")["sites"]}

    wait_until(lambda: len(rows()) == 4, "it is shown")
    shown = rows()["tps-6408999999-001"]
    assert (shown["name"], shown["kecamatan"]) == ("tps-6408999999-001", "—")
    assert room.metrics()["jaga_unknown_site_total"] == 1


def test_birth_beat_will(broker, room, publisher, simulate, wait_until):
    site = simulate(SITE)

    def row():
        return room.get(f"/api/1/sites/{SITE}")["site"]

    assert row()["presence"] == "never"
    link = publisher(
        broker.port, (site.topic("status"), _encoded(site.status(online=False)))
    )
    link.send(site.topic("status"), site.status(), retain=True)
    link.all(beats(site, 1))
    wait_until(lambda: row()["condition"] == "fine", "fine")
    link.vanish()
    wait_until(lambda: row()["presence"] == "offline", "the will is taken")
    # A restarted collector shows at once what it knew.
    room.stop()
    room.start()
    assert row()["presence"] == "offline"
    # The site comes back; the will of its first connection, repeated late, is ignored.
    late = _encoded(site.status(online=False))
    site.connection = 2
    link = publisher(broker.port)
    link.all([(site.topic("status"), site.status()), *beats(site, 1)])
    wait_until(lambda: row()["presence"] == "online", "back again")
    link.all([(site.topic("status"), late), *beats(site, 1)])
    wait_until(lambda: len(room.records()) == 3, "stored")
    assert row()["presence"] == "online"


def _encoded(message):
    from jaga_agent.wire.messages import encode

    return encode(message)


def test_a_whole_district(
    broker, collector, publisher, simulate, wait_until, follow, shared_data
):
    outlines = shared_data / "kutim-kecamatan.geojson"
    room = collector(broker.port, sites=shared_data / "kutim-sites.csv")
    text = room.config.read_text()
    room.config.write_text(text.replace("[mqtt]", f'kecamatan = "{outlines}"\n[mqtt]'))
    room.start()
    room.wait_connected()
    stream = follow(room)
    rows = stream.updates[0]["sites"]
    assert len(rows) == 702
    district = [
        simulate(r["site"], uplinks=tuple(u["name"].lower() for u in r["uplinks"]))
        for r in rows
    ]
    link = publisher(broker.port)
    link.all(
        [
            pair
            for site in district
            for pair in (
                (
                    site.topic("status"),
                    site.status(),
                ),
                (site.topic("heartbeat"), site.heartbeat()),
            )
        ]
    )
    wait_until(
        lambda: room.get("/api/1/summary")["sites"]["fine"] == 702, "every site is fine"
    )
    wait_until(
        lambda: (
            {s["site"] for u in stream.updates[1:] for s in u["sites"]}
            == {site.site for site in district}
        ),
        "the page is told of every site",
    )
    summary = room.get("/api/1/summary")
    providers = {p["provider"]: p["uplinks"] for p in summary["providers"]}
    # The list's own counts: cut -d, -f9-11 kutim-sites.csv.
    assert providers["Telkomsel"] == 702
    assert sum(p["active"] for p in summary["providers"]) == 702
    # An open stream does not hold the collector up, nor make it complain.
    assert room.stop() == 0
    assert stream.ended.wait(5)
    assert "level=error" not in room.log.read_text()
    assert "level=warning" not in room.log.read_text()
    room.start()
    assert room.get("/api/1/summary")["sites"]["fine"] == 702


def test_a_change_reaches_the_page_within_a_second(
    broker, room, publisher, simulate, wait_until, follow
):
    stream = follow(room)
    assert len(stream.updates[0]["sites"]) == 3
    assert stream.headers["x-accel-buffering"] == "no"
    site = simulate(OTHER)

    def seen():
        return any(s["site"] == OTHER and s["presence"] == "online"
                   for u in stream.updates[1:] for s in u["sites"])  # fmt: skip

    publisher(broker.port).all([*beats(site, 1), (site.topic("event"), site.event())])
    wait_until(seen, "the change on the stream", 1.0)
    wait_until(lambda: any(u["events"] for u in stream.updates[1:]), "the event", 1.0)
    revisions = [u["revision"] for u in stream.updates]
    assert revisions == sorted(revisions)
    assert room.metrics()["jaga_pages"] == 1
    stream.close()
    wait_until(lambda: room.metrics()["jaga_pages"] == 0, "the stream is let go")


def test_broker_away_at_the_start(
    make_broker, collector, publisher, simulate, wait_until
):
    broker = make_broker()
    room = collector(broker.port)
    room.start()
    wait_until(lambda: "broker not connected" in room.log.read_text(), "it says so")
    summary = room.get("/api/1/summary")
    assert summary["broker_connected"] is False
    assert httpx.get(f"{room.url}/healthz").status_code == 200
    broker.start()
    wait_until(room.connected, "it connects by itself", 30)
    site = simulate(SITE)
    publisher(broker.port).all(beats(site, 1))
    wait_until(room.records, "stored")
    text = room.log.read_text()
    assert text.count("broker not connected") == 1
    assert "Traceback" not in text
