"""The decision chain: what was changed is found, what was torn is told, ids never return."""

import hashlib
import itertools
import json
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import msgspec
import pytest

from jaga_agent.adapters import chain as chain_module
from jaga_agent.adapters.chain import SPARED_IDS, Chain, load
from jaga_agent.adapters.chain import entry as entry_module
from jaga_agent.adapters.chain.entry import BREAK, Content, Judged, Proof
from jaga_agent.errors import ChainError

BOOT = "00" * 8
OTHER_BOOT = "11" * 8


def said(kind="health", *, boot=BOOT, at_ms=1000, **more):
    return Content(
        boot=boot, at_ms=at_ms, wall_ms=at_ms, clock_age_s=-1, kind=kind, **more
    )


def filled(directory, count=10, **more):
    chain = Chain(directory, boot=BOOT)
    for number in range(count):
        chain.append(said(at_ms=number, uplink="telkomsel", reason=f"no {number}"))
    chain.append(said("stopped", **more))
    chain.close()
    return chain


def file(directory):
    return directory / chain_module.NAME


def lines_of(directory):
    return file(directory).read_bytes().splitlines(keepends=True)


def test_entries_rise_and_are_bound_and_survive_a_restart(tmp_path):
    filled(tmp_path, 3)
    chain = Chain(tmp_path, boot=OTHER_BOOT)
    chain.append(said("started", boot=OTHER_BOOT))
    chain.close()
    kept = load(tmp_path)
    assert kept.fault is None
    assert [e.id for e in kept.entries] == [1, 2, 3, 4, 5]
    assert kept.entries[0].prev == entry_module.START
    for before, after in zip(kept.entries, kept.entries[1:], strict=False):
        assert after.prev == before.hash


def test_the_canonical_form_is_what_any_json_library_makes_of_it(tmp_path):
    """Another program, in another language, must be able to prove the chain."""
    chain = Chain(tmp_path, boot=BOOT)
    chain.append(
        said(
            "decision",
            uplink="xl",
            reason="telkomsel: “diam” → 100 %",
            values={"took_ms": "380", "a": "b"},
            candidates=(
                Judged(uplink="telkomsel", health="down"),
                Judged(uplink="xl", health="up", rtt_ms=31),
            ),
            evidence=Proof(steps=3, sha256="ab"),
        )
    )
    chain.close()
    row = json.loads(file(tmp_path).read_text())
    told = row.pop("hash")
    form = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(form.encode()).hexdigest() == told


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_the_shell_line_in_the_documentation_is_true(tmp_path):
    chain = filled(tmp_path, 1)
    line = lines_of(tmp_path)[-1]
    ran = subprocess.run(
        ["sh", "-c", "jq -cjS 'del(.hash)' | sha256sum"],
        input=line,
        capture_output=True,
        check=True,
    )
    assert ran.stdout.split()[0].decode() == chain.last.hash


# Any harm to a whole chain is found, wherever it is done.

COUNT = 12


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    filled(directory, COUNT - 1)
    lines = [line.rstrip(b"\n") for line in lines_of(directory)]
    assert len(lines) == COUNT
    assert entry_module.verify(lines) is None
    return tuple(lines)


@hypothesis.given(st.data())
def test_any_changed_byte_is_found(whole, data):
    place = data.draw(st.integers(0, COUNT - 1))
    line = whole[place]
    at = data.draw(st.integers(0, len(line) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != line[at]))
    changed = line[:at] + bytes([byte]) + line[at + 1 :]
    fault = entry_module.verify([*whole[:place], changed, *whole[place + 1 :]])
    assert fault is not None
    assert fault.line == place + 1


@hypothesis.given(st.integers(0, COUNT - 2), st.integers(1, COUNT - 1))
def test_any_removal_before_the_end_is_found(whole, begin, count):
    end = min(begin + count, COUNT - 1)
    fault = entry_module.verify([*whole[:begin], *whole[end:]])
    assert fault is not None
    assert fault.line == begin + 1


@hypothesis.given(st.permutations(range(COUNT)).filter(lambda p: p != sorted(p)))
def test_any_other_order_is_found(whole, order):
    fault = entry_module.verify([whole[i] for i in order])
    assert fault is not None
    assert fault.line == next(i for i, p in enumerate(order) if i != p) + 1


@hypothesis.given(st.integers(0, COUNT - 1), st.integers(0, COUNT - 1))
def test_any_repeat_is_found(whole, place, which):
    lines = [*whole[: place + 1], whole[which], *whole[place + 1 :]]
    fault = entry_module.verify(lines)
    assert fault is not None


@hypothesis.given(st.integers(1, COUNT - 2), st.data())
def test_any_line_cut_short_before_the_end_is_found(whole, place, data):
    length = data.draw(st.integers(0, len(whole[place]) - 1))
    fault = entry_module.verify(
        [*whole[:place], whole[place][:length], *whole[place + 1 :]]
    )
    assert fault is not None
    assert fault.line == place + 1


