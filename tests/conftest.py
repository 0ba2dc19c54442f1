"""Fixtures and rules of every test."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import hypothesis
import pytest

from support import places

if TYPE_CHECKING:
    from pathlib import Path

# The machine is shared: a slow example is not a wrong one.
hypothesis.settings.register_profile("shared-machine", deadline=None)
hypothesis.settings.load_profile("shared-machine")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("netns") and os.geteuid() != 0:
        pytest.skip("needs root for network namespaces")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    return places.shared_data()
