"""The whole site, for real: lab, broker, collector, agent."""

import pytest

from support import ports
from support.places import ROOT


@pytest.fixture(scope="session")
def artifacts():
    path = ROOT / "artifacts"
    path.mkdir(exist_ok=True)
    return path


@pytest.fixture(scope="session")
def free_port():
    return ports.free_port
