"""The API over a real database: every answer is what docs/openapi.json says."""

import asyncio
import json
import time
from pathlib import Path

import httpx
import jsonschema
import pytest

from jaga_agent.wire.evidence import LostRange
from jaga_agent.wire.messages import HealthCode, encode
from jaga_server import site_list
from jaga_server.core.district import Moment
from jaga_server.core.model import Thresholds
from jaga_server.ingest import batch
from jaga_server.ingest.counters import Counters
from jaga_server.ingest.received import Received
from jaga_server.ingest.update import Update
from jaga_server.store.reader import Reader
from jaga_server.store.sqlite import Store
from jaga_server.web import app, openapi, server, static
from jaga_server.web.board import BACKLOG, Board
from jaga_server.web.metrics import Metrics

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"
SITE = "tps-6408012001-001"


class Room:
    """Store, board and application in this process, without a broker."""

    def __init__(self, folder, sites, outlines=None, page=None):
        self.store = Store(folder / "c.db")
        self.reader = Reader(folder / "c.db")
        self.board = Board("Kutai Timur", sites)
        self.listed = {site.site for site in sites}
        self.counters = Counters()
        self.fault = None
        self.app = app.build(
            app.Api(
                board=self.board,
                reader=self.reader,
                thresholds=Thresholds(),
                metrics=Metrics(self.counters, self.board),
                outlines=outlines,
                healthy=lambda: self.fault,
            ),
            page or static.folder(),
        )
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://room")
        self.document = openapi.document()

    def tell(self, *messages):
        now_ms = time.time_ns() // 1_000_000
        outcome = batch.write(
            [Received(topic, encode(m), now_ms, False, None) for topic, m in messages],
            self.store,
            known=self.board.states,
            listed=self.listed,
            moment=Moment(now_ms, 0),
            thresholds=Thresholds(),
        )
        self.board.post(Update(outcome.states, tuple(outcome.events), True, now_ms))

    def check(self, kind, value):
        """Validate against the document's schema of that name."""
        components = {"components": self.document["components"]}
        schema = {"$ref": f"#/components/schemas/{kind}", **components}
        jsonschema.validate(value, schema, cls=jsonschema.Draft202012Validator)

    async def get(self, path, status=200, **parameters):
        answer = await self.http.get(path, params=parameters)
        assert answer.status_code == status, answer.text
        if status != 200:
            assert answer.headers["content-type"] == "application/problem+json"
            self.check("Problem", answer.json())
            assert answer.json()["status"] == status
            return answer.json()["detail"]
        row = next(
            r for r in openapi.ROUTES
            if r.path == path.replace(SITE, "{site}").replace("kpu-kutim", "{site}")
        )  # fmt: skip
        self.check(row.answer.__name__, answer.json())
        return answer.json()

    async def close(self):
        await self.http.aclose()
        self.reader.close()
        self.store.close()


@pytest.fixture
async def room(tmp_path, shared_data):
    sites = site_list.read(shared_data / "kutim-sites.csv")
    outlines = (shared_data / "kutim-kecamatan.geojson").read_bytes()
    room = Room(tmp_path, sites, outlines)
    yield room
    await room.close()


@pytest.fixture
def site(simulate):
    return simulate(SITE)


def test_the_committed_document_is_fresh():
    assert DOCUMENT.read_bytes() == openapi.text(), (
        "run: python -m jaga_server.web.openapi > docs/openapi.json"
    )


async def test_a_district_that_nobody_has_heard(room):
    summary = await room.get("/api/1/summary")
    assert summary["sites"] == {"total": 702, "fine": 0, "degraded": 0, "offline": 0, "unknown": 702}  # fmt: skip
    assert summary["providers"] == []
    assert summary["broker_connected"] is False
    assert summary["last_message_ms"] is None
    sites = (await room.get("/api/1/sites"))["sites"]
    assert len(sites) == 702
    assert [u["provider"] for u in sites[0]["uplinks"]] == [
        "Telkom",
        "Telkomsel",
        "Starlink",
    ]
    detail = await room.get(f"/api/1/sites/{SITE}")
    assert (detail["host"], detail["mode"], detail["heartbeats"]) == (None, None, 0)
    assert (await room.get(f"/api/1/sites/{SITE}/series"))["uplinks"] == []
    assert (await room.get("/api/1/events"))["events"] == []


