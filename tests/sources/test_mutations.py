"""Files of any content, their checksums right: the engine starts with all or with less, never ends.

Each file that the daemon keeps is changed at every JSON node, cut, sealed anew and given to an
engine: what was blocked stays blocked, or it is said why not.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ipsecd.backend.memory import MemoryBackend
from ipsecd.config import Boot, Config, Directories
from ipsecd.engine import Engine
from ipsecd.errors import IpsecdError
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Network
from ipsecd.model.inventory import Container, Inventory
from ipsecd.model.packets import Packet, Point
from ipsecd.model.values import Action, Policy, Rule
from ipsecd.sources.files import Disk
from ipsecd.sources.steps import JOURNAL, Step, journal_of
from tests.engine.site import HOST, ME

PEER = Network(Family.IPV4, 0xCB007107, 32)
OTHERS: tuple[Any, ...] = (None, True, -1, 5, 1e300, "x", "", "/../x", [], [[]], {}, {"x": 1})
FILES = {
    "last-good": "lib/last-good",
    "names": "lib/names",
    "containers": "run/containers",
    "policies": "lib/policies",
    "change": f"etc/{JOURNAL}",
}


class QuickDisk(Disk):
    """Waits for nothing: nobody pulls the plug here."""

    def write(self, path: Path, content: bytes, like: Path | None = None) -> None:
        del like
        path.write_bytes(content)

    def sync_directory(self, path: Path) -> None:
        del path


class Broken:
    """A site with all files in place, and a policy file that cannot be used if so wished."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.backend = MemoryBackend()

    def engine(self, boot: Boot = Boot.PERMIT) -> Engine:
        directories = Directories(self.path / "etc", self.path / "lib", self.path / "run")
        self.backend = MemoryBackend()
        protected = (parse_filter("192.0.2.0/24+0:22:TCP"),)
        config = Config(boot=boot, protected_filters=protected)
        return Engine(config, directories, lambda: self.backend, QuickDisk())

    def blocks(self, port: int) -> bool:
        packet = Packet(Point.ARRIVING, Family.IPV4, PEER.address, ME, 17, 4000, port)
        return self.backend.judge(packet, HOST).action is Action.BLOCK

    def spoil_policy(self) -> None:
        for file in (self.path / "etc/policies").iterdir():
            file.write_text("nonsense")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a daemon leaves on disk that was killed in the middle of a change."""
    path = tmp_path_factory.mktemp("template")
    engine = Broken(path).engine()
    engine.start()
    texts = ("*=0:1:UDP", "worm.example=0:2:UDP")
    policy = Policy("P", (Rule("R", tuple(map(parse_filter, texts)), Action.BLOCK),))
    again = Policy(
        "P", (*policy.rules, Rule("Q", (parse_filter("0=192.0.2.1:3-9:UDP"),), Action.PERMIT))
    )
    engine.change(put=[again], assign="P", names={"worm.example": (PEER,)})
    labels = frozenset({("app", "web")})
    web = Container("1" * 64, "web", labels, {"front": (PEER,)})
    engine.set_inventory("/run/docker.sock", Inventory((web,), {"front": (PEER,)}))
    (path / "etc" / JOURNAL).write_bytes(
        journal_of([Step("policies/q.yaml", text="policy: Q\nrules: []\n")])
    )
    return path


@pytest.fixture
def site(template: Path, tmp_path: Path) -> Broken:
    shutil.copytree(template, tmp_path / "site", symlinks=True)
    return Broken(tmp_path / "site")


def sealed(kind: str, content: bytes, version: int = 1) -> bytes:
    checksum = hashlib.sha256(content).hexdigest()
    return f"ipsecd {kind} {version} {checksum}\n".encode() + content


def content_of(site: Broken, kind: str) -> bytes:
    return (site.path / FILES[kind]).read_bytes().partition(b"\n")[2]


def trees(node: Any) -> Iterator[Any]:
    """`node` with each of its nodes in turn replaced, left out, or given twice."""
    yield from OTHERS
    if isinstance(node, dict):
        for key, value in node.items():
            yield {name: child for name, child in node.items() if name != key}
            yield {**node, "unheard-of": value}
            yield from ({**node, key: changed} for changed in trees(value))
            yield {**{name: child for name, child in node.items() if name != key}, "": value}
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield node[:index] + node[index + 1 :]
            yield [*node, value]
            yield from ([*node[:index], changed, *node[index + 1 :]] for changed in trees(value))
    elif isinstance(node, int | str):
        yield node * 2
        yield [node]


def mutants(kind: str, content: bytes) -> Iterator[bytes]:
    """All that the content of a file of this kind may be instead."""
    first, newline, following = content.partition(b"\n")
    for tree in trees(json.loads(first)):
        yield json.dumps(tree).encode() + newline + following
    if kind == "last-good":
        header, _, body = following.partition(b"\n")
        for tree in trees(json.loads(header)):
            yield first + b"\n" + json.dumps(tree).encode() + b"\n" + body
        yield from (content[:-1], content + b"x", first, first + b"\n")
        yield first + b"\n" + header + b"\n" + bytes(reversed(body))
    yield from (b"", b"\xff", b"[" * 100_000, b'{"a":1,"a":2}', b"NaN", b'"\\ud800"')


def check(site: Broken, start: Callable[[Engine], object], boot: Boot = Boot.PERMIT) -> Engine:
    """Start an engine; what was blocked is blocked, or everything is, or it is said why not."""
    engine = site.engine(boot)
    start(engine)
    assert site.blocks(1) or engine.failures
    assert all("\n  hint: " in warning for warning in engine.warnings)
    if boot is Boot.BLOCK:
        assert site.blocks(1)
    engine.close()
    return engine


@pytest.mark.parametrize("kind", FILES)
def test_any_shape_with_the_right_checksum(site: Broken, kind: str) -> None:
    """The assigned policy is in force whatever the other files hold, and nothing is raised."""
    original = content_of(site, kind)
    reported = 0
    assigned = (site.path / "etc/assigned").readlink()
    for number, mutant in enumerate(mutants(kind, original)):
        (site.path / FILES[kind]).write_bytes(sealed(kind, mutant))
        engine = check(site, Engine.start if number % 3 else Engine.boot)
        reported += bool(engine.warnings or engine.failures)
        (site.path / "etc/journal.broken").unlink(missing_ok=True)
        (site.path / "etc/assigned").unlink()
        (site.path / "etc/assigned").symlink_to(assigned)
    assert reported > 15


def test_a_last_good_policy_of_any_shape_is_all_there_is(site: Broken) -> None:
    """With the assigned file broken too, it is the last good one, or what the setting says."""
    original = content_of(site, "last-good")
    (site.path / "etc" / JOURNAL).unlink()
    site.spoil_policy()
    good = bad = 0
    for mutant in mutants("last-good", original):
        (site.path / FILES["last-good"]).write_bytes(sealed("last-good", mutant))
        engine = check(site, Engine.start, Boot.BLOCK)
        assert engine.failures
        assert engine.held == (engine.loaded_from == "nothing")
        assert bool(engine.warnings) == engine.held
        good, bad = good + (not engine.held), bad + engine.held
    assert bad > 100 > good


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda kind, content: sealed(kind, content, 2), "another version"),
        (lambda kind, content: sealed(kind, content, 999_999_999), "another version"),
        (lambda _, content: sealed("other", content), "it holds 'other'"),
        (lambda kind, content: sealed(kind, content)[:-1], "damaged"),
        (lambda _kind, _content: b"", "header"),
        (lambda _kind, _content: b"\0" * 5000, "header"),
        (lambda _kind, _content: b"ipsecd ", "header"),
    ],
)
def test_files_of_another_version_are_refused_by_name(
    site: Broken, kind: str, change: Callable[[str, bytes], bytes], reason: str
) -> None:
    """One line says which file, why, and what to do; the policy is in force all the same."""
    file = site.path / FILES[kind]
    content = content_of(site, kind)
    (site.path / "etc" / JOURNAL).unlink()
    file.write_bytes(change(kind, content))
    engine = check(site, Engine.boot)
    # The names of the assigned policy are wanting then; the last good one has them.
    assert bool(engine.failures) == (kind == "names")
    (warning,) = engine.warnings
    assert str(file) in warning
    assert reason in warning
    engine = check(site, Engine.start)
    assert site.blocks(1)
    assert "Q" not in engine.loaded.policies


@pytest.mark.parametrize("kind", FILES)
def test_files_without_a_version_are_read(site: Broken, kind: str) -> None:
    """Those were written before there were versions."""
    content = content_of(site, kind)
    if kind == "change":
        content = json.dumps([["policies/q.yaml", "policy: Q\nrules: []\n", None]]).encode()
    elif kind == "last-good":
        (site.path / "etc" / JOURNAL).unlink()
        site.spoil_policy()
    checksum = hashlib.sha256(content).hexdigest().encode()
    (site.path / FILES[kind]).write_bytes(checksum + b"\n" + content)
    engine = check(site, Engine.start)
    assert site.blocks(1)
    assert engine.warnings == ()
    assert engine.names == {"worm.example": (PEER,)}
    assert engine.inventory.containers
    assert ("Q" in engine.loaded.policies) == (kind != "last-good")


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("what", ["directory", "loop", "fifo", "nowhere"])
def test_things_that_are_no_files(site: Broken, kind: str, what: str) -> None:
    """A thing of another sort in the place of a file is like a file that cannot be used."""
    file = site.path / FILES[kind]
    file.unlink()
    match what:
        case "directory":
            (file / "inside").mkdir(parents=True)
        case "loop":
            file.symlink_to(file)
        case "fifo":
            os.mkfifo(file)
        case _:
            file.symlink_to("/nowhere/at/all")
    engine = check(site, Engine.start)
    assert site.blocks(1)
    # The names of the assigned policy are wanting then; the last good one has them.
    assert bool(engine.failures) == (kind == "names")


def test_what_is_wrong_with_a_file_is_told_until_it_is_written_again(site: Broken) -> None:
    """A warning ends when the next success has replaced the file."""
    (site.path / "lib/names").write_bytes(b"x")
    (site.path / "run/containers").write_bytes(b"x")
    engine = check(site, Engine.start)
    assert len(engine.warnings) == 2
    engine = site.engine()
    engine.start()
    engine.reload({"worm.example": (PEER,)})
    engine.set_inventory("/run/docker.sock", Inventory())
    assert engine.warnings == ()
    assert check(site, Engine.start).warnings == ()


def test_a_change_that_cannot_be_finished_is_told_until_somebody_looks(site: Broken) -> None:
    """The journal is set aside, where restarts and changes leave it, and told of."""
    (site.path / "etc" / JOURNAL).write_bytes(sealed("change", b"[]", 7))
    for _ in range(2):
        engine = check(site, Engine.start)
        assert "journal.broken" in engine.warnings[0]
    with pytest.raises(IpsecdError):
        site.engine().stored("Q")
    (site.path / "etc/journal.broken").unlink()
    assert check(site, Engine.start).warnings == ()


def test_a_reason_is_no_longer_than_a_line_or_two(site: Broken) -> None:
    """It may quote what is wrong, and that may be megabytes."""
    names = json.dumps({"x" * 1_000_000: []}).encode()
    (site.path / FILES["names"]).write_bytes(sealed("names", names))
    assert all(len(warning) < 1000 for warning in check(site, Engine.start).warnings)
