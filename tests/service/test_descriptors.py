"""Tests of passed file descriptors: what is read, what is refused, and that none is ever leaked."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from ipsecd.errors import LimitExceeded, Refused
from ipsecd.service.descriptors import MAX_DOCUMENT_BYTES, Descriptors, read_document
from tests.descriptors import open_descriptors
from tests.service.harness import Running, running, wait_until

APPLY: dict[str, Any] = {"assign": False, "dry_run": False}


def settled(service: Running, before: int) -> None:
    """Fail if more descriptors than `before` stay open once a new client has been served."""
    with service.client() as client:
        client.call("Stats")
    wait_until(lambda: open_descriptors() <= before, "all descriptors closed")


def test_a_document_comes_in_a_file() -> None:
    """ApplyPolicy reads the passed file from its beginning, and closes it."""
    with running() as service:
        before = open_descriptors()
        memfd = os.memfd_create("policy")
        os.write(memfd, b"policy: x\n" * 1000)
        with service.client() as client:
            reply = client.call("ApplyPolicy", pass_fds=(memfd,), **APPLY)
        assert "error" not in reply
        assert service.engine.documents == [b"policy: x\n" * 1000]
        os.close(memfd)
        settled(service, before)


def test_a_document_comes_as_text() -> None:
    """ApplyPolicy takes the text in the call as well, and the engine sees no difference."""
    with running() as service, service.client() as client:
        client.call("ApplyPolicy", document="policy: é\n", **APPLY)
        assert service.engine.documents == ["policy: é\n".encode()]


def test_a_document_comes_one_way_only() -> None:
    """Both a text and a file, or neither, is an invalid parameter."""
    with running() as service:
        before = open_descriptors()
        with Path(__file__).open("rb") as file, service.client() as client:
            both = client.call("ApplyPolicy", pass_fds=(file.fileno(),), document="x", **APPLY)
            neither = client.call("ApplyPolicy", **APPLY)
        for reply in (both, neither):
            assert reply["error"] == "org.varlink.service.InvalidParameter"
            assert reply["parameters"] == {"parameter": "document"}
        assert service.engine.calls == []
        settled(service, before)


def test_pipes_are_refused_at_once() -> None:
    """A pipe that never ends is refused and not waited for."""
    with running() as service:
        before = open_descriptors()
        reading, writing = os.pipe()
        with service.client(5) as client:
            reply = client.call("ApplyPolicy", pass_fds=(reading,), **APPLY)
        assert reply["error"] == "io.ipsecd.control.Refused"
        assert "regular file" in reply["parameters"]["message"]
        os.close(reading)
        os.close(writing)
        settled(service, before)


def test_only_files_are_read() -> None:
    """Sockets, devices, directories and paths that were not opened are refused like pipes."""
    with running() as service:
        before = open_descriptors()
        near, far = socket.socketpair()
        others = (
            near.detach(),
            far.detach(),
            os.open("/dev/zero", os.O_RDONLY),
            os.open("/", os.O_RDONLY | os.O_DIRECTORY),
            os.open(__file__, os.O_PATH),
        )
        with service.client() as client:
            for descriptor in others:
                reply = client.call("ApplyPolicy", pass_fds=(descriptor,), **APPLY)
                assert reply["error"] == "io.ipsecd.control.Refused"
                os.close(descriptor)
        assert service.engine.calls == []
        settled(service, before)


def test_a_file_that_is_open_for_writing_only_is_refused(tmp_path: Path) -> None:
    """The error says that the file must be open for reading."""
    descriptor = os.open(tmp_path / "x", os.O_WRONLY | os.O_CREAT)
    try:
        with pytest.raises(Refused, match="cannot be read"):
            read_document(descriptor)
    finally:
        os.close(descriptor)


def test_documents_have_a_greatest_size() -> None:
    """One byte more than the limit is refused; the limit itself is read."""
    memfd = os.memfd_create("policy")
    try:
        os.truncate(memfd, MAX_DOCUMENT_BYTES)
        assert len(read_document(memfd)) == MAX_DOCUMENT_BYTES
        os.truncate(memfd, MAX_DOCUMENT_BYTES + 1)
        with pytest.raises(LimitExceeded):
            read_document(memfd)
    finally:
        os.close(memfd)


@pytest.mark.parametrize("count", [1, 2, 10, 200])
def test_unwanted_descriptors_are_closed(count: int) -> None:
    """However many files come with a call that wants none, none stays open."""
    with running() as service:
        before = open_descriptors()
        with service.client() as client:
            devices = tuple(os.open("/dev/null", os.O_RDONLY) for _ in range(count))
            for _ in range(20):
                assert "parameters" in client.call("Stats", pass_fds=devices)
            for device in devices:
                os.close(device)
            wait_until(lambda: open_descriptors() <= before + 2, "descriptors of calls closed")
        settled(service, before)


def test_descriptors_of_broken_frames_are_closed() -> None:
    """Files that come with junk, or with half a call, go when the connection goes."""
    with running() as service:
        before = open_descriptors()
        for junk in (b"junk\0", b'{"method":', b"\0\0\0"):
            device = os.open("/dev/null", os.O_RDONLY)
            with service.client() as client:
                socket.send_fds(client.sock, [junk], [device])
            os.close(device)
        settled(service, before)


def test_an_earlier_calls_file_is_not_the_next_calls_document() -> None:
    """A file that came with one call is gone when the next call asks for a document."""
    with running() as service, service.client() as client:
        memfd = os.memfd_create("policy")
        os.write(memfd, b"policy: x\n")
        client.call("Stats", pass_fds=(memfd,))
        os.close(memfd)
        reply = client.call("ApplyPolicy", **APPLY)
        assert reply["error"] == "org.varlink.service.InvalidParameter"


def test_only_one_descriptor_is_held() -> None:
    """The first of several is kept, the others are closed, and taking it empties the hand."""
    first, second = os.pipe()
    held = Descriptors()
    held.add([first, second])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(second)
    assert held.take() == first
    assert held.take() is None
    os.close(first)


def test_each_call_gets_its_own_descriptor() -> None:
    """Calls sent without waiting, every other with a file, are given the content of theirs."""
    with running() as service, service.client() as client:
        for n in range(10):
            memfd = os.memfd_create("policy")
            os.write(memfd, b"policy: %d\n" % n)
            client.send("Stats")
            client.send("ApplyPolicy", pass_fds=(memfd,), **APPLY)
            os.close(memfd)
        for _ in range(20):
            reply = client.receive()
            assert reply is not None
            assert "error" not in reply
        documents = [document for document in service.engine.documents if document is not None]
        assert documents == [b"policy: %d\n" % n for n in range(10)]


TOGETHER: dict[str, Any] = {
    "put": [],
    "delete": [],
    "unassign": False,
    "put_rules": [],
    "remove_rules": [],
    "rest": True,
}


def together(service: Running, content: bytes | None, **more: Any) -> dict[str, Any]:
    """The reply to ``ChangeTogether`` with a file that has the rest of its parameters."""
    memfd = os.memfd_create("rest")
    os.write(memfd, content or b"")
    passed = () if content is None else (memfd,)
    with service.client() as client:
        reply: dict[str, Any] = client.call("ChangeTogether", pass_fds=passed, **TOGETHER, **more)
    os.close(memfd)
    return reply


def test_parameters_that_are_too_long_come_in_a_file() -> None:
    """They are as those of the call, and take the place of these."""
    with running() as service:
        before = open_descriptors()
        put = [{"name": "é", "document": "x" * (2 << 20)}]
        content = json.dumps({"put": put, "shared_filters": "s"}).encode()
        assert "error" not in together(service, content, assign="é")
        method, given = service.engine.calls[-1][:2]
        assert method == "ChangeTogether"
        assert (given["put"], given["shared_filters"], given["assign"]) == (put, "s", "é")
        settled(service, before)


@pytest.mark.parametrize(
    "content",
    [
        None, b"", b"[]", b"{", b'{"put": 3}', b'{"nonsense": []}', b'{"put": [], "put": []}',
        b"\xff", b'{"put": [{"name": "x"}]}', b"[" * 1000, b'{"delete": ["\\ud800"]}',
    ],
)  # fmt: skip
def test_the_rest_is_checked_as_the_call(content: bytes | None) -> None:
    """What is no parameter, or of another type, changes nothing and leaves nothing open."""
    with running() as service:
        before = open_descriptors()
        assert together(service, content)["error"] == "org.varlink.service.InvalidParameter"
        assert service.engine.calls == []
        settled(service, before)