@hypothesis.given(st.integers(0, COUNT - 2))
def test_an_entry_rewritten_with_its_own_hash_is_found_by_the_next(whole, place):
    """Who can write the file can hash: only those that follow, and others, know."""
    old = entry_module.parsed(whole[place])
    body = {f: getattr(old, f) for f in Content.__struct_fields__}
    body["reason"] = "all was well"
    _, line = entry_module.linked(Content(**body), id=old.id, prev=old.prev)
    fault = entry_module.verify([*whole[:place], line, *whole[place + 1 :]])
    assert fault is not None
    assert fault.line == place + 2


REASONS = {
    "space added": (lambda li: li.replace(b":", b": ", 1), "not written as the agent"),
    "a key twice": (
        lambda li: li.replace(b"{", b'{"kind":"health",', 1),
        "not written as the agent",
    ),
    "edited": (lambda li: li.replace(b"no 4", b"no 5"), "it was changed"),
    "no JSON": (lambda _: b"nonsense", "not an entry"),
    "no hash": (lambda _: b'{"id":5}', "not an entry"),
}


@pytest.mark.parametrize("case", REASONS.values(), ids=REASONS)
def test_the_reason_is_said(whole, case):
    change, why = case
    lines = [*whole]
    lines[4] = change(lines[4])
    fault = entry_module.verify(lines)
    assert fault.line == 5
    assert why in fault.why


# What a power cut leaves


@hypothesis.given(
    whole=st.integers(0, 6), torn=st.binary(min_size=1, max_size=300), data=st.data()
)
@hypothesis.settings(max_examples=60)
def test_a_torn_tail_is_set_aside_and_said(tmp_path_factory, whole, torn, data):
    directory = tmp_path_factory.mktemp("torn")
    filled(directory, 6)
    lines = lines_of(directory)
    if data.draw(st.booleans(), label="a piece of the next line"):
        next_line = lines[whole]
        torn = next_line[: data.draw(st.integers(1, len(next_line) - 1))]
    file(directory).write_bytes(b"".join(lines[:whole]) + torn)
    chain = Chain(directory, boot=BOOT)
    last = chain.append(said("started"))
    chain.close()
    kept = load(directory)
    assert kept.fault is None
    assert kept.torn_bytes == 0
    *_, broken, started = kept.entries
    assert started == last
    assert broken.kind == "break"
    assert f"{len(torn)} bytes" in broken.reason
    assert hashlib.sha256(torn).hexdigest() in broken.reason
    assert (directory / chain_module.ASIDE_NAME).read_bytes() == torn
    # What was told of the lost entries must not be told of others.
    assert broken.id > whole + SPARED_IDS


def test_ids_seen_in_what_is_damaged_are_not_given_again(tmp_path):
    filled(tmp_path, 300)
    file(tmp_path).write_bytes(
        file(tmp_path).read_bytes().replace(b"health", b"wealth")
    )
    chain = Chain(tmp_path, boot=BOOT)
    assert chain.append(said("started")).id > 301
    chain.close()


def test_a_power_cut_spares_ids_that_may_have_been_told(tmp_path):
    chain = Chain(tmp_path, boot=BOOT)
    chain.append(said("started"))
    chain.close()  # no "stopped": whatever came after did not reach the card
    chain = Chain(tmp_path, boot=OTHER_BOOT)
    chain.append(said("started", boot=OTHER_BOOT))
    chain.close()
    kept = load(tmp_path)
    assert kept.fault is None
    first, broken, last = kept.entries
    assert (broken.kind, broken.prev) == ("break", first.hash)
    assert broken.id == first.id + 1 + SPARED_IDS
    assert last.id == broken.id + 1


def test_a_kill_in_the_same_boot_loses_nothing_and_spares_nothing(tmp_path):
    chain = Chain(tmp_path, boot=BOOT)
    chain.append(said("started"))
    chain.close()
    again = Chain(tmp_path, boot=BOOT)
    assert again.append(said("started")).id == 2
    again.close()


WRITER = """
    import os
    import sys
    from pathlib import Path
    from jaga_agent.adapters.chain import Chain
    from jaga_agent.adapters.chain.entry import Content
    chain = Chain(Path(sys.argv[1]), boot="00" * 8)
    while True:
        entry = chain.append(Content(
            boot="00" * 8, at_ms=1, wall_ms=1, clock_age_s=-1, kind="health",
            reason="x" * 200,
        ))
        os.write(1, f"{entry.id} {entry.hash}\\n".encode())
"""


@pytest.mark.slow
def test_kill_9_during_appends_loses_nothing_that_was_told(tmp_path):
    told = {}
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path)],
            stdout=subprocess.PIPE,
        ) as writer:
            for seen, line in enumerate(writer.stdout, 1):
                number, digest = line.decode().split()
                assert int(number) not in told
                told[int(number)] = digest
                if seen == 200:
                    writer.kill()
        assert writer.returncode == -signal.SIGKILL
    kept = load(tmp_path)
    assert kept.fault is None
    assert len(told) >= 8 * 200
    entries = {entry.id: entry.hash for entry in kept.entries}
    assert told.items() <= entries.items()
    # A kill may fall within a write: the torn entry's id is spent, more are spared,
    # and a break says so. No id is missing without one.
    broken = {entry.id for entry in kept.entries if entry.kind == BREAK}
    for before, after in itertools.pairwise(entries):
        assert after == before + 1 or after in broken


