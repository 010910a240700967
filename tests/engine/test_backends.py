"""Which backend a start takes, and what happens to all else when another one takes over."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipsecd.backend.base import Backend, Line
from ipsecd.backend.memory import MemoryBackend
from ipsecd.backend.registry import OFFERED
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.volatile import Volatile
from ipsecd.config import Config, Directories
from ipsecd.control import Control
from ipsecd.engine import Engine, enforcement
from ipsecd.engine.backends import Backends
from ipsecd.errors import BackendFailed, InvalidInput, Refused, StoreFailed
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, Policy, Rule
from ipsecd.sources.kept import KeptFiles
from tests.engine.effects import Fate, FatefulDisk

POLICY = Policy("P", (Rule("R", (parse_filter("*=0:80:TCP"),), Action.BLOCK),))


class Named(MemoryBackend):
    """A backend that goes by any name, and has news when somebody writes to a pipe."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def watch_fd(self) -> int:
        return self.reader


class Ready:
    """What is made ready for an exchange."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


class Host:
    """An engine whose backends are exchanged as those of a kernel with nftables are."""

    def __init__(self, path: Path, setting: str = "auto") -> None:
        self.directories = Directories(path / "etc", path / "lib", path / "run")
        self.setting = setting
        self.fate = Fate()
        self.refused = False
        self.ready: Ready | None = None
        self.taken: Ready | None = None
        self.start()

    def start(self) -> None:
        config = Config().with_backend(self.setting)
        kept = KeptFiles(self.directories)
        self.wanted = Backends(self.setting, self.directories, kept).wanted
        self.first = Named("nftables" if self.wanted == "auto" else self.wanted)
        self.engine = Engine(config, self.directories, lambda: self.first, FatefulDisk(self.fate))
        self.engine.start()

    def make_ready(
        self, _: Backend, name: str, _bpffs: Path, held: tuple[Classifier, Volatile], _line: Line
    ) -> Ready | None:
        self.ready = Ready(held[0]) if name == "xdp" else None
        return self.ready

    def exchange(
        self,
        _: Backend,
        name: str,
        _bpffs: Path,
        held: tuple[Classifier, Volatile] | None,
        ready: Ready | None,
    ) -> Backend:
        self.taken = ready
        if self.refused:
            raise BackendFailed("no programs")
        another = Named(name)
        if held:
            another.apply(*held)
        return another

    @property
    def name(self) -> str:
        return self.engine.backend.name


@pytest.fixture(params=["auto"])
def host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Host]:
    found = Host(tmp_path, request.param)
    monkeypatch.setattr(enforcement, "exchange_backend", found.exchange)
    monkeypatch.setattr(enforcement, "make_ready", found.make_ready)
    found.engine.change(put=[POLICY], assign="P")
    yield found
    found.engine.close()


def test_another_backend_holds_the_same_and_is_kept(host: Host) -> None:
    """Also for the next start, for which the settings name none."""
    digest = host.engine.observe().digest
    assert host.engine.choose_backend("xdp")
    assert (host.name, host.engine.observe().digest) == ("xdp", digest)
    host.engine.close()
    host.start()
    assert host.wanted == "xdp"
    assert host.engine.choose_backend("nftables")
    host.engine.close()
    host.start()
    assert host.wanted == "nftables"


@pytest.mark.parametrize("host", ["nftables"], indirect=True)
def test_what_the_settings_name_comes_first(host: Host) -> None:
    """The change holds until the next start, and the caller is told."""
    assert not host.engine.choose_backend("xdp")
    assert host.name == "xdp"
    assert not (host.directories.state / "backend").exists()
    host.engine.close()
    host.start()
    assert host.wanted == "nftables"


def test_a_backend_that_fails_changes_nothing(host: Host) -> None:
    """Neither what enforces nor what the next start takes."""
    host.refused = True
    with pytest.raises(BackendFailed, match="no programs"):
        host.engine.choose_backend("xdp")
    assert host.engine.backend is host.first
    assert not (host.directories.state / "backend").exists()


def test_a_choice_that_cannot_be_kept_is_taken_back(host: Host) -> None:
    """What the next start takes and what enforces now are the same."""
    (host.directories.state / "backend").mkdir()
    with pytest.raises(StoreFailed):
        host.engine.choose_backend("xdp")
    assert host.name == "nftables"


def test_what_is_made_ready_holds_what_is_in_force_and_is_used(host: Host) -> None:
    """It is let go of if there is no exchange, and none is made where nothing changes."""
    host.engine.choose_backend("xdp")
    assert host.ready is not None
    assert host.ready is host.taken
    assert host.ready.classifier is host.engine.classifier
    assert not host.ready.is_closed
    host.ready = None
    host.engine.choose_backend("xdp")
    assert host.ready is None
    host.engine.choose_backend("nftables")
    host.refused = True
    with pytest.raises(BackendFailed, match="no programs"):
        host.engine.choose_backend("xdp")
    assert host.taken is not None
    assert host.taken.is_closed


def test_news_of_the_new_backend_are_heard_by_the_same_descriptor(host: Host) -> None:
    """The service waits for it in another thread while the backend is exchanged."""
    descriptor = host.engine.watch_fd()

    def heard() -> bool:
        return bool(select.select([descriptor], [], [], 0)[0])

    host.engine.choose_backend("xdp")
    assert not heard()
    os.write(host.first.writer, b"x")
    assert not heard()
    second = host.engine.backend
    assert isinstance(second, Named)
    os.write(second.writer, b"x")
    assert heard()
    assert host.engine.watch_fd() == descriptor


def test_without_anything_in_force_the_next_state_is_given_to_the_new_one(host: Host) -> None:
    """A stopped engine changes its backend too."""
    host.engine.stop()
    host.engine.choose_backend("xdp")
    assert host.ready is None
    host.engine.start()
    assert (host.name, host.engine.observe().digest) == ("xdp", host.engine.classifier.digest)


def test_a_file_that_names_no_backend_is_told_and_not_used(host: Host) -> None:
    """The default is taken in its place."""
    KeptFiles(host.directories).save_backend("memory")
    kept = KeptFiles(host.directories)
    assert kept.backend(OFFERED) is None
    assert "does not name a backend" in "".join(kept.warnings)


def test_the_method_takes_the_names_that_can_be_chosen(host: Host) -> None:
    """And says what was, what is, and whether it stays."""
    control = Control(host.engine)
    assert control.call("SetBackend", {"name": "xdp"}, "test", {}, None) == {
        "name": "xdp",
        "before": "nftables",
        "kept": True,
        "setting": "auto",
    }
    for name in ("memory", "programs", "auto", ""):
        with pytest.raises(InvalidInput, match="there are: nftables, xdp"):
            control.call("SetBackend", {"name": name}, "test", {}, None)


def test_a_host_without_nftables_has_nothing_to_exchange(tmp_path: Path) -> None:
    """What is in the place of nftables goes on."""
    directories = Directories(tmp_path / "etc", tmp_path / "lib", tmp_path / "run")
    engine = Engine(Config(), directories, MemoryBackend)
    engine.start()
    with pytest.raises(Refused, match="cannot be exchanged"):
        engine.choose_backend("xdp")
    assert engine.backend.name == "memory"