async def test_a_site_that_tells(room, site):
    room.tell(
        (site.topic("status"), site.status()),
        (site.topic("heartbeat"), site.heartbeat()),
        (site.topic("event"), site.event()),
        (site.topic("heartbeat"), site.heartbeat(health={"indosat": HealthCode.DOWN})),
    )
    detail = await room.get(f"/api/1/sites/{SITE}")
    shown = detail["site"]
    assert (shown["presence"], shown["condition"]) == ("online", "degraded")
    assert shown["uplinks"][1] | {"rtt_ms": 0} == {
        "name": "indosat", "provider": "Indosat", "device": "wan1", "health": "down",
        "active": False, "rtt_ms": 0, "loss_ratio": 0.1, "sent": 20, "lost": 2,
    }  # fmt: skip
    assert detail["host"]["temperature_c"] == 51.5
    assert (detail["mode"], detail["clock_confirmed"]) == ("polling-day", True)
    assert (detail["heartbeats"], detail["lost"]) == (2, 0)
    (event,) = (await room.get("/api/1/events", site=SITE))["events"]
    assert event == detail["events"][0]
    assert event["evidence"] == {"sirekap": "lost 6 of 6"}
    summary = await room.get("/api/1/summary")
    assert summary["sites"]["degraded"] == summary["online"] == 1
    indosat, telkomsel = summary["providers"]
    assert (telkomsel["active"], telkomsel["up"], telkomsel["rtt_median_ms"]) == (
        1,
        1,
        40.0,
    )
    assert indosat["troubles"] == [
        {"kecamatan": "Muara Ancalong", "uplinks": 1, "down": 1, "degraded": 0}
    ]


async def test_without_a_birth_the_name_tells_the_provider(room, site):
    room.tell((site.topic("heartbeat"), site.heartbeat()))
    uplinks = (await room.get(f"/api/1/sites/{SITE}"))["site"]["uplinks"]
    assert [u["provider"] for u in uplinks] == ["Telkomsel", "Indosat"]


async def test_what_is_missing_and_what_is_lost(room, site):
    path = f"/api/1/sites/{SITE}/boots"
    assert (await room.get(path))["boots"] == []
    beats = [site.heartbeat(clock_age_s=-1) for _ in range(9)]
    room.tell(
        (site.topic("heartbeat"), beats[0]),
        (site.topic("event"), site.event(seq=4, clock_age_s=-1)),
        (site.topic("history"), site.history([beats[8]], [LostRange(site.boot, 6, 7)])),
    )
    (boot,) = (await room.get(path))["boots"]
    assert boot | {"first_arrival_ms": 0, "last_arrival_ms": 0} == {
        "boot": site.boot.hex(), "began_ms": None, "dated": "arrival",
        "first_arrival_ms": 0, "last_arrival_ms": 0, "records": 3,
        "through": 1, "highest": 9, "missing": 4,
        "gaps": [[2, 3], [5, 5], [8, 8]], "lost": [[6, 7]],
    }  # fmt: skip
    detail = await room.get(f"/api/1/sites/{SITE}")
    assert (detail["missing"], detail["lost"], detail["last_seq"]) == (4, 2, 9)


async def test_what_is_dated_by_its_arrival_says_so(room, site):
    room.tell(
        (site.topic("heartbeat"), site.heartbeat(clock_age_s=-1)),
        (site.topic("event"), site.event(clock_age_s=-1)),
    )

    async def shown():
        (event,) = (await room.get("/api/1/events", site=SITE))["events"]
        now_ms = time.time_ns() // 1_000_000
        series = await room.get(f"/api/1/sites/{SITE}/series", to_ms=now_ms + 1000)
        return event["dated"], {
            flag for u in series["uplinks"] for flag in u["by_clock"]
        }

    assert await shown() == ("arrival", {False})
    room.tell((site.topic("heartbeat"), site.heartbeat()))
    assert await shown() == ("clock", {True})
    (boot,) = (await room.get(f"/api/1/sites/{SITE}/boots"))["boots"]
    assert (boot["dated"], boot["began_ms"]) == ("clock", site.started_ms)


