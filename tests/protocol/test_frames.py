"""Tests of the frame codec: whatever the bytes, the size and the way they are cut up."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecd.protocol.frames import FrameDecoder, ProtocolError, encode_frame, parse_frame

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('ab"\\[{', max_size=3), inner)
    ),
    max_leaves=20,
)
MESSAGES = st.dictionaries(st.text('xyz"]}', max_size=4), JSON_VALUES, max_size=4)


def decode(pieces: list[bytes], **limits: int) -> tuple[list[dict[str, Any]], str | None]:
    """All messages of `pieces`, and the error that ended them."""
    decoder = FrameDecoder(**limits)
    messages = []
    try:
        for piece in pieces:
            decoder.feed(piece)
            while (message := decoder.next_message()) is not None:
                messages.append(message)
    except ProtocolError as error:
        return messages, error.message
    return messages, None


def single_bytes(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


@given(st.lists(MESSAGES, max_size=4))
def test_what_is_encoded_is_decoded(messages: list[dict[str, Any]]) -> None:
    """Any sequence of objects comes out as it went in."""
    data = b"".join(encode_frame(message) for message in messages)
    assert decode([data]) == (messages, None)


@settings(max_examples=500)
@given(
    st.lists(
        st.one_of(
            MESSAGES.map(encode_frame),
            st.binary(max_size=20),
            st.sampled_from(
                [b"\0", b'{"a":1,"a":2}\0', b'{"a":[[[[]]]]}\0', b"[]\0", b'{"a":"' + b"x" * 70]
            ),
        ),
        max_size=4,
    )
)
def test_whole_and_single_bytes_agree(parts: list[bytes]) -> None:
    """However the bytes are cut up, the messages and the error are the same."""
    data = b"".join(parts)
    limits = {"max_frame_bytes": 64, "max_depth": 4}
    assert decode([data], **limits) == decode(single_bytes(data), **limits)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"1", "not a JSON object"),
        (b"{", "brackets do not match"),
        (b'{"a":NaN}', "NaN is not a number"),
        (b'{"a":-Infinity}', "-Infinity is not a number"),
        (b'{"a":1e999}', "too large"),
        (b'{"a":1,"a":1}', "twice"),
        (b'{"a":{"b":1,"b":1}}', "twice"),
        (b'{"a":"\\ud800"}', "not UTF-8"),
        (b'{"a":"\xff"}', "not UTF-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        ('{"a":1}'.encode("utf-16"), "not UTF-8"),
        (b'{"a":' + b"9" * 5000 + b"}", "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b'{"a":1} {}', "not JSON"),
    ],
)
def test_what_is_not_one_object_is_refused(frame: bytes, reason: str) -> None:
    """Broken text, other values and ambiguous objects are refused with their reason."""
    with pytest.raises(ProtocolError, match=reason):
        parse_frame(frame)


def test_pairs_of_surrogates_are_one_character() -> None:
    """An escape beyond the 16-bit characters is accepted, half of one is not."""
    assert parse_frame(b'{"a":"\\ud83d\\ude00"}') == {"a": "\U0001f600"}


@pytest.mark.parametrize("depth", [1, 2, 5, 32])
@pytest.mark.parametrize(("left", "right"), [("[", "]"), ('{"a":', "}")])
def test_depth_is_exact(depth: int, left: str, right: str) -> None:
    """As many levels as permitted are read, one more is refused."""
    deepest = '{"a":' + left * (depth - 1) + "0" + right * (depth - 1) + "}"
    assert parse_frame(deepest.encode(), depth) == json.loads(deepest)
    deeper = '{"a":' + left * depth + "0" + right * depth + "}"
    with pytest.raises(ProtocolError, match="nested deeper"):
        parse_frame(deeper.encode(), depth)


@given(st.text('[]{}"\\a', max_size=30))
def test_brackets_in_strings_do_not_count(text: str) -> None:
    """A string may hold any brackets, quotes and backslashes."""
    frame = encode_frame({"a": text})[:-1]
    assert parse_frame(frame, 1) == {"a": text}


@given(MESSAGES)
def test_depth_check_agrees_with_the_parsed_value(message: dict[str, Any]) -> None:
    """A frame passes at exactly the depth that its value has."""
    frame = encode_frame(message)[:-1]
    depth = depth_of(message)
    assert parse_frame(frame, depth) == message
    if depth > 1:
        with pytest.raises(ProtocolError):
            parse_frame(frame, depth - 1)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((depth_of(v) for v in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((depth_of(v) for v in value), default=0)
    return 0


def test_a_frame_of_exactly_the_limit_passes() -> None:
    """The limit counts the bytes before the NUL; one more is refused."""
    frame = b'{"a":"' + b"x" * 92 + b'"}'
    assert len(frame) == 100
    assert decode([frame + b"\0"], max_frame_bytes=100)[1] is None
    assert decode([frame + b"\0"], max_frame_bytes=99)[1] is not None


def test_an_endless_frame_is_refused_at_the_limit() -> None:
    """Without a NUL nothing beyond the limit is kept."""
    decoder = FrameDecoder(max_frame_bytes=1000)
    decoder.feed(b"x" * 1000)
    assert decoder.next_message() is None
    decoder.feed(b"x")
    with pytest.raises(ProtocolError, match="longer than 1000 bytes"):
        decoder.next_message()
    assert not decoder.pending


def test_a_broken_decoder_stays_broken() -> None:
    """After an error there is no way back into the stream."""
    decoder = FrameDecoder()
    decoder.feed(b"x\0{}\0")
    for _ in range(2):
        with pytest.raises(ProtocolError, match="not JSON"):
            decoder.next_message()
    decoder.feed(b"{}\0")
    with pytest.raises(ProtocolError, match="not JSON"):
        decoder.next_message()


def test_messages_before_the_broken_one_are_given_out() -> None:
    """An error takes nothing back."""
    assert decode([b'{"a":1}\0{"b":2}\0x\0'])[0] == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    "frame",
    [
        b"[" * (1 << 20),
        b'"' + b'\\"' * (1 << 19),
        b"\\" * (1 << 20),
        b'{"a":[' + b"[]," * 340_000 + b"[]]}",
        b"{" * 500_000 + b"}" * 500_000,
    ],
)
def test_hostile_megabytes_cost_little(frame: bytes) -> None:
    """The work is linear: what is not takes minutes for a megabyte made to be slow.

    The bound is a hundred times what the parser needs, since it shares its processor and, through
    garbage collection, the heap of all tests before it.
    """
    begun = time.thread_time()
    with contextlib.suppress(ProtocolError):
        parse_frame(frame)
    assert time.thread_time() - begun < 10


def test_text_that_utf8_cannot_carry_is_sent_without_it() -> None:
    """A file name in another encoding does not keep a reply from being sent."""
    assert encode_frame({"path": "caf\udce9.yaml"}) == b'{"path":"caf?.yaml"}\0'
