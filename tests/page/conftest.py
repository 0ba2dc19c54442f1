"""The page in a real Chromium, before the development collector of web/dev.

The district is small and made here: three kecamatan side by side, so that the tests
need no file from outside. Everything started here is ended here, by pid.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from jaga_server.site_list import COLUMNS
from lab.namespace import end, popen
from support.places import ROOT
from support.ports import free_port
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

STATIC = ROOT / "server/jaga_server/web/static/index.html"
CHROMIUM = os.environ.get("JAGA_CHROMIUM", "/usr/bin/chromium")
KECAMATAN = {"Sangkulirang": "64.08.05", "Busang": "64.08.06", "Telen": "64.08.07"}
SITES_EACH = 40
START_S = 20


def _write_district(folder: Path) -> tuple[Path, Path]:
    """Forty sites in each of three unit squares, two uplinks each."""
    sites, outlines = folder / "sites.csv", folder / "outlines.geojson"
    features = []
    with sites.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for index, (name, code) in enumerate(KECAMATAN.items()):
            west = 116.0 + index
            square = [[west, 0], [west + 1, 0], [west + 1, 1], [west, 1], [west, 0]]
            features.append(
                {
                    "type": "Feature",
                    "properties": {"code": code, "name": name},
                    "geometry": {"type": "Polygon", "coordinates": [square]},
                }
            )
            for n in range(1, SITES_EACH + 1):
                number = f"{900 + n:03}"
                place = (0.05 + n / 45, round(west + (n * 7 % 40) / 42 + 0.02, 4))
                table.writerow(
                    [
                        f"tps-{code.replace('.', '')}2001-{number}",
                        f"TPS {number} {name} Satu",
                        "umum",
                        f"{name} Satu",
                        name,
                        f"{code}.2001",
                        *place,
                        "Telkomsel",
                        "XL",
                        "",
                    ]
                )
    collection = {"type": "FeatureCollection", "features": features}
    outlines.write_text(json.dumps(collection), encoding="utf-8")
    return sites, outlines


class Collector:
    """The development collector's address and levers."""

    def __init__(self, url: str) -> None:
        self.url = url

    def post(self, path: str) -> None:
        request = urllib.request.Request(self.url + path, method="POST")  # noqa: S310 - loopback http only
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - as above
            assert answer.status == 204

    def summary(self) -> dict[str, object]:
        with urllib.request.urlopen(self.url + "/api/1/summary", timeout=5) as answer:  # noqa: S310 - as above
            return json.load(answer)


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    if not STATIC.exists():
        pytest.skip(
            "the page is not built: npm --prefix web ci && npm --prefix web run build"
        )
    sites, outlines = _write_district(tmp_path)
    port = free_port()
    command = [sys.executable, str(ROOT / "web/dev/fixture.py"), "--port", str(port)]
    command += ["--sites", str(sites), "--outlines", str(outlines)]
    log = tmp_path / "collector.log"
    with log.open("wb") as output:
        process = popen(command, stdout=output, stderr=output)
    collector = Collector(f"http://127.0.0.1:{port}")

    def answers() -> bool:
        assert process.poll() is None, f"collector did not start: {log.read_text()}"
        try:
            collector.summary()
        except OSError:
            return False
        return True

    try:
        until(answers, "the collector answers", START_S)
        yield collector
    finally:
        end([process], 10)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no Chromium at {CHROMIUM}: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, collector: Collector) -> Iterator[Page]:
    """A page that fails its test on any script error or breach of the policy."""
    context = browser.new_context(
        base_url=collector.url, viewport={"width": 1440, "height": 900}
    )
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console",
        lambda message: (
            faults.append(message.text)
            if message.type == "error" and "status of 404" not in message.text
            else None
        ),
    )
    outside: list[str] = []
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((collector.url, "data:", "blob:"))
            else outside.append(request.url)
        ),
    )
    yield page
    context.close()
    assert faults == []
    assert outside == [], "the page must work without the internet"
