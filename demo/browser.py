"""The page in a real browser: what a duty officer would see, read from the screen."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from playwright.sync_api import Error, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page

CHROMIUM: Final = "/usr/bin/chromium"
ARGUMENTS: Final = (
    # As root in a container there is no sandbox to be had; it only opens our own page.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Screen:
    """One open page of the control room."""

    def __init__(self, page: Page, base: str) -> None:
        self.page = page
        self.base = base

    def open_site(self, site: str) -> None:
        """Go to a site's own page."""
        self.page.goto(f"{self.base}/site/{site}")

    def open_district(self) -> None:
        """Go to the first screen."""
        self.page.goto(f"{self.base}/")

    def shows(self, test_id: str, text: str, timeout_s: float) -> bool:
        """Return whether an element comes to show the text within the time."""
        element = self.page.get_by_test_id(test_id).filter(has_text=text).first
        try:
            element.wait_for(state="visible", timeout=timeout_s * 1000)
        except Error:
            return False
        return True


@contextmanager
def chromium(base: str, directory: Path) -> Iterator[Screen]:
    """Open Debian's Chromium, headless; raises playwright's Error if it cannot start.

    Chromium leaves its temporary files when it is ended: they go to `directory`.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=list(ARGUMENTS),
            env={**os.environ, "TMPDIR": str(directory)},
            # A Ctrl-C reaches playwright's driver too: the end is ours to order.
            handle_sigint=False,
        )
        try:
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            yield Screen(page, base)
        finally:
            # A signal to the whole process group may have ended it before us.
            with suppress(Error):
                browser.close()
