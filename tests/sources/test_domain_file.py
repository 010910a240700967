"""What was taken from a domain, as a file of any content: nothing of it opens what was blocked."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from ipsecd.backend.memory import MemoryBackend
from ipsecd.config import Config, Directories
from ipsecd.config.domain import DomainSettings
from ipsecd.engine import Engine
from ipsecd.errors import IpsecdError
from ipsecd.sources.domain import DomainFile, Taken
from ipsecd.sources.files import Disk
from tests.engine.domain import policy, publish, withdraw
from tests.engine.site import Clock, Site
from tests.sources.test_mutations import QuickDisk, sealed, trees

FILE = "lib/domain/taken"


class Member(Site):
    """A host with a domain, whose engines begin with an empty kernel."""

    def __init__(self, path: Path) -> None:
        # That of the base class starts an engine without a domain.
        self.clock = Clock()
        self.backend = MemoryBackend(self.clock)
        self.directories = Directories(path / "etc", path / "lib", path / "run")
        self.config = Config(domain=DomainSettings("file:///srv/fleet", host="web1"))
        self.file = path / FILE

    def started(self) -> Engine:
        self.backend = MemoryBackend(self.clock)
        engine = Engine(
            self.config, self.directories, lambda: self.backend, QuickDisk(), clock=self.clock
        )
        engine.start()
        return engine


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A host with a local policy that blocks port 1, and one of the domain that blocks port 3."""
    path = tmp_path_factory.mktemp("template")
    member = Member(path)
    engine = member.started()
    engine.change(put=[policy("Local", "*=0:1:UDP")], assign="Local")
    publish(engine, policy("Fleet", "*=0:3:UDP"))
    return path


@pytest.fixture
def member(template: Path, tmp_path: Path) -> Member:
    shutil.copytree(template, tmp_path / "site", symlinks=True)
    return Member(tmp_path / "site")


def mutants(content: bytes) -> Iterator[bytes]:
    for tree in trees(json.loads(content)):
        yield json.dumps(tree).encode()
    yield from (b"", b"\xff", b"[" * 100_000, b'{"a":1,"a":2}', b"NaN", b'"\\ud800"')


def test_any_shape_with_the_right_checksum(member: Member) -> None:
    """The policy of the domain is in force, and a file that cannot be used is named."""
    content = member.file.read_bytes().partition(b"\n")[2]
    last_good = (member.directories.state / "last-good").read_bytes()
    reported = withdrawn = 0
    for mutant in mutants(content):
        member.file.write_bytes(sealed("domain", mutant))
        (member.directories.state / "last-good").write_bytes(last_good)
        engine = member.started()
        told = any(str(member.file) in warning for warning in engine.warnings)
        reported += told
        if engine.domain.stored is None:
            # The one shape that says so: no document, and no digest of one.
            withdrawn += 1
            assert member.blocks(1)
        else:
            assert member.blocks(3)
            assert not member.blocks(1)
        assert not engine.failures
        engine.close()
    assert reported > 200
    assert withdrawn == 0


@pytest.mark.parametrize("what", ["directory", "loop", "fifo", "nowhere", "damaged", "newer"])
def test_things_that_are_no_such_file(member: Member, what: str) -> None:
    """It is said what to do, and the next change of the domain puts a good file there."""
    sealed_file = member.file.read_bytes()
    member.file.unlink()
    match what:
        case "directory":
            (member.file / "inside").mkdir(parents=True)
        case "loop":
            member.file.symlink_to(member.file)
        case "fifo":
            os.mkfifo(member.file)
        case "nowhere":
            member.file.symlink_to("/nowhere/at/all")
        case "damaged":
            member.file.write_bytes(sealed_file[:-1] + b"x")
        case _:
            member.file.write_bytes(sealed_file.replace(b"ipsecd domain 1", b"ipsecd domain 2", 1))
    engine = member.started()
    assert member.blocks(3)
    told = [warning for warning in engine.warnings if str(member.file) in warning]
    assert len(told) == (what != "nowhere")
    assert all("ipsecctl domain trust REPO" in warning for warning in told)
    if what == "directory":
        with pytest.raises(IpsecdError):
            publish(engine, policy("Fleet", "*=0:4:UDP"), 2)
        assert member.blocks(3)
        return
    publish(engine, policy("Fleet", "*=0:4:UDP"), 2)
    assert engine.warnings == ()
    withdraw(engine)
    engine = member.started()
    assert (engine.loaded_from, engine.warnings) == ("policy", ())


def test_its_directory_is_on_disk_before_it_is_acknowledged(tmp_path: Path) -> None:
    """The first time it is made, and a host that loses power then must not lose it."""
    state = tmp_path / "lib"
    state.mkdir()

    class Watched(Disk):
        synced: ClassVar[list[Path]] = []

        def sync_directory(self, path: Path) -> None:
            self.synced.append(path)

    file = DomainFile(state, Watched())
    file.save(Taken())
    assert set(Watched.synced) == {state, state / "domain"}
    Watched.synced.clear()
    file.save(Taken(version=1))
    assert Watched.synced == [state / "domain"]
