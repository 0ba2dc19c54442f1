"""What the duty officer sees and does, in a real browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from conftest import Collector

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SITE = "tps-6408052001-901"
TELEN = "tps-6408072001-901"
LIVE_MS = 20_000
"""A beat comes every 10 s; the page must show it as soon as the stream tells."""


def test_counters_are_the_collectors_numbers(page: Page, collector: Collector) -> None:
    page.goto("/")
    expect(page.get_by_test_id("count-unknown")).to_have_text("9")
    counts = collector.summary()["sites"]
    for condition in ("fine", "degraded", "offline", "unknown"):
        expect(page.get_by_test_id(f"count-{condition}")).to_have_text(
            str(counts[condition])
        )
    expect(page.get_by_test_id("count-online")).to_have_text(
        f"{collector.summary()['online']} dari 120 lokasi terhubung"
    )
    expect(page.get_by_test_id("stale-banner")).to_have_count(0)


def test_an_outage_shows_live_as_provider_row_and_event(
    page: Page, collector: Collector
) -> None:
    page.goto("/?q=901+telen")
    row = page.get_by_test_id(f"site-row-{TELEN}")
    active = page.get_by_test_id(f"site-active-{TELEN}")
    expect(active).to_have_text("telkomsel")
    expect(row).to_contain_text("Baik")

    collector.post("/fixture/fail?provider=Telkomsel&kecamatan=Telen")

    expect(active).to_have_text("xl", timeout=LIVE_MS)
    expect(row).to_contain_text("Terganggu")
    expect(row).to_contain_text("30/30")
    expect(page.get_by_test_id("provider-Telkomsel")).to_contain_text(
        re.compile(r"\d+ dari \d+ uplink terputus di ")
    )
    expect(page.get_by_test_id("event-feed")).to_contain_text(
        "pindah dari Telkomsel ke XL", timeout=LIVE_MS
    )
    expect(page.get_by_test_id("event-feed")).to_contain_text("TPS 901 Telen Satu")


def test_counters_filter_and_the_address_remembers(page: Page) -> None:
    page.goto("/")
    page.get_by_test_id("count-offline").click()
    expect(page).to_have_url(re.compile(r"\?c=offline$"))
    expect(page.get_by_test_id("shown")).to_have_text("7 dari 120 lokasi")
    expect(page.locator("tr.row")).to_have_count(7)
    page.reload()
    expect(page.get_by_test_id("shown")).to_have_text("7 dari 120 lokasi")
    page.get_by_test_id("clear-filters").click()
    expect(page.get_by_test_id("shown")).to_have_text("120 dari 120 lokasi")
    page.go_back()
    expect(page.get_by_test_id("shown")).to_have_text("7 dari 120 lokasi")


def test_slash_searches_and_worst_comes_first(page: Page) -> None:
    page.goto("/")
    expect(page.locator("tr.row").first).to_contain_text("Terputus")
    page.keyboard.press("/")
    expect(page.get_by_test_id("search")).to_be_focused()
    page.keyboard.type("905 busang")
    expect(page.locator("tr.row")).to_have_count(1)
    expect(page.locator("tr.row")).to_contain_text("TPS 905 Busang Satu")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Lokasi", exact=True).click()
    expect(page.locator("tr.row").first).to_contain_text("TPS 901 Busang Satu")


def test_only_rows_in_sight_are_in_the_document(page: Page) -> None:
    page.goto("/?sort=name")
    expect(page.get_by_test_id("shown")).to_have_text("120 dari 120 lokasi")
    assert page.locator("tr.row").count() < 60
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    last = page.get_by_test_id("site-row-tps-6408072001-940")
    expect(last).to_be_in_viewport()


def test_language_is_one_click_and_remembered(page: Page) -> None:
    page.goto("/")
    expect(page.locator("html")).to_have_attribute("lang", "id")
    expect(page.locator(".counters")).to_contain_text("Terputus")
    page.get_by_test_id("lang-toggle").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.locator(".counters")).to_contain_text("Offline")
    expect(page.get_by_test_id("count-online")).to_contain_text("sites online")
    page.goto("/")
    expect(page.locator(".counters")).to_contain_text("Offline")


def test_site_page_by_deep_link_with_charts_and_evidence(page: Page) -> None:
    page.goto(f"/site/{SITE}")
    expect(page.get_by_role("heading", level=1)).to_have_text(
        "TPS 901 Sangkulirang Satu"
    )
    expect(page.get_by_test_id("site-condition")).to_have_text("Terganggu")
    expect(page.get_by_test_id(f"site-active-{SITE}")).to_have_text("xl")
    down = page.get_by_test_id("uplink-telkomsel")
    expect(down).to_contain_text("30 dari 30 hilang (100%)")
    expect(down).to_contain_text("89\N{EN DASH}100%")
    expect(down).to_contain_text("3 of 3 targets silent")
    calm = page.get_by_test_id("uplink-xl")
    expect(calm).to_contain_text(re.compile(r"dari 30 hilang"))
    for chart in ("rtt-chart", "loss-chart"):
        canvas = page.get_by_test_id(chart).locator("canvas")
        expect(canvas).to_be_visible()
        drawn = canvas.evaluate(
            """canvas => {
                const { width, height } = canvas;
                const { data } = canvas.getContext("2d")
                    .getImageData(0, 0, width, height);
                const colours = new Set();
                for (let i = 0; i < data.length; i += 4)
                    if (data[i + 3] > 250)
                        colours.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
                return colours.has(0x1f6feb) && colours.has(0x8a3ffc);
            }"""
        )
        assert drawn, f"{chart} lacks an uplink's line"
    decision = page.get_by_test_id("site-events").locator("li.kind-decision").first
    expect(decision).to_contain_text("pindah dari Telkomsel ke XL")
    expect(decision).to_contain_text(re.compile(r"terdeteksi dalam [\d.,]+ (ms|dtk)"))
    expect(decision).to_contain_text(re.compile(r"berpindah dalam \d+ ms"))
    expect(page.get_by_test_id("heartbeats-lost")).to_have_text("0")
    expect(page.get_by_test_id("records-missing")).to_have_text("0")
    page.get_by_test_id("range-6h").click()
    expect(page).to_have_url(re.compile(r"range=6h"))
    expect(page.locator(".chart-notes")).to_contain_text("tiap titik 50 dtk")


def test_a_click_on_the_map_opens_the_site_and_back_returns(page: Page) -> None:
    page.goto("/?q=901+telen")
    expect(page.get_by_test_id("shown")).to_have_text("1 dari 120 lokasi")
    expect(page.locator(".map path")).to_have_count(3)
    # The only mark shown: its place follows from the outlines' box and the site's own.
    box = page.get_by_test_id("map").bounding_box()
    squares = [p.bounding_box() for p in page.locator(".map path").all()]
    assert box is not None
    left, right = (
        min(s["x"] for s in squares),
        max(s["x"] + s["width"] for s in squares),
    )
    top, bottom = (
        min(s["y"] for s in squares),
        max(s["y"] + s["height"] for s in squares),
    )
    lon, lat = 118.0 + 7 / 42 + 0.02, 0.05 + 1 / 45
    x = left + (right - left) * (lon - 116.0) / 3.0
    y = bottom - (bottom - top) * lat / 1.0
    page.mouse.click(x, y)
    expect(page).to_have_url(re.compile(rf"/site/{TELEN}\?"))
    expect(page).to_have_title("TPS 901 Telen Satu · Jaga")
    page.go_back()
    expect(page.get_by_test_id("shown")).to_have_text("1 dari 120 lokasi")


def test_an_unknown_site_says_so_and_what_to_do(page: Page) -> None:
    page.goto("/site/tps-nowhere?lang=en")
    expect(page.get_by_role("alert")).to_contain_text(
        "Site tps-nowhere is not on the collector's list."
    )


def test_a_lost_broker_shows_at_once(page: Page, collector: Collector) -> None:
    page.goto("/")
    expect(page.get_by_test_id("count-fine")).to_be_visible()
    collector.post("/fixture/broker?connected=0")
    banner = page.get_by_test_id("stale-banner")
    expect(banner).to_contain_text("Kolektor terputus dari broker MQTT")
    expect(banner).to_contain_text(re.compile(r"data berumur \d+ dtk"))
    collector.post("/fixture/broker?connected=1")
    expect(banner).to_have_count(0)


def test_a_silent_stream_shows_within_its_limit(
    page: Page, collector: Collector
) -> None:
    page.goto("/")
    expect(page.get_by_test_id("count-fine")).to_be_visible()
    banner = page.get_by_test_id("stale-banner")
    collector.post("/fixture/silence?on=1")
    expect(banner).to_contain_text(
        re.compile(r"Data ini sudah 1\d dtk tidak diperbarui"), timeout=25_000
    )
    collector.post("/fixture/silence?on=0")
    expect(banner).to_have_count(0)


@pytest.mark.parametrize(
    ("path", "width", "height"),
    [
        ("/", 360, 640),
        ("/", 1440, 900),
        ("/", 1920, 1080),
        ("/", 1024, 768),
        (f"/site/{SITE}", 360, 640),
        (f"/site/{SITE}", 820, 1180),
        (f"/site/{SITE}", 1440, 900),
        ("/?wall=1", 1920, 1080),
        ("/?wall=1", 1366, 768),
        ("/?wall=1", 3840, 2160),
    ],
)
def test_nothing_runs_out_of_the_screen(
    page: Page, path: str, width: int, height: int
) -> None:
    page.set_viewport_size({"width": width, "height": height})
    page.goto(path)
    ready = "site-condition" if "site" in path else "count-fine"
    expect(page.get_by_test_id(ready)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if "wall" in path:
        expect(page.locator(".wall-worst li").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollHeight") <= height
        # Read at four metres: the great numbers take a twentieth of the height.
        number = page.get_by_test_id("count-fine").bounding_box()
        assert number is not None
        assert number["height"] >= height / 20


def test_the_theme_follows_the_system_until_chosen(page: Page) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto("/")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.get_by_test_id("theme-toggle").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
