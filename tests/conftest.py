"""Fixtures and rules of every test."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import hypothesis
import pytest

from support import places

ROOT = Path(__file__).resolve().parent.parent
LEFT = (".pytest_cache", ".hypothesis", "artifacts")

# The machine is shared: a slow example is not a wrong one.
hypothesis.settings.register_profile("shared-machine", deadline=None)
hypothesis.settings.load_profile("shared-machine")


def pytest_configure() -> None:
    # A job that a shell puts into the background ignores Ctrl-C and so would all that
    # the tests start, and end with Ctrl-C; a handler is not handed on (execve(2)).
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("netns") and os.geteuid() != 0:
        pytest.skip("needs root for network namespaces")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    return places.shared_data()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Make what a run as root through sudo leaves in a user's checkout that user's."""
    owner = ROOT.stat()
    if os.geteuid() != 0 or os.environ.get("SUDO_UID") != str(owner.st_uid):
        return
    for name in LEFT:
        for path in (ROOT / name, *(ROOT / name).rglob("*")):
            if path.exists():
                os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
