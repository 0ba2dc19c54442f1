"""The udp-echo datagrams: golden bytes, round trips, and what is refused.

A golden file that fails here means the wire changed. That is never mended by writing the
file anew: another layout is another version in the first byte.
"""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_agent.wire import echo
from jaga_agent.wire.echo import Answer, DatagramError, Request, SiteState
from jaga_agent.wire.messages import HealthCode, ModeCode

GOLDEN = Path(__file__).parent / "golden_echo"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.json"))
KEY = echo.site_key(bytes(range(32)), "tps-6408052001-901")
OTHER_KEY = echo.site_key(bytes(range(32)), "tps-6408052001-902")

FLOORS = st.sampled_from([0, *(1 << n for n in range(31))])


@st.composite
def states(draw):
    healths = draw(st.lists(st.sampled_from(HealthCode), max_size=8))
    places = st.integers(0, len(healths) - 1) if healths else st.none()
    return SiteState(
        draw(st.none() | places),
        tuple(healths),
        draw(st.sampled_from(ModeCode)),
        draw(FLOORS),
        draw(FLOORS),
    )


U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
REQUESTS = st.builds(
    Request, U32, U64, U32, U32, st.integers(0, 7), st.none() | states()
)
ANSWERS = st.builds(
    Answer,
    U32,
    st.none() | U32,
    U32,
    U64,
    U32,
    st.floats(0, 1e6),
    st.booleans(),
)


def plain(value):
    """As the golden files have it."""
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return {f.name: plain(getattr(value, f.name)) for f in fields}
    if isinstance(value, (HealthCode, ModeCode)):
        return value.name
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def test_there_are_golden_files():
    assert set(NAMES) == {
        "request",
        "request-last-resort",
        "answer",
        "answer-uncounted",
    }


@pytest.mark.parametrize("name", NAMES)
def test_bytes_mean_what_the_file_says(name):
    golden = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    datagram = bytes.fromhex(golden["hex"])
    key = echo.site_key(bytes.fromhex(golden["master"]), golden["site"])
    assert key.hex() == golden["key"]
    if golden["message"] == "Request":
        message = echo.decode_request(datagram, key)
        assert message.site_tag == echo.site_tag(golden["site"])
        assert echo.encode_request(message, key) == datagram
    else:
        request = bytes.fromhex(golden["request"])
        message = echo.decode_answer(datagram, request, key)
        assert echo.encode_answer(message, request, key) == datagram
    assert plain(message) == golden["fields"]


@given(REQUESTS)
def test_a_request_comes_back_as_it_was(request):
    datagram = echo.encode_request(request, KEY)
    assert len(datagram) == echo.DATAGRAM_BYTES == 40
    assert echo.tag_of_request(datagram) == request.site_tag
    assert echo.seq_of_request(datagram) == request.seq
    assert echo.decode_request(datagram, KEY) == request


@given(REQUESTS, ANSWERS)
def test_an_answer_comes_back_as_it_was_but_for_its_rounded_error(request, answer):
    asked = echo.encode_request(request, KEY)
    datagram = echo.encode_answer(answer, asked, KEY)
    assert len(datagram) == len(asked), "an answer longer than its request amplifies"
    assert echo.seq_of_answer(datagram) == answer.seq
    back = echo.decode_answer(datagram, asked, KEY)
    assert dataclasses.replace(back, error_s=answer.error_s) == answer
    # Rounded up, by one part in 128 at most; never to 0.
    assert answer.error_s <= back.error_s <= answer.error_s * (1 + 2**-7) + 2**-31
    assert back.error_s > 0


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_counts_are_told_as_at_least_so_many(waiting, silent_s):
    state = SiteState(None, (), ModeCode.READY, waiting, silent_s)
    request = Request(1, 2, 3, 4, 0, state)
    got = echo.decode_request(echo.encode_request(request, KEY), KEY).state
    for told, true in ((got.waiting, waiting), (got.silent_s, silent_s)):
        assert told <= true
        assert true < 2 * told or (told, true) == (0, 0) or told == 1 << 30