async def test_series_raw_and_merged(room, site):
    now_ms = time.time_ns() // 1_000_000
    start_ms = (now_ms - 7_200_000) // 60_000 * 60_000
    room.tell(
        *(
            (site.topic("heartbeat"), site.heartbeat(t_ms=start_ms + n * 10_000))
            for n in range(720)
            if not 400 <= n < 430
        )
    )
    path = f"/api/1/sites/{SITE}/series"
    hour = await room.get(path, from_ms=start_ms, to_ms=start_ms + 3_600_000)
    assert hour["bucket_s"] == 0
    assert [len(u["t_s"]) for u in hour["uplinks"]] == [361, 361]
    assert hour["uplinks"][1]["provider"] == "Telkomsel"
    assert hour["uplinks"][1]["active"][0] is True
    merged = await room.get(path, from_ms=start_ms, to_ms=start_ms + 7_200_000)
    assert merged["bucket_s"] == 15
    one = merged["uplinks"][0]
    assert (
        len({len(column) for column in one.values() if isinstance(column, list)}) == 1
    )
    assert one["rtt_mean_ms"].count(None) == 1
    assert {r for r in one["loss_ratio"] if r is not None} == {0.1}


REFUSED = {
    "no such site": ("/api/1/sites/tps-1", {}, 404, "not on the list"),
    "no such site's series": ("/api/1/sites/tps-1/series", {}, 404, "not on the list"),
    "no such site's events": ("/api/1/events", {"site": "tps-1"}, 404, "not on the list"),
    "not a number": ("/api/1/events", {"limit": "many"}, 400, "limit must be a whole number"),
    "negative": (f"/api/1/sites/{SITE}/series", {"from_ms": "-5"}, 400, "from_ms must be"),
    "endless": (f"/api/1/sites/{SITE}/series", {"to_ms": "9" * 30}, 400, "15 digits"),
    "too few": ("/api/1/events", {"limit": "0"}, 400, "limit must be 1 to 1000"),
    "too many": ("/api/1/events", {"limit": "1001"}, 400, "limit must be 1 to 1000"),
    "backwards": (f"/api/1/sites/{SITE}/series", {"from_ms": "20", "to_ms": "10"}, 400, "before"),
    "too long": (f"/api/1/sites/{SITE}/series", {"from_ms": "0", "to_ms": "9999999999"}, 400, "at most 31 days"),
    "no such page": ("/nothing.js", {}, 404, "is not here"),
    "out of the folder": ("/%2e%2e/app.py", {}, 404, "is not here"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "query", "status", "want"), REFUSED.values(), ids=REFUSED
)
async def test_refusals_are_problems(room, path, query, status, want):
    assert want in await room.get(path, status, **query)


async def test_other_methods_are_refused(room):
    answer = await room.http.post("/api/1/sites")
    assert answer.status_code == 405
    room.check("Problem", answer.json())


async def test_outlines(room):
    first = await room.http.get("/api/1/kecamatan.geojson")
    assert first.headers["content-type"] == "application/geo+json"
    assert first.headers["content-encoding"] == "gzip"
    assert len(first.json()["features"]) == 18
    tag = {"if-none-match": first.headers["etag"]}
    again = await room.http.get("/api/1/kecamatan.geojson", headers=tag)
    assert (again.status_code, again.content) == (304, b"")


async def test_no_outlines_configured(tmp_path, shared_data):
    room = Room(tmp_path, site_list.read(shared_data / "kutim-sites.csv"))
    assert "set [collector] kecamatan" in await room.get(
        "/api/1/kecamatan.geojson", 404
    )
    await room.close()


async def test_document_health_and_headers(room):
    answer = await room.http.get("/api/1/openapi.json")
    assert answer.json() == room.document
    assert "script-src 'self';" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert (await room.http.get("/healthz")).text == "ok\n"
    room.fault = "the writer has ended"
    assert "writer" in await room.get("/healthz", 503)


