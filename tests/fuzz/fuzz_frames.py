"""Fuzz target: any bytes on the socket give messages or the one ``ProtocolError``."""

from __future__ import annotations

from ipsecd.protocol.description import CONTROL, load_interface
from ipsecd.protocol.errors import VarlinkError
from ipsecd.protocol.frames import FrameDecoder, ProtocolError, encode_frame
from ipsecd.protocol.messages import call_of
from tests.fuzz.running import fuzz

SEEDS = (
    b'{"method":"io.ipsecd.control.Status"}\0',
    b'{"method":"io.ipsecd.control.AddDynamic","parameters":{"filters":["0+*"],"action":"block"}}\0',
    b'{"method":"org.varlink.service.GetInfo","more":true}\0{"method":"x","oneway":true}\0',
    b'{"method":"x","parameters":{"a":"\\ud83d\\ude00 \\"[{ \\\\"}}\0',
    b"\0",
    b'{"a":1,"a":2}\0',
    b'{"a":NaN}\0',
    b'{"a":1e999}\0',
    b'{"a":"\\ud800"}\0',
    b'{"a":' + b"[" * 40 + b"]" * 40 + b"}\0",
    b"\xff\xfe{}\0",
    b"x" * 5000,
)


def fuzz_one(data: bytes) -> None:
    """Take `data` as what a client sent, and check every call in it as the daemon does."""
    decoder = FrameDecoder(max_frame_bytes=4096)
    decoder.feed(data)
    control = load_interface(CONTROL)
    try:
        while (message := decoder.next_message()) is not None:
            assert encode_frame(message).count(b"\0") == 1
            call = call_of(message)
            try:
                control.check_call(call.name, call.parameters)
            except VarlinkError:
                continue
    except ProtocolError:
        return


if __name__ == "__main__":
    fuzz(fuzz_one)