NOISE = st.binary(max_size=64) | st.binary(min_size=40, max_size=40)
LIKE_OURS = st.builds(
    lambda kind, rest: bytes([kind]) + rest,
    st.sampled_from([0x11, 0x12, 0x21]),
    st.binary(min_size=39, max_size=39),
)


@given(NOISE | LIKE_OURS)
def test_no_bytes_raise_anything_but_the_own_error(datagram):
    asked = echo.encode_request(Request(1, 2, 3, 4, 0), KEY)
    for read in (
        echo.tag_of_request,
        echo.seq_of_answer,
        lambda d: echo.decode_request(d, KEY),
        lambda d: echo.decode_answer(d, asked, KEY),
    ):
        try:
            read(datagram)
        except DatagramError as error:
            assert error.reason in {echo.MALFORMED, echo.VERSION, echo.FORGED}  # noqa: PT017 (it may as well not raise)
    echo.seq_of_request(datagram)


@given(st.binary(min_size=6, max_size=6))
def test_no_authentic_state_raises_anything_but_the_own_error(state):
    body = echo._REQUEST.pack(0x11, 0x80, 1, 2, 3, 4, state)
    datagram = body + echo._mac(KEY, body)
    try:
        got = echo.decode_request(datagram, KEY).state
    except DatagramError as error:
        assert error.reason == echo.MALFORMED  # noqa: PT017 (it may as well not raise)
    else:
        assert got.active is None or got.active < len(got.healths) <= 8


@given(REQUESTS, ANSWERS, st.integers(0, 319))
def test_no_bit_can_be_changed(request, answer, bit):
    asked = echo.encode_request(request, KEY)
    answered = echo.encode_answer(answer, asked, KEY)

    def flipped(datagram):
        changed = bytearray(datagram)
        changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)

    with pytest.raises(DatagramError):
        echo.decode_request(flipped(asked), KEY)
    with pytest.raises(DatagramError):
        echo.decode_answer(flipped(answered), asked, KEY)
    with pytest.raises(DatagramError, match="forged"):
        echo.decode_answer(answered, flipped(asked), KEY)


def refusal(read, *arguments):
    with pytest.raises(DatagramError) as caught:
        read(*arguments)
    return caught.value.reason


ASKED = echo.encode_request(Request(1, 2, 3, 4, 0), KEY)
ANSWERED = echo.encode_answer(Answer(3, 1, 5, 6, 7, 0.1, True), ASKED, KEY)
REFUSED = {
    "another site's key": (lambda: refusal(echo.decode_request, ASKED, OTHER_KEY), "forged"),
    "an answer by another key": (lambda: refusal(echo.decode_answer, ANSWERED, ASKED, OTHER_KEY), "forged"),
    "a request sent back as an answer": (lambda: refusal(echo.decode_answer, ASKED, ASKED, KEY), "malformed"),
    "an answer sent on as a request": (lambda: refusal(echo.decode_request, ANSWERED, KEY), "malformed"),
    "the next version": (lambda: refusal(echo.decode_request, b"\x21" + ASKED[1:], KEY), "version"),
    "cut short": (lambda: refusal(echo.decode_request, ASKED[:-1], KEY), "malformed"),
    "too long": (lambda: refusal(echo.decode_request, ASKED + b"\0", KEY), "malformed"),
    "nothing": (lambda: refusal(echo.decode_request, b"", KEY), "malformed"),
}  # fmt: skip


@pytest.mark.parametrize(("got", "want"), REFUSED.values(), ids=REFUSED)
def test_refused(got, want):
    assert got() == want


def test_the_key_is_hkdf():
    # RFC 5869, A.1: expand the PRK with the info to the first 32 bytes, by its own words.
    import hmac

    master, site = bytes(range(32)), "kpu-kutim"
    first_block = hmac.digest(
        master, b"" + b"jaga udp-echo 1 key\0kpu-kutim" + b"\x01", "sha256"
    )
    assert echo.site_key(master, site) == first_block
    assert len(first_block) == echo.KEY_BYTES


def test_a_quoted_request_is_known_by_its_first_bytes():
    assert echo.seq_of_request(ASKED[:18]) == 3
    assert echo.seq_of_request(ASKED[:17]) is None
    assert echo.seq_of_request(ANSWERED) is None
