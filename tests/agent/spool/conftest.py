import pytest

from support.spools import SpoolHome


@pytest.fixture
def home(tmp_path):
    home = SpoolHome(tmp_path)
    yield home
    home.close()
