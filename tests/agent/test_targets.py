"""A target's URL: what it names, and one line with the fix for each way to be wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaga_agent import targets
from jaga_agent.core.model import TargetKind

# url: (kind, host, port, path, query name)
RIGHT = {
    "icmp://1.1.1.1": ("icmp", "1.1.1.1", None, "", None),
    "icmp://1.1.1.1/": ("icmp", "1.1.1.1", None, "", None),
    "udp-echo://203.0.113.7:7007": ("udp-echo", "203.0.113.7", 7007, "", None),
    "tcp://host.example:443": ("tcp", "host.example", 443, "", None),
    "dns://8.8.8.8/kpu.go.id": ("dns", "8.8.8.8", 53, "", "kpu.go.id"),
    "dns://8.8.8.8:5353/KPU.go.id.": ("dns", "8.8.8.8", 5353, "", "kpu.go.id"),
    "tls://host.example.:8883": ("tls", "host.example", 8883, "", None),
    "http://host.example": ("http", "host.example", 80, "/", None),
    "https://host.example/a/b?c=d": ("https", "host.example", 443, "/a/b?c=d", None),
    "https://10.0.0.1:8443/": ("https", "10.0.0.1", 8443, "/", None),
    "https://_x.xn--bcher-kva.example/": (
        "https",
        "_x.xn--bcher-kva.example",
        443,
        "/",
        None,
    ),
}

WRONG = {
    "": "begin it with one of icmp://, udp-echo://",
    "sirekap-web.kpu.go.id": "begin it with one of",
    "udp://1.1.1.1:53": "begin it with one of",
    "https:/host.example/": "begin it with one of",
    "https://": "names no host; write it like https://host.example/",
    "https:///path": "names no host",
    "icmp://example.org": "resolved through one provider and blamed on another",
    "dns://resolver.example/kpu.go.id": "want dns:// and an IPv4 address",
    "udp-echo://collector.example:7": "want udp-echo:// and an IPv4 address",
    "icmp://1.1.1.1:7": "ICMP has no ports; leave `:7` out",
    "icmp://1.1.1.1/x": "has no path; leave `/x` out",
    "tcp://host.example": "add the port, like tcp://host.example:443",
    "tls://host.example": "add the port, like tls://",
    "udp-echo://192.0.2.1": "add the port, like udp-echo://192.0.2.1:7007",
    "tcp://host.example:443/x": "has no path",
    "tcp://host.example:0": "port 0 is none",
    "tcp://host.example:70000": "not a URL; write it like tcp://",
    "tcp://host.example:http": "not a URL",
    "tcp://[::1:80": "not a URL",
    "tcp://[2001:db8::1]:80": "IPv6 is not probed",
    "dns://8.8.8.8": "name what to ask for, like dns://8.8.8.8/kpu.go.id",
    "dns://8.8.8.8/kpu..id": "name what to ask for",
    "dns://8.8.8.8/kpu.go.id?x": "name what to ask for",
    "https://me@host.example/": "no user and no `#`",
    "https://host.example/#top": "no user and no `#`",
    "https://host.example/a b": "holds a space",
    "https://host.example/a\r\nX: y": "holds a space",
    "https://bücher.example/": "a letter that is not ASCII",
    "https://1.1.1.256/": "`1.1.1.256` is neither a host name nor an IPv4 address",
    "https://1.1.1/": "is neither",
    "https://-a.example/": "is neither",
    "https://a..example/": "is neither",
    f"https://{'a' * 64}.example/": "is neither",
    f"https://{'a.' * 130}example/": "is neither",
}


@pytest.mark.parametrize("url", RIGHT)
def test_right(url):
    target = targets.parse("x", url)
    kind, *rest = RIGHT[url]
    assert target.kind is TargetKind(kind)
    assert [target.host, target.port, target.path, target.query_name] == rest


@pytest.mark.parametrize("url", WRONG)
def test_wrong(url):
    with pytest.raises(ValueError, match="`: ") as caught:
        targets.parse("x", url)
    assert WRONG[url] in str(caught.value)


@given(
    st.sampled_from([kind.value for kind in TargetKind]),
    st.text(st.characters(codec="utf-8"), max_size=40),
)
def test_any_text_is_a_target_or_a_line_of_advice(kind, rest):
    try:
        target = targets.parse("x", f"{kind}://{rest}")
    except ValueError as error:
        assert str(error).startswith(f"`{kind}://")  # noqa: PT017 (or no error at all)
        return
    # What goes into a request has no line end and no space.
    assert not set(f"{target.host}{target.path}") & set(" \r\n\t")
    assert (target.port is None) == (target.kind is TargetKind.ICMP)


def test_pulses_and_checks():
    assert targets.parse("x", "icmp://1.1.1.1").is_pulse
    assert targets.parse("x", "udp-echo://10.0.0.1:7").is_pulse
    assert not targets.parse("x", "tcp://a.example:7").is_pulse
    assert targets.parse("x", "tcp://10.0.0.1:7").is_literal
    assert not targets.parse("x", "tcp://a.example:7").is_literal


def test_what_a_prober_takes():
    assert targets.parse("x", "icmp://1.1.1.1").address == "1.1.1.1"
    assert targets.parse("x", "udp-echo://10.0.0.1:7").address == "10.0.0.1:7"
