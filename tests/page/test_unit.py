"""The page's pure parts have tests of their own, in its own language: run them too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_pages_own_tests_pass():
    npm = Path(sys.executable).with_name("npm")
    # npm's scripts ask for `node` by name: the environment's own, there may be no other.
    search = f"{npm.parent}:{os.environ['PATH']}"
    ran = subprocess.run(
        [npm, "--prefix", ROOT / "web", "test"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"PATH": search},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