# Files


def test_a_full_file_turns_and_the_chain_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(chain_module, "LIMIT_BYTES", 5000)
    chain = Chain(tmp_path, boot=BOOT)
    for number in range(60):
        chain.append(said(at_ms=number))
    chain.close()
    full, now = tmp_path / chain_module.FULL_NAME, file(tmp_path)
    assert full.stat().st_size < 6000
    assert now.stat().st_size < 6000
    kept = load(tmp_path)
    assert kept.fault is None
    first_now = entry_module.parsed(lines_of(tmp_path)[0].rstrip(b"\n"))
    full_lines = full.read_bytes().splitlines()
    assert first_now.kind == "turn"
    assert first_now.prev == entry_module.parsed(full_lines[-1]).hash
    assert first_now.of == entry_module.parsed(full_lines[0]).id
    assert [e.id for e in kept.entries] == list(
        range(kept.entries[0].id, chain.last.id + 1)
    )
    # The head of the older file is bound too.
    full.write_bytes(b"\n".join(full_lines[1:]) + b"\n")
    assert "before" in load(tmp_path).fault.why
    # And so is its tail, cut anywhere.
    full.write_bytes(b"\n".join(full_lines)[:-1])
    assert load(tmp_path).fault_file == full
    full.unlink()
    assert load(tmp_path).fault is None  # the oldest may go, the rest says what it was


def test_killed_between_the_two_halves_of_a_turn(tmp_path):
    filled(tmp_path, 3)
    file(tmp_path).replace(tmp_path / chain_module.FULL_NAME)
    chain = Chain(tmp_path, boot=BOOT)
    assert chain.append(said("started")).id == 5
    chain.close()
    assert load(tmp_path).fault is None


def test_an_entry_being_written_is_no_break(tmp_path):
    filled(tmp_path, 3)
    with file(tmp_path).open("ab") as half:
        half.write(b'{"at_ms":1,"bo')
    kept = load(tmp_path)
    assert kept.fault is None
    assert kept.torn_bytes == 14


def test_no_space_left_costs_the_entry_and_not_the_chain(tmp_path):
    """With a real limit of the kernel on the file's size, in a process of its own."""
    code = """
        import resource, signal, sys
        from pathlib import Path
        from jaga_agent.adapters.chain import Chain
        from jaga_agent.adapters.chain.entry import Content
        from jaga_agent.errors import ChainError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        def said(n):
            return Content(boot="00" * 8, at_ms=n, wall_ms=1, clock_age_s=-1, kind="health")
        chain = Chain(Path(sys.argv[1]), boot="00" * 8)
        for n in range(3):
            chain.append(said(n))
        size = (Path(sys.argv[1]) / "decisions.jsonl").stat().st_size
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
        for n in range(2):
            try:
                chain.append(said(n))
            except ChainError as error:
                print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        print(chain.append(said(9)).id)
        chain.close()
    """
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    first, second, number = ran.stdout.splitlines()
    assert "no space left" in first
    assert "no space left" in second
    assert number == "4"
    kept = load(tmp_path)
    assert (kept.fault, kept.torn_bytes, len(kept.entries)) == (None, 0, 4)


def test_a_directory_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ChainError, match=r"decision chain .*: Not a directory"):
        Chain(tmp_path / "file" / "state", boot=BOOT)


def test_no_chain_is_one_clear_line(tmp_path):
    with pytest.raises(ChainError, match=r"no decision chain in .*--directory"):
        load(tmp_path)


def test_a_later_version_s_fields_are_kept_in_the_hash(tmp_path):
    filled(tmp_path, 1)
    last = entry_module.parsed(lines_of(tmp_path)[-1].rstrip(b"\n"))
    row = msgspec.to_builtins(last) | {"id": last.id + 1, "prev": last.hash}
    del row["hash"]
    row["weather"] = "rain"
    row["hash"] = entry_module._hash(row)
    line = msgspec.json.encode(row, order="sorted")
    with file(tmp_path).open("ab") as later:
        later.write(line + b"\n")
    assert load(tmp_path).fault is None
    with file(tmp_path).open("r+b") as later:
        text = later.read().replace(b"rain", b"snow")
        later.seek(0)
        later.write(text)
    assert "changed" in load(tmp_path).fault.why


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_sync_leaves_no_descriptor_behind(tmp_path):
    chain = filled(tmp_path, 1)
    before = descriptors()
    chain = Chain(tmp_path, boot=BOOT)
    chain.append(said())
    for _ in range(5):
        chain.sync()
    chain.close()
    chain.sync()
    assert descriptors() == before
