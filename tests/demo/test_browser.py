"""A Chromium that cannot be had, or a page that fails, ends the demo with one line."""

import pytest

from demo import browser
from demo.stage import DemoError
from support.ports import free_port

BROKEN = {
    "not installed": "/nowhere/chromium",
    "ends at once": "/bin/false",
}


@pytest.mark.parametrize("program", BROKEN.values(), ids=BROKEN)
def test_a_browser_that_does_not_start(program, tmp_path, monkeypatch):
    monkeypatch.setattr(browser, "CHROMIUM", program)
    with (
        pytest.raises(DemoError, match=f"^{program} does not start: .+; try: ") as said,
        browser.chromium("http://127.0.0.1:9", tmp_path),
    ):
        pytest.fail("it cannot have started")
    assert "\n" not in str(said.value)


@pytest.mark.slow
def test_a_page_that_does_not_open(tmp_path):
    nobody = f"http://127.0.0.1:{free_port()}"
    with (
        pytest.raises(DemoError, match=r"^the page in .+ failed: .*REFUSED") as said,
        browser.chromium(nobody, tmp_path) as screen,
    ):
        screen.open_district()
    assert "\n" not in str(said.value)