async def test_metrics_keep_the_identity(room, site):
    room.counters.received = 10
    room.counters.stored.update(heartbeat=4, status=1)
    room.counters.rejected["malformed"] = 2
    room.counters.duplicate = 1
    room.counters.history_items["digest"] = 3
    room.counters.lost, room.counters.gaps_open, room.counters.watermarks = 5, 2, 9
    lines = (await room.http.get("/metrics")).text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if line[0] != "#")
    assert values['jaga_history_items_total{leaf="digest"}'] == "3.0"
    assert values["jaga_records_lost_total"] == "5.0"
    assert values["jaga_gaps_open"] == "2.0"
    assert values["jaga_watermarks_total"] == "9.0"
    assert values["jaga_received_total"] == "10.0"
    assert values['jaga_stored_total{leaf="heartbeat"}'] == "4.0"
    assert values["jaga_in_flight"] == "2.0"
    assert values['jaga_sites{condition="unknown"}'] == "702.0"
    assert values["jaga_broker_connected"] == "0.0"


async def test_the_page_and_its_files(tmp_path, shared_data):
    page = tmp_path / "static"
    (page / "assets").mkdir(parents=True)
    room = Room(tmp_path, site_list.read(shared_data / "kutim-sites.csv"), page=page)
    missing = await room.http.get("/")
    assert (missing.status_code, "make setup" in missing.text) == (503, True)
    (page / "index.html").write_text("<!doctype html>the page")
    (page / "assets" / "index-1a2b.js").write_text("1")
    for path in ("/", f"/site/{SITE}", "/site/kpu-kutim?range=6h"):
        answer = await room.http.get(path)
        assert answer.text == "<!doctype html>the page"
        assert answer.headers["cache-control"] == "no-cache"
    asset = await room.http.get("/assets/index-1a2b.js")
    assert "immutable" in asset.headers["cache-control"]
    await room.close()


async def test_updates_are_gathered_and_only_changes_are_sent(room, site):
    listener = room.board.listen()
    running = asyncio.create_task(room.board.run())
    first = _update(room, await listener.queue.get())
    assert len(first["sites"]) == 702
    for _ in range(20):
        room.tell((site.topic("heartbeat"), site.heartbeat()))
    room.tell((site.topic("event"), site.event()))
    second = _update(room, await asyncio.wait_for(listener.queue.get(), 2))
    assert [s["site"] for s in second["sites"]] == [SITE]
    assert [e["kind"] for e in second["events"]] == ["decision"]
    assert second["revision"] > first["revision"]
    assert listener.queue.empty()
    running.cancel()


async def test_a_page_that_does_not_keep_up_is_dropped(room, site):
    slow, quick = room.board.listen(), room.board.listen()
    for n in range(BACKLOG + 1):
        quick.queue.get_nowait()
        room.tell((site.topic("heartbeat"), site.heartbeat()))
        room.board._send()
        assert slow.dropped.is_set() == (n >= BACKLOG - 1)
    assert room.board.listeners == {quick}
    assert slow.queue.qsize() == BACKLOG
    assert room.board.dropped == 1


async def test_a_stalled_page_costs_nothing_but_itself(room, site):
    listener = server.bind("127.0.0.1", 0)
    uvicorn = server.Server(room.app)
    serving = asyncio.create_task(uvicorn.serve([listener]))
    reader, writer = await asyncio.open_connection(*listener.getsockname(), limit=2**10)
    writer.write(b"GET /api/1/stream HTTP/1.1\r\nHost: room\r\n\r\n")
    assert b"200 OK" in await reader.readline()
    room.tell((site.topic("heartbeat"), site.heartbeat()))
    # Every row at once, until the kernel's buffers and the backlog are full.
    for _ in range(500):
        room.board._changed.update(room.board.sites)
        room.board._send()
        await asyncio.sleep(0)
        if not room.board.listeners:
            break
    assert room.board.dropped == 1
    quick = room.board.listen()
    room.board._send()
    assert quick.queue.qsize() == 2
    uvicorn.should_exit = True
    await asyncio.wait_for(serving, 10)
    writer.close()
    listener.close()


def _update(room, frame):
    identity, event, data = frame.decode().strip().split("\n")
    update = json.loads(data.removeprefix("data: "))
    room.check("StreamUpdate", update)
    assert event == "event: update"
    assert identity == f"id: {update['revision']}"
    return update
