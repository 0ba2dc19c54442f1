"""The district on the page, read by a real Chromium: 702 sites, one of them real."""

import pytest

from demo.browser import chromium
from demo.stage import Stage
from demo.view import View

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def stage(shared_data, free_port):
    with Stage(shared_data, free_port(), fleet=None, say=print) as running:
        yield running


@pytest.fixture(scope="module")
def screen(stage):
    following = View(stage.base, lambda _: None)
    following.start()
    assert following.wait(lambda v: v.all_online(702), 60), (
        f"{following.summary.get('online')} of 702 sites online"
    )
    with chromium(stage.base, stage.directory) as opened:
        yield opened


def number(text):
    return int("".join(c for c in text if c.isdigit()))


def test_all_702_sites_are_online_on_the_page(screen, artifacts):
    screen.open_district()
    assert screen.shows("count-online", "702", 15)
    assert screen.shows("count-unknown", "0", 15)
    counts = {
        name: number(screen.page.get_by_test_id(f"count-{name}").inner_text())
        for name in ("fine", "degraded", "offline", "unknown")
    }
    assert sum(counts.values()) == 702
    assert counts["offline"] == counts["unknown"] == 0
    # The simulated weather: most sites are fine, some are not, and the page says so.
    assert counts["fine"] > counts["degraded"] > 0
    screen.page.screenshot(path=artifacts / "page-district.png")


def test_the_lab_site_is_among_them(screen, stage):
    screen.page.goto(f"{stage.base}/?q={stage.site}")
    assert screen.shows(f"site-row-{stage.site}", "Telkomsel", 15)


def test_nothing_on_the_page_comes_from_elsewhere(screen, stage):
    asked = []
    screen.page.on("request", lambda request: asked.append(request.url))
    screen.open_district()
    assert screen.shows("count-online", "702", 15)
    allowed = (stage.base, "data:", "blob:")
    assert [url for url in asked if not url.startswith(allowed)] == []


def test_english_is_a_click_away(screen):
    screen.open_district()
    toggle = screen.page.get_by_test_id("lang-toggle")
    assert screen.shows("event-feed", "", 15)
    before = screen.page.locator("body").inner_text()
    assert "Terputus".lower() in before.lower()
    toggle.click()
    screen.page.get_by_text("Offline", exact=False).first.wait_for(timeout=5000)
    toggle.click()


def test_the_failover_shows_on_the_sites_own_page(screen, stage, artifacts):
    screen.open_site(stage.site)
    shown = f"site-active-{stage.site}"
    assert screen.shows(shown, "telkomsel", 15)
    stage.lab.uplinks["telkomsel"].blackhole()
    assert screen.shows(shown, "indosat", 15)
    assert screen.shows("site-events", "Telkomsel", 15)
    for chart in ("rtt-chart", "loss-chart"):
        screen.page.get_by_test_id(chart).wait_for(timeout=5000)
    screen.page.screenshot(path=artifacts / "page-site.png", full_page=True)
    stage.lab.restore()


def test_it_fits_a_phone_and_a_wall(screen, artifacts):
    page = screen.page
    for name, width, height, query in (
        ("phone", 390, 844, ""),
        ("wall", 1920, 1080, "?wall=1"),
    ):
        page.set_viewport_size({"width": width, "height": height})
        page.goto(f"{screen.base}/{query}")
        assert screen.shows("count-online", "702", 15)
        page.screenshot(path=artifacts / f"page-{name}.png")
        # On the morning of polling day all 702 are unknown; another district has more.
        page.evaluate(
            "document.querySelectorAll('[data-testid^=count-]')"
            ".forEach(e => { e.textContent = '1.702' })"
        )
        overflow = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert overflow <= 0, f"{name}: {overflow} px too wide"
