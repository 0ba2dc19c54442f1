"""What a Pi installs, and what is in the wheel."""

import re
import subprocess
import sys
import tomllib
import zipfile

import pytest

from jaga_agent import __version__
from support.places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements):
    return {re.match(r"[A-Za-z0-9._-]+", line)[0].lower() for line in requirements}


def test_a_pi_installs_these_six_and_nothing_else():
    assert names(PROJECT["dependencies"]) == {
        "paho-mqtt",
        "psutil",
        "icmplib",
        "pyroute2",
        "tenacity",
        "msgspec",
    }


def test_every_dependency_has_an_upper_bound():
    for extra in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        assert [line for line in extra if "<" not in line] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [path] = directory.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.mark.slow
def test_the_wheel_has_every_package_whole(wheel):
    inside = set(wheel.namelist())
    for source, package in (
        ("agent", "jaga_agent"),
        ("server", "jaga_server"),
        ("deploy", "jaga_deploy"),
    ):
        wanted = {
            path.relative_to(ROOT / source).as_posix()
            for path in (ROOT / source / package).rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        }
        assert f"{package}/py.typed" in wanted
        # The built page is among them: it is not in git, but in the wheel.
        assert wanted <= inside, wanted - inside


@pytest.mark.slow
def test_the_wheel_has_nothing_else(wheel):
    info = f"jaga-{__version__}.dist-info"
    assert {name.split("/")[0] for name in wheel.namelist()} == {
        "jaga_agent",
        "jaga_server",
        "jaga_deploy",
        info,
    }
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
    assert f"{info}/licenses/NOTICE" in wheel.namelist()
    commands = wheel.read(f"{info}/entry_points.txt").decode()
    for command, target in PROJECT["scripts"].items():
        assert f"{command} = {target}" in commands
