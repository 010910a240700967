"""Owns varlink frames: bytes to JSON objects and back; must not know sockets, calls or methods.

A frame is one JSON object in UTF-8, ended by a NUL byte (https://varlink.org/Method-Call).

1. Any bytes give messages or one ``ProtocolError``, the same in whatever pieces they are fed.
2. Size and depth are limited before the JSON parser sees a frame.
3. A decoder keeps at most one frame of the permitted size, and the last piece fed.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from typing import Any, NoReturn

MAX_FRAME_BYTES = 1 << 20
MAX_DEPTH = 32

_BRACES_TO_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class ProtocolError(Exception):
    """A client sent something that is no varlink call; its connection cannot be used any more."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class FrameDecoder:
    """Decodes bytes to JSON objects; once it has raised an error it always raises the same one."""

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES, max_depth: int = MAX_DEPTH) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._max_depth = max_depth
        self._buffer = bytearray()
        self._searched = 0
        self._error: ProtocolError | None = None

    @property
    def pending(self) -> bool:
        """Whether there are bytes that are not yet part of a message that was returned."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self._buffer += data

    def next_message(self) -> dict[str, Any] | None:
        """The next whole message, or None until more bytes are fed.

        Raises ``ProtocolError`` at the first frame that is too large, too deep, not UTF-8, not
        JSON, not an object, or that holds a duplicate key or a number JSON does not have.
        """
        if self._error is not None:
            raise self._error
        try:
            return self._next_message()
        except ProtocolError as error:
            self._error = error
            self._buffer.clear()
            raise

    def _next_message(self) -> dict[str, Any] | None:
        end = self._buffer.find(0, self._searched)
        if (len(self._buffer) if end < 0 else end) > self._max_frame_bytes:
            raise ProtocolError(f"the frame is longer than {self._max_frame_bytes} bytes")
        if end < 0:
            self._searched = len(self._buffer)
            return None
        frame = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return parse_frame(frame, self._max_depth)


def parse_frame(frame: bytes, max_depth: int = MAX_DEPTH) -> dict[str, Any]:
    """The JSON object in one frame without its NUL; raises ``ProtocolError``."""
    _check_depth(frame, max_depth)
    if frame.startswith(codecs.BOM_UTF8):
        raise ProtocolError("the frame is not JSON: it begins with a byte order mark (BOM)")
    try:
        message = _DECODER.decode(frame.decode("utf-8"))
        if _SURROGATE.search(frame):
            # Half of a surrogate pair cannot be written to a file, a log or a terminal.
            json.dumps(message, ensure_ascii=False).encode("utf-8")
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise ProtocolError(f"the frame is not UTF-8 text: {error.reason}") from error
    except ValueError as error:
        raise ProtocolError(f"the frame is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise ProtocolError("the frame is not a JSON object")
    return message


def encode_frame(message: dict[str, Any]) -> bytes:
    """The frame of `message` with its NUL.

    Characters that UTF-8 cannot encode (of file names in another encoding) are sent as ``?``.
    """
    return _ENCODER.encode(message).encode("utf-8", "replace") + b"\0"


def _check_depth(frame: bytes, max_depth: int) -> None:
    """Raise ``ProtocolError`` if arrays and objects are nested deeper than `max_depth`.

    It replaces brackets in all of the bytes at once, which is as fast as copying them: a Python
    loop over a megabyte would delay all other clients. A valid frame without its strings consists
    of balanced brackets, and each replacement removes exactly their innermost level.
    """
    unescaped = frame.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside_strings = b"".join(unescaped.split(b'"')[::2])
    brackets = outside_strings.translate(_BRACES_TO_BRACKETS, _NOT_BRACKETS)
    for _ in range(max_depth):
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        raise ProtocolError(
            f"the frame is nested deeper than {max_depth} levels, or its brackets do not match"
        )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return members


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:32]} is too large")
    return number


# The functions of the module make a new decoder and encoder for each call, which takes longer than
# to read a short frame.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_refuse_number, parse_float=_finite
)
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
