"""Which resolver is asked through which uplink."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_agent.core.resolving import Forwarding, servers_file

RESOLVERS = ("1.1.1.1", "8.8.8.8", "9.9.9.9")

# name: (usable by device, resolvers, lines)
CASES = {
    "all usable: one each, no two the same": (
        {"wan0": True, "wan1": True, "wan2": True},
        RESOLVERS,
        ["1.1.1.1@wan0", "8.8.8.8@wan1", "9.9.9.9@wan2"],
    ),
    "one is down: the others' lines stay": (
        {"wan0": False, "wan1": True, "wan2": True},
        RESOLVERS,
        ["8.8.8.8@wan1", "9.9.9.9@wan2"],
    ),
    "one is left: it asks two": (
        {"wan0": False, "wan1": False, "wan2": True},
        RESOLVERS,
        ["9.9.9.9@wan2", "1.1.1.1@wan2"],
    ),
    "none is usable: all are kept": (
        {"wan0": False, "wan1": False},
        RESOLVERS,
        ["1.1.1.1@wan0", "8.8.8.8@wan1"],
    ),
    "one uplink in all, down": (
        {"wan0": False},
        RESOLVERS,
        ["1.1.1.1@wan0", "8.8.8.8@wan0"],
    ),
    "one resolver in all": (
        {"wan0": True, "wan1": True},
        ("9.9.9.9",),
        ["9.9.9.9@wan0", "9.9.9.9@wan1"],
    ),
    "one of each": ({"wan0": True}, ("9.9.9.9",), ["9.9.9.9@wan0"]),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_servers_file(case):
    usable, resolvers, wanted = case
    text = servers_file([Forwarding(*pair) for pair in usable.items()], resolvers)
    assert text == "".join(f"server={line}\n" for line in wanted)


@given(
    st.lists(st.booleans(), min_size=1, max_size=8),
    st.lists(st.ip_addresses(v=4).map(str), min_size=1, max_size=8, unique=True),
)
def test_never_empty_never_through_a_dead_one_never_dear(usable, resolvers):
    text = servers_file(
        [Forwarding(f"wan{n}", ok) for n, ok in enumerate(usable)], resolvers
    )
    lines = text.splitlines()
    asked = {line.partition("@")[2] for line in lines}
    alive = {f"wan{n}" for n, ok in enumerate(usable) if ok}
    assert asked == (alive or {f"wan{n}" for n in range(len(usable))})
    assert len(lines) == len(set(lines))
    # Each question costs one packet for each uplink, and never less than two.
    assert len(lines) <= max(2, len(asked))
