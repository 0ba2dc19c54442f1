"""README.md is true: each command in it runs, each example loads, no key is missing."""

import json
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import msgspec
import pytest

from demo.stage import BIN, Stage
from jaga_agent import cli as agent_cli
from jaga_agent import config as agent_config
from jaga_deploy import cli as deploy_cli
from jaga_server import cli as collector_cli
from jaga_server import config as collector_config
from lab import boottime_s

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]
MAKE = [line for line in COMMANDS if line.startswith("make ")]
DEPLOY = [line for line in COMMANDS if line.startswith("jaga-deploy ")]
PROGRAMS = [line for line in COMMANDS if line not in MAKE + DEPLOY]

# What a program's command is expected to do, and a piece of what it says.
ENDS = {
    "jaga-agent check-config --config /etc/jaga/agent.toml": "right (hash",
    "jaga-agent check --config /etc/jaga/agent.toml": "telkomsel (wan0)     sirekap  ok",
    "jaga-agent status": "The site uses telkomsel (wan0): OK",
    "jaga-agent status --json": '"active": "telkomsel"',
    "jaga-agent quota --config /etc/jaga/agent.toml": "counted since",
    "jaga-agent quota --config /etc/jaga/agent.toml reset telkomsel --used-mb 350": (
        "telkomsel: 350 MB are used"
    ),
    "jaga-agent explain": "Lokasi mulai memakai telkomsel.",
    "jaga-agent explain 1 --lang en": "The agent started.",
    "jaga-agent decisions": "first: nothing → telkomsel",
    "jaga-agent decisions --verify": "the chain is whole: ",
    "jaga-agent replay": "steps identical, decision",
    "jaga-agent replay /run/jaga/journal.jsonl": "FIRST nothing → telkomsel",
    "jaga-collector check-config --config /etc/jaga/collector.toml": "good; 702 sites",
    "jaga-collector sites --config /etc/jaga/collector.toml": "tps-6408041010-002",
    "jaga-collector gaps --config /etc/jaga/collector.toml": "nothing is missing",
}
STAYS = {
    "jaga-agent status --watch": "The site uses",
    "jaga-collector tail --config /etc/jaga/collector.toml": '"heartbeat"',
    # These two take the place of the stage's own, so they come last.
    "jaga-collector run --config /etc/jaga/collector.toml": "page",
    "jaga-agent run --config /etc/jaga/agent.toml": "broker connected",
}


def test_every_command_of_a_program_is_tried():
    assert sorted(PROGRAMS) == sorted([*ENDS, *STAYS])


def test_the_commands_of_jaga_deploy_in_their_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for line in DEPLOY:
        assert deploy_cli.main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    rows = re.findall(r"^\| `([a-z]+s)/[A-Za-z]+/`: (.*?) \|", README, re.MULTILINE)
    assert [holders for holders, _ in rows] == ["sites", "collectors", "operators"]
    for holders, files in rows:
        folder = min((tmp_path / "jaga-ca" / holders).iterdir())
        named = re.findall("`(.*?)`", files)
        assert [file for file in named if not (folder / file).is_file()] == []
    (keys,) = (tmp_path / "jaga-ca/operator-keys").iterdir()
    assert keys.name == "ani.pub.pem"


def test_the_make_targets_exist_and_the_demo_is_run_elsewhere():
    assert "make demo ARGS=--once" in MAKE  # run whole by test_demo.py
    for line in MAKE:
        ran = subprocess.run(
            [*shlex.split(line), "--dry-run"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert ran.returncode == 0, f"{line}: {ran.stderr}"


def test_the_examples_load(tmp_path, shared_data):
    agent, collector = blocks("toml")
    path = tmp_path / "agent.toml"
    path.write_text(agent)
    assert agent_config.load(path)[0].site.id == "tps-6408052001-901"
    for name in ("kutim-sites.csv", "kutim-kecamatan.geojson"):
        (tmp_path / name).symlink_to(shared_data / name)
    path = tmp_path / "collector.toml"
    for real in ("/etc/jaga", "/var/lib/jaga-collector"):
        collector = collector.replace(real, str(tmp_path))
    (tmp_path / "ca.crt").touch()
    path.write_text(collector)
    assert len(collector_config.load(path).sites) == 702


def test_the_measurement_has_the_keys_that_the_demo_prints():
    (line,) = blocks("json")
    source = (ROOT / "demo" / "__main__.py").read_text()
    for key in json.loads(line):
        assert f'"{key}":' in source


def keys(kind):
    """Yield table.key of every key of a configuration file."""
    for table in msgspec.inspect.type_info(kind).fields:
        inside = getattr(table.type, "item_type", table.type)
        if isinstance(inside, msgspec.inspect.UnionType):  # a table that may be absent
            inside = inside.types[0]
        for field in inside.fields:
            yield f"{table.encode_name}.{field.encode_name}"


def documented(title):
    part = README.split(f"## `{title}`", 1)[1].split("\n## ", 1)[0]
    return set(re.findall(r"`([a-z]+\.[a-z_0-9]+)`", part))


@pytest.mark.parametrize(
    ("program", "file"),
    [("jaga-agent", agent_config.Config), ("jaga-collector", collector_config.File)],
)
def test_every_key_is_documented_and_no_other(program, file):
    assert documented(program) == set(keys(file))


@pytest.mark.parametrize(
    ("program", "parser"),
    [
        ("jaga-agent", agent_cli._parser()),
        ("jaga-collector", collector_cli._parser()),
        ("jaga-deploy", deploy_cli._parser()),
    ],
)
def test_every_command_is_documented(program, parser):
    (choices,) = (a.choices for a in parser._actions if a.choices)
    for command in choices:
        assert f"{program} {command}" in README


@pytest.fixture(scope="module")
def stage(shared_data, free_port):
    with Stage(shared_data, free_port(), fleet=0, say=print) as running:
        yield running


def real(line, stage):
    """The same command on this stage: its files instead of those of a Pi."""
    for shown, here in (
        ("/etc/jaga/agent.toml", "agent/agent.toml"),
        ("/etc/jaga/collector.toml", "collector.toml"),
        ("/run/jaga/journal.jsonl", "agent/journal.jsonl"),
    ):
        line = line.replace(shown, str(stage.directory / here))
    program, *rest = shlex.split(line)
    if rest[0] == "status":
        rest += ["--socket", str(stage.directory / "agent/agent.sock")]
    if rest[0] in {"explain", "decisions"} or rest == ["replay"]:
        rest += ["--directory", str(stage.directory / "agent")]
    return [str(BIN / program), *rest]


@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.parametrize("line", ENDS)
def test_command_that_ends(line, stage):
    ran = stage.lab.pi.run(real(line, stage))
    assert ran.returncode == 0, ran.stderr
    assert ENDS[line] in ran.stdout


@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.parametrize("line", STAYS)
def test_command_that_stays(line, stage, tmp_path):
    name = line.split()[0] if " run " in line else None
    for running, process, _log in stage._running:
        if running == name:
            process.terminate()
            process.wait(10)
    log = tmp_path / "log"
    spawn = stage.lab.pi.popen if "agent" in line else subprocess.Popen
    with log.open("wb") as file:
        process = spawn(real(line, stage), stdout=file, stderr=file, cwd=ROOT)
    try:
        deadline = boottime_s() + 30
        while STAYS[line] not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert boottime_s() < deadline, log.read_text()
            time.sleep(0.1)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT if "status" in line else signal.SIGTERM)
        status = process.wait(15)
    assert status in ((0,) if " run " in line else (0, 130, -signal.SIGINT)), status
