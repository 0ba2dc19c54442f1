"""What comes from strangers: DNS messages and HTTP answers, right, wrong and hostile."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaga_agent import targets
from jaga_agent.adapters.checks import dns_message, http
from jaga_agent.adapters.checks.dns_message import DnsMessageError
from jaga_agent.adapters.checks.outcome import CheckFailure

NAME = "kpu.go.id"
QUESTION = b"\x03kpu\x02go\x02id\x00" + struct.pack("!HH", 1, 1)
A, CNAME, IN = 1, 5, 1


def head(*, identifier=7, flags=0x8180, questions=1, records=1):
    return struct.pack("!6H", identifier, flags, questions, records, 0, 0)


def record(owner, kind, content, klass=IN):
    return owner + struct.pack("!HHIH", kind, klass, 60, len(content)) + content


def address(text, owner=b"\xc0\x0c"):
    return record(owner, A, bytes(map(int, text.split("."))))


def answered(*records, **fields):
    packet = head(records=len(records), **fields) + QUESTION + b"".join(records)
    return dns_message.answer(packet, 7, NAME)


def test_the_question_is_what_a_server_reads():
    assert dns_message.question(7, NAME) == (
        struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + QUESTION
    )


# The records; the addresses wanted, the fault wanted.
ANSWERS = {
    "one": ([address("203.0.113.9")], ("203.0.113.9",), None),
    "two in order": (
        [address("203.0.113.9"), address("192.0.2.1")],
        ("203.0.113.9", "192.0.2.1"),
        None,
    ),
    "by an alias": (
        [
            record(b"\xc0\x0c", CNAME, b"\x03cdn\xc0\x10"),
            address("203.0.113.9", b"\x03CDN\x02go\x02id\x00"),
        ],
        ("203.0.113.9",),
        None,
    ),
    "of another name": (
        [address("203.0.113.9", b"\x05other\x00")],
        (),
        "knows no IPv4 address",
    ),
    "aliases in a circle": (
        [record(b"\xc0\x0c", CNAME, b"\xc0\x0c")],
        (),
        "knows no IPv4 address",
    ),
    "nothing": ([], (), "knows no IPv4 address"),
    "another class": (
        [record(b"\xc0\x0c", A, b"\1\1\1\1", klass=3)],
        (),
        "knows no IPv4 address",
    ),
}


@pytest.mark.parametrize("case", ANSWERS.values(), ids=ANSWERS)
def test_answers(case):
    records, addresses, fault = case
    answer = answered(*records)
    assert answer.addresses == addresses
    assert answer.fault == fault


@pytest.mark.parametrize(
    ("rcode", "said"),
    [
        (2, "has failed (SERVFAIL)"),
        (3, "says there is no such name (NXDOMAIN)"),
        (5, "refuses to answer"),
        (9, "answers with error 9"),
    ],
)
def test_errors_are_told(rcode, said):
    assert answered(flags=0x8180 | rcode).fault == said


@pytest.mark.parametrize(
    "lie",
    ["0.0.0.1", "10.1.2.3", "100.64.0.1", "127.0.0.1", "192.168.8.1", "240.0.0.1"],
)
def test_what_cannot_be_true_is_told(lie):
    answer = answered(address("203.0.113.9"), address(lie))
    assert answer.fault == f"says {lie}, which cannot be true"


def test_a_cut_answer_is_used_up_to_the_cut():
    packet = head(records=5, flags=0x8380) + QUESTION + address("203.0.113.9")
    assert dns_message.answer(packet, 7, NAME).addresses == ("203.0.113.9",)


STRANGE = {
    "another number": head(identifier=8) + QUESTION + address("203.0.113.9"),
    "a question": head(flags=0x0100, records=0) + QUESTION,
    "no question": head(questions=0) + address("203.0.113.9"),
    "another name": head() + QUESTION.replace(b"kpu", b"kpv") + address("1.1.1.1"),
    "another type": head(records=0) + QUESTION[:-4] + struct.pack("!HH", 28, 1),
    "empty": b"",
    "half a head": head()[:7],
    "half a record": head() + QUESTION + address("203.0.113.9")[:-1],
    "a name that points at itself": head() + b"\xc0\x0c" + QUESTION[-4:],
    "a name that points forwards": head() + b"\xc0\x0e\x01a\xc0\x0c" + QUESTION[-4:],
    "two names that point at each other": head()
    + QUESTION
    + b"\x01a\xc0\x21\x01b\xc0\x1b"
    + bytes(20),
    "a label of an unknown kind": head() + b"\x41a\x00" + QUESTION[-4:],
    "a name too long": head() + b"\x3f" + b"a" * 63 + (b"\x3f" + b"a" * 63) * 4,
}


@pytest.mark.parametrize("packet", STRANGE.values(), ids=STRANGE)
def test_what_is_no_answer(packet):
    with pytest.raises(DnsMessageError):
        dns_message.answer(packet, 7, NAME)


@given(st.binary(max_size=600))
@example(head() + b"\xc0\x0c" * 200)
def test_random_bytes_raise_nothing_else(packet):
    for candidate in (packet, head(records=9) + QUESTION + packet):
        try:
            answer = dns_message.answer(candidate, 7, NAME)
        except DnsMessageError:
            continue
        assert answer.fault is None or answer.fault


# ---- HTTP

TARGET = targets.parse("x", "https://sirekap.example/up?x=1")
PLAIN = targets.parse("x", "http://sirekap.example:8080/")
TEXT = targets.parse("x", "http://sirekap.example/", expect_text="Selamat datang")
MOVED = targets.parse("x", "https://sirekap.example/", expect_status=(302,))


def test_the_requests():
    assert http.request(TARGET, "HEAD") == (
        b"HEAD /up?x=1 HTTP/1.1\r\nHost: sirekap.example\r\n"
        b"User-Agent: jaga-agent\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
    wanted = b"\r\nHost: sirekap.example:8080\r\n"
    assert wanted in http.request(PLAIN, "GET")
    assert http.request(PLAIN, "GET").endswith(b"\r\nRange: bytes=0-4095\r\n\r\n")


def fed(pieces, target):
    response = http.Response(wants_body=target.expect_text is not None)
    for piece in pieces:
        if response.is_complete:
            break
        response.feed(piece)
    assert response.is_complete
    return response


def lines(*given):
    return "\r\n".join([*given, "", ""]).encode()


CHUNKED = lines("HTTP/1.1 200 OK", "Transfer-Encoding: chunked")

# name: (target, the bytes, what is said)
GOOD = {
    "200": (TARGET, lines("HTTP/1.1 200 OK"), "HTTP 200"),
    "204, HTTP/1.0, bare line ends": (TARGET, b"HTTP/1.0 204\nA: b\n\n", "HTTP 204"),
    "an interim answer first": (
        TARGET,
        lines("HTTP/1.1 103 Early Hints", "Link: x") + lines("HTTP/1.1 200 OK"),
        "HTTP 200",
    ),
    "moved on the same host": (
        TARGET,
        lines("HTTP/1.1 302 Found", "location: /login"),
        "HTTP 302",
    ),
    "moved to the same host by its name": (
        TARGET,
        lines("HTTP/1.1 301 Moved", "Location: https://SIREKAP.example./x"),
        "HTTP 301",
    ),
    "from http to https": (
        PLAIN,
        lines("HTTP/1.1 301 Moved", "Location: https://sirekap.example/"),
        "HTTP 301",
    ),
    "not modified": (TARGET, lines("HTTP/1.1 304 Not Modified"), "HTTP 304"),
    "elsewhere, as expected": (
        MOVED,
        lines("HTTP/1.1 302 Found", "Location: https://login.example/"),
        "HTTP 302",
    ),
    "the text, by its length": (
        TEXT,
        lines("HTTP/1.1 200 OK", "Content-Length: 16") + b"<Selamat datang>",
        "HTTP 200",
    ),
    "the text, to the end": (
        TEXT,
        lines("HTTP/1.1 200 OK") + b"<Selamat datang>",
        "HTTP 200",
    ),
    "the text across chunks": (
        TEXT,
        CHUNKED + b"8;x=y\r\nSelamat \r\n6\r\ndatang\r\n0\r\n\r\n",
        "HTTP 200",
    ),
}
BAD = {
    "a portal": (
        PLAIN,
        lines("HTTP/1.1 302 Found", "Location: http://portal.example/?u=1"),
        "redirected",
        "HTTP 302 to portal.example",
    ),
    "a portal by address": (
        PLAIN,
        lines("HTTP/1.1 307 X", "Location: //192.168.8.1/html"),
        "redirected",
        "HTTP 307 to 192.168.8.1",
    ),
    "down to http": (
        TARGET,
        lines("HTTP/1.1 302 Found", "Location: http://sirekap.example/"),
        "redirected",
        "HTTP 302 to http://sirekap.example",
    ),
    "nonsense": (
        PLAIN,
        lines("HTTP/1.1 302 Found", "Location: http://[/"),
        "redirected",
        "HTTP 302 to a place that is no URL",
    ),
    "a log-in": (
        PLAIN,
        lines("HTTP/1.1 511 Log in"),
        "redirected",
        "HTTP 511: a portal wants a log-in",
    ),
    "overloaded": (
        TARGET,
        lines("HTTP/1.1 503 Busy"),
        "unexpected",
        "HTTP 503",
    ),
    "another status": (MOVED, lines("HTTP/1.1 200 OK"), "unexpected", "HTTP 200"),
    "another text": (
        TEXT,
        lines("HTTP/1.1 200 OK", "Content-Length: 4") + b"Kuota habis",
        "unexpected",
        "HTTP 200 without the text 'Selamat datang'",
    ),
    "the text too late": (
        TEXT,
        lines("HTTP/1.1 200 OK") + b" " * 4090 + b"Selamat datang",
        "unexpected",
        "HTTP 200 without the text 'Selamat datang'",
    ),
    "no HTTP": (PLAIN, b"SSH-2.0-x\r\n", "unexpected", "does not speak HTTP"),
    "not even a line": (PLAIN, b"\x15\x03", "unexpected", "does not speak HTTP"),
    "an endless head": (
        PLAIN,
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 3000,
        "unexpected",
        "head of more than 16384 bytes",
    ),
    "silence": (PLAIN, b"", "reset", "connection closed unanswered"),
    "half an answer": (
        PLAIN,
        b"HTTP/1.1 200 OK\r\nA",
        "reset",
        "connection closed after half an answer",
    ),
}


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("case", GOOD.values(), ids=GOOD)
def test_good_answers_however_they_are_cut(case, size):
    target, content, said = case
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    assert fed([*pieces, b""], target).judge(target) == said


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_bad_answers_however_they_are_cut(case, size):
    target, content, verdict, said = case
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    with pytest.raises(CheckFailure) as caught:
        fed([*pieces, b""], target).judge(target)
    assert caught.value.verdict.value == verdict
    assert said in caught.value.detail


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.booleans())
def test_random_answers_raise_nothing_else(pieces, chunked):
    start = CHUNKED if chunked else b"HTTP/1.1 200 "
    try:
        fed([start, *pieces, b""], TEXT).judge(TEXT)
    except CheckFailure as failure:
        assert failure.detail  # noqa: PT017 (or no failure at all)


def test_what_a_stranger_writes_is_fit_for_a_terminal():
    content = lines("HTTP/1.1 302 X", "Location: http://\x1b[2Jevil/")
    with pytest.raises(CheckFailure) as caught:
        fed([content], PLAIN).judge(PLAIN)
    assert caught.value.detail.isprintable()
