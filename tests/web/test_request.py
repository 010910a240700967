"""Any bytes give a request or a refusal, and only requests that are read in one way are taken."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ipsecctl.web.request import BadRequest, Request, read_head

HOST = b"\r\nHost: x"


def test_a_request_is_read() -> None:
    """Path and query are decoded, names of headers are in lower case."""
    read = read_head(
        b"GET /policy?name=A%26B+c&q=%C3%BC HTTP/1.1\r\nHost: x:1\r\nCookie: a=1; b=2=3"
    )
    assert read == Request(
        "/policy", {"name": "A&B c", "q": "ü"}, {"host": "x:1", "cookie": "a=1; b=2=3"}
    )
    assert (read.cookie("a"), read.cookie("b"), read.cookie("c")) == ("1", "2=3", "")
    assert read_head(b"HEAD / HTTP/1.0").is_head


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST / HTTP/1.1" + HOST, 405),
        (b"DELETE /x HTTP/1.1" + HOST, 405),
        (b"get / HTTP/1.1" + HOST, 405),
        (b"GET / HTTP/2.0" + HOST, 505),
        (b"GET / HTTP/0.9" + HOST, 505),
        (b"GET http://x/ HTTP/1.1" + HOST, 400),
        (b"GET * HTTP/1.1" + HOST, 400),
        (b"GET  / HTTP/1.1" + HOST, 400),
        (b"GET /", 400),
        (b"GET /a b HTTP/1.1" + HOST, 400),
        (b"GET /\xff HTTP/1.1" + HOST, 400),
        (b"GET /%ff HTTP/1.1" + HOST, 400),
        (b"GET /?q=%ff HTTP/1.1" + HOST, 400),
        (b"GET /?" + b"&".join(b"a%d=1" % n for n in range(40)) + b" HTTP/1.1" + HOST, 400),
        (b"GET / HTTP/1.1" + HOST + HOST, 400),
        (b"GET / HTTP/1.1" + HOST + b"\r\nCookie: a=1\r\ncookie: a=2", 400),
        (b"GET / HTTP/1.1" + HOST + b"\r\n folded", 400),
        (b"GET / HTTP/1.1" + HOST + b"\r\nA : b", 400),
        (b"GET / HTTP/1.1" + HOST + b"\r\nA: b\x00c", 400),
        (b"GET / HTTP/1.1" + HOST + b"\r\nA: b\nB: c", 400),
        (b"GET / HTTP/1.1\nHost: x", 400),
        (b"GET / HTTP/1.1" + HOST + b"\r\nA: b" * 70, 431),
        (b"GET / HTTP/1.1" + HOST + b"\r\nContent-Length: 3", 413),
        (b"GET / HTTP/1.1" + HOST + b"\r\nTransfer-Encoding: chunked", 413),
    ],
)
def test_what_is_not_taken(head: bytes, status: int) -> None:
    """With the status that says why, and a sentence."""
    with pytest.raises(BadRequest) as refused:
        read_head(head)
    assert refused.value.status == status
    assert refused.value.message


PIECES = (
    *(b"GET ", b"HEAD ", b"/", b"?", b"a=b", b"&", b"%", b"%41", b" HTTP/1.1", b"\r\n"),
    *(b"Host: x", b":", b" ", b"\n", b"\xff", b"\x00", b"Cookie: a=b; c"),
)


@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(st.sampled_from(PIECES), max_size=20).map(b"".join),
    )
)
@example(b"")
def test_any_bytes(head: bytes) -> None:
    """A request with text that was in it, or the one refusal."""
    with contextlib.suppress(BadRequest):
        read = read_head(head)
        assert read.path.startswith("/")
        assert "\r" not in "".join(read.headers.values())
