"""The service units: systemd accepts every line, and little is exposed."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.places import ROOT

PROGRAMS = {
    "jaga-agent": "/opt/jaga/bin/jaga-agent run --config /etc/jaga/",
    "jaga-collector": "/opt/jaga/bin/jaga-collector run --config /etc/jaga/",
    "jaga-dns": "/usr/sbin/dnsmasq --keep-in-foreground --conf-file=/etc/jaga/",
}
EXPOSURE_MAX = 2.0
ANALYZE = shutil.which("systemd-analyze")

pytestmark = [
    pytest.mark.skipif(ANALYZE is None, reason="systemd is not installed here"),
    pytest.mark.skipif(
        os.geteuid() != 0 and not Path("/run/systemd").is_dir(),
        reason="systemd does not run here: only root can make its /run/systemd",
    ),
]


def analyze(*arguments):
    return subprocess.run(
        [ANALYZE, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(("unit", "command"), PROGRAMS.items(), ids=PROGRAMS)
def test_systemd_accepts_it(unit, command, tmp_path):
    text = (ROOT / f"systemd/{unit}.service").read_text()
    # A root in which the programs exist, and the system's own units.
    for path in (command.split()[0], "/bin/sh", "/bin/kill"):
        program = tmp_path / path[1:]
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    assert f"ExecStart={command}" in text
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True, exist_ok=True)
    (units / f"{unit}.service").write_text(text)
    system = next(
        path
        for path in (Path("/usr/lib/systemd/system"), Path("/lib/systemd/system"))
        if path.is_dir()
    )
    shutil.copytree(
        system,
        tmp_path / "usr/lib/systemd/system",
        symlinks=True,
        ignore_dangling_symlinks=True,
    )
    said = analyze(
        "verify",
        "--man=no",
        "--recursive-errors=no",
        f"--root={tmp_path}",
        f"{unit}.service",
    )
    ours = [line for line in said.stderr.splitlines() if unit in line]
    assert (said.returncode, ours) == (0, [])


def test_systemd_would_notice(tmp_path):
    text = (ROOT / "systemd/jaga-agent.service").read_text()
    broken = tmp_path / "jaga-agent.service"
    broken.write_text(text.replace("WatchdogSec=", "WatchdgoSec="))
    assert "WatchdgoSec" in analyze("verify", "--man=no", str(broken)).stderr


@pytest.mark.parametrize("unit", PROGRAMS)
def test_exposure(unit):
    said = analyze("security", "--offline=true", str(ROOT / f"systemd/{unit}.service"))
    found = re.search(r"Overall exposure level .*: ([0-9.]+)", said.stdout)
    assert found, said.stderr
    print(f"{unit}: exposure {found[1]}")  # noqa: T201 - the measured figure, shown by -s
    assert float(found[1]) <= EXPOSURE_MAX
