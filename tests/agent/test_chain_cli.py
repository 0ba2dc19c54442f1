"""`jaga-agent decisions | explain | replay` as a technician runs them."""

import asyncio
import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jaga_agent.adapters import chain, evidence
from jaga_agent.runtime import decisions as decisions_module
from support.guarded import outage

JAGA = str(Path(sys.executable).with_name("jaga-agent"))


def jaga(*arguments, status=0):
    ran = subprocess.run(
        [JAGA, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert ran.returncode == status, ran.stderr
    assert "Traceback" not in ran.stderr
    return ran.stdout if status == 0 else ran.stderr


@pytest.fixture(scope="module")
def kept_run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decisions_module, "AFTER_S", 0.0)
        asyncio.run(outage(directory))
    return directory


@pytest.fixture
def state(tmp_path, kept_run):
    return shutil.copytree(kept_run, tmp_path, dirs_exist_ok=True)


def moves(state):
    return [e for e in chain.load(state).entries if e.kind == "decision"]


def test_decisions_are_listed_and_proved(state):
    out = jaga("decisions", "--directory", state, "--limit", 100)
    assert "failover: telkomsel → xl" in out
    assert "620 ms" in out
    assert max(map(len, out.splitlines()[:-1])) <= 80
    entries = chain.load(state).entries
    whole = (
        f"the chain is whole: {len(entries)} entries, 1 to {len(entries)}, last hash"
    )
    assert out.splitlines()[-1].startswith(whole)
    assert jaga("decisions", "--verify", "--directory", state).startswith(whole)
    few = jaga("decisions", "--directory", state, "--limit", 1)
    assert "stopped" in few
    assert "failover" not in few


def test_a_broken_chain_is_one_clear_line_and_a_failure(state):
    number = moves(state)[1].id
    path = state / chain.NAME
    path.write_bytes(
        path.read_bytes().replace(b'"rule":"failover"', b'"rule":"failback"')
    )
    error = jaga("decisions", "--verify", "--directory", state, status=1)
    (line,) = error.splitlines()
    assert line.startswith(
        f"jaga-agent: BROKEN CHAIN: {path}:{number}, entry {number}: "
    )
    assert "was changed" in line
    jaga("decisions", "--directory", state, status=1)


def test_explain_tells_the_last_or_the_one_asked_for(state):
    _, failover, failback = moves(state)
    last = jaga("explain", "--directory", state)
    assert last.startswith(f"Keputusan {failback.id}, ")
    told = jaga("explain", failover.id, "--lang", "en", "--directory", state)
    assert told.startswith(f"Decision {failover.id}, ")
    assert "telkomsel failed, so the site was moved to xl." in told
    assert "The site was cut for 0.62 s." in told
    assert "telkomsel took the site back at" in told
    assert f"run them again: jaga-agent replay {failover.id}" in told


def test_the_language_and_the_directory_come_from_the_configuration(state):
    config = state / "agent.toml"
    config.write_text(
        f'[site]\nid = "tps-1"\nlanguage = "en"\n[state]\ndirectory = "{state}"\n'
        '[[uplink]]\nname = "xl"\ndevice = "wan0"\n[mqtt]\nhost = "h"\ntls = false\n'
    )
    assert jaga("explain", "--config", config).startswith("Decision ")
    assert jaga("explain", "--config", config, "--lang", "id").startswith("Keputusan ")
    config.write_text(config.read_text().replace('"en"', '"fr"'))
    assert "language" in jaga("explain", "--config", config, status=1)


def test_replay_of_a_decision_reproduces_it(state):
    _, failover, failback = moves(state)
    out = jaga("replay", failover.id, "--directory", state)
    assert "FAILOVER telkomsel → xl (detected in" in out
    *_, last = out.splitlines()
    steps = int(last.split()[1])
    assert last == (
        f"reproduced: {steps} of {steps} steps identical, "
        f"decision {failover.id} identical"
    )
    assert steps > failover.evidence.steps
    out = jaga("replay", "--directory", state)
    assert out.endswith(f"decision {failback.id} identical\n")


def test_replay_of_a_packed_file_needs_no_chain(state):
    path = evidence.find(state, moves(state)[1].id)
    out = jaga("replay", path)
    assert out.splitlines()[-1].startswith("reproduced: ")
    assert out.endswith(" steps identical\n")


def test_replay_names_the_first_step_that_differs(state, tmp_path):
    lines = gzip.decompress(
        evidence.find(state, moves(state)[1].id).read_bytes()
    ).splitlines()
    at = next(i for i, li in enumerate(lines) if b'"rule":"failover"' in li)
    row = json.loads(lines[at])
    lines[at] = lines[at].replace(b'"rule":"failover"', b'"rule":"failback"')
    changed = tmp_path / "changed.jsonl.gz"
    changed.write_bytes(gzip.compress(b"\n".join(lines) + b"\n"))
    ran = subprocess.run(
        [JAGA, "replay", changed], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert f"step {at} (" in ran.stdout
    assert f'  recorded:     {{"at":{row["at"]}' in ran.stdout
    assert f"NOT reproduced: {len(lines) - 2} of {len(lines) - 1} steps" in ran.stdout
    (said,) = ran.stderr.splitlines()
    assert "decides otherwise" in said


def test_replay_refuses_swapped_evidence(state):
    first, second, _ = (evidence.find(state, move.id) for move in moves(state))
    second.write_bytes(first.read_bytes())
    error = jaga("replay", moves(state)[1].id, "--directory", state, status=1)
    assert "changed or swapped" in error


# arguments: what the one line says
REFUSED = {
    "no such entry": (["explain", "999"], "no entry 999 in"),
    "no such evidence": (["replay", "1"], "no evidence of 1 in"),
    "no such evidence to replay": (["replay", "999"], "no entry 999 in"),
    "no such file": (["replay", "nothing.jsonl"], "cannot be read: No such file"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_is_not_there_is_one_clear_line(state, case):
    arguments, said = case
    (line,) = jaga(*arguments, "--directory", state, status=1).splitlines()
    assert said in line


def test_no_chain_yet_is_one_clear_line(tmp_path):
    for command in ("decisions", "explain", "replay"):
        error = jaga(command, "--directory", tmp_path, status=1)
        assert "there is no decision chain in" in error


def test_a_wrong_id_is_wrong_usage(tmp_path):
    error = jaga("explain", "twelve", "--directory", tmp_path, status=2)
    assert "'twelve' is not a whole number" in error
