"""Waiting for what tells nobody when it comes: poll with a deadline."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

POLL_S = 0.02


def until(
    condition: Callable[[], T], what: str = "the condition holds", within_s: float = 15
) -> T:
    """Return the first true value of `condition()`; AssertionError after `within_s`."""
    deadline_s = time.perf_counter() + within_s
    while not (value := condition()):
        assert time.perf_counter() < deadline_s, f"not within {within_s} s: {what}"
        time.sleep(POLL_S)
    return value


async def until_async(condition: Callable[[], object], within_s: float = 10) -> None:
    """As `until`, and lets the event loop work meanwhile."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 (of threads and files there is no event)
            await asyncio.sleep(POLL_S)
