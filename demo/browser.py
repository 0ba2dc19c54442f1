"""The page in a real browser: what a duty officer would see, read from the screen."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from playwright.sync_api import Error, sync_playwright

from demo.stage import DemoError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page

CHROMIUM: Final = os.environ.get("JAGA_CHROMIUM", "/usr/bin/chromium")
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
    """Open Debian's Chromium, headless; raises DemoError if it or its page fails.

    Chromium leaves its temporary files when it is ended: they go to `directory`.
    """
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM,
                args=list(ARGUMENTS),
                env={**os.environ, "TMPDIR": str(directory)},
                # A Ctrl-C reaches playwright's driver too: the end is ours to order.
                handle_sigint=False,
            )
        except Error as error:
            msg = (
                f"{CHROMIUM} does not start: {_first_line(error)}; try: {CHROMIUM}"
                " --headless --no-sandbox --dump-dom about:blank"
            )
            raise DemoError(msg) from error
        try:
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            yield Screen(page, base)
        except Error as error:
            msg = f"the page in {CHROMIUM} failed: {_first_line(error)}"
            raise DemoError(msg) from error
        finally:
            # A signal to the whole process group may have ended it before us.
            with suppress(Error):
                browser.close()


def _first_line(error: Error) -> str:
    """Return what happened; below it stands playwright's whole log."""
    return error.message.strip().splitlines()[0]
