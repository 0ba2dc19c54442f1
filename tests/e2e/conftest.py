"""The whole site, for real: lab, broker, collector, agent."""

import os
import socket
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def shared_data():
    path = Path(os.environ.get("JAGA_SHARED_DATA", ROOT.parent / "shared/data"))
    assert (path / "kutim-sites.csv").exists(), (
        f"no kutim-sites.csv in {path}: set JAGA_SHARED_DATA to the folder that has it"
    )
    return path


@pytest.fixture(scope="session")
def artifacts():
    path = ROOT / "artifacts"
    path.mkdir(exist_ok=True)
    return path


@pytest.fixture(scope="session")
def free_port():
    return _free_port


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
