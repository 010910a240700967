"""An error at every effect of every kind of change: all of it has happened, or nothing."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ipsecd.backend.memory import MemoryBackend
from ipsecd.config import Config, Directories
from ipsecd.engine import Engine
from ipsecd.errors import BackendFailed, StoreFailed
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Network
from ipsecd.model.inventory import Container, Inventory
from ipsecd.model.values import Action, Policy, Rule
from ipsecd.sources.dynamic import DynamicRule
from tests.engine.effects import Fate, FatefulBackend, FatefulDisk

WEB = "a" * 64
OLD, NEW = (Network(Family.IPV4, 0x0A580002 + n, 32) for n in (0, 1))


def rule(name: str, text: str) -> DynamicRule:
    return DynamicRule(name, (parse_filter(text),), Action.BLOCK)


def policy(port: int) -> Policy:
    filters = (parse_filter(f"h.example=0:{port}:UDP"), parse_filter("container:web=*:53:UDP"))
    return Policy("P", (Rule("R", filters, Action.BLOCK),))


def inventory(*addresses: Network) -> Inventory:
    return Inventory((Container(WEB, "web", networks={"front": addresses}),))


@dataclass
class Tried:
    """One engine in the state that every change begins from, whose effects can fail."""

    path: Path

    def __post_init__(self) -> None:
        self.fate = Fate()
        self.backend = FatefulBackend(self.fate)
        self.engine = Engine(
            Config(),
            Directories(self.path / "etc", self.path / "lib", self.path / "run"),
            lambda: self.backend,
            FatefulDisk(self.fate),
        )
        self.engine.start()
        self.engine.set_inventory("podman", inventory(OLD))
        self.engine.change(put=[policy(1)], assign="P", names={"h.example": (OLD,)})
        self.engine.add_dynamic(rule("ban", "*=0:2:UDP"))
        self.engine.add_dynamic(rule("selecting", "container:web=*:54:UDP"))

    @property
    def file(self) -> Path:
        return self.path / "etc/policies/p.yaml"

    def all_of_it(self) -> tuple[object, ...]:
        """What is stored, known and in force, as the engine, the disk and the kernel have it."""
        engine = self.engine
        live = {
            (t, k, until)
            for t, entries in self.backend._live.items()
            for k, until in entries.deadlines.items()
        }
        return (
            sorted(engine.loaded.policies.items()),
            engine.loaded.assigned,
            dict(engine.names),
            dict(engine.lists),
            dict(engine.kept_lists.store.lists),
            engine.classifier.digest,
            engine.observe().digest,
            [dynamic.name for dynamic in engine.dynamic],
            set(engine.volatile.entries()),
            live,
            engine.inventory,
            engine.in_force(),
            self._files(),
            Engine(engine.config, Directories(self.path / "etc", self.path / "lib")).check(),
        )

    def _files(self) -> dict[str, bytes]:
        """What people keep; what an interrupted write leaves over is swept away later."""
        files = (file for file in (self.path / "etc").rglob("*") if file.suffix != ".tmp")
        return {file.name: file.read_bytes() for file in files if file.is_file()}


def edited(tried: Tried) -> None:
    tried.file.write_text(tried.file.read_text().replace(":1:", ":7:"))


def edited_with_a_list(tried: Tried) -> None:
    """The policy names a list, which comes with it."""
    edited(tried)
    (tried.path / "etc/lists").mkdir(exist_ok=True)
    (tried.path / "etc/lists/drop").write_text("203.0.113.7\n")
    text = re.sub(r"( *- )(h\.example)", r"\1'@drop=0'\n\1\2", tried.file.read_text())
    tried.file.write_text(text)


def nothing(_: Tried) -> None:
    """Prepare nothing."""


KINDS: dict[str, tuple[Callable[[Tried], object], Callable[[Tried], object]]] = {
    "change": (
        nothing,
        lambda tried: tried.engine.change(put=[policy(3)], names={"h.example": (NEW,)}),
    ),
    "unassign": (nothing, lambda tried: tried.engine.change(assign=None)),
    "try as audits": (
        nothing,
        lambda tried: tried.engine.change(put=[policy(1).with_audit(audit=True)]),
    ),
    "reload": (edited, lambda tried: tried.engine.reload({"h.example": (NEW,)})),
    "reload with a list": (
        edited_with_a_list,
        lambda tried: tried.engine.reload({"h.example": (NEW,)}),
    ),
    "block": (nothing, lambda tried: tried.engine.add_dynamic(rule("more", "*=0:4:UDP"))),
    "block anew": (nothing, lambda tried: tried.engine.add_dynamic(rule("ban", "*=0:5:UDP"))),
    "unblock": (
        nothing,
        lambda tried: tried.engine.remove_dynamic(tried.engine.dynamic.select("ban")),
    ),
    "flush": (nothing, lambda tried: tried.engine.flush()),
    "news": (nothing, lambda tried: tried.engine.set_inventory("podman", inventory(NEW))),
    "announcement": (nothing, lambda tried: tried.engine.announce(WEB, (NEW,))),
    "news without a policy": (
        lambda tried: tried.engine.change(assign=None),
        lambda tried: tried.engine.set_inventory("podman", inventory(NEW)),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_at_any_effect_leaves_all_as_it_was(tmp_path: Path, kind: str) -> None:
    """In the engine, on disk and in the kernel; and the same change succeeds after it."""
    prepare, change = KINDS[kind]
    refused = number = 0
    while True:
        number += 1
        tried = Tried(tmp_path / str(number))
        prepare(tried)
        before = tried.all_of_it()
        tried.fate.set(number, OSError(errno.EIO, os.strerror(errno.EIO), str(tried.path)))
        try:
            change(tried)
        except (StoreFailed, BackendFailed):
            refused += 1
            assert tried.all_of_it() == before
            tried.fate.set(0, OSError())
            change(tried)
        assert tried.all_of_it() != before
        if tried.fate.count < number and tried.fate.at:
            break
    assert refused


def test_what_the_kernel_holds_is_what_the_engine_says(tmp_path: Path) -> None:
    """After all kinds of changes, one after another."""
    tried = Tried(tmp_path)
    for kind in ("change", "block", "block anew", "news", "announcement", "unblock", "unassign"):
        prepare, change = KINDS[kind]
        prepare(tried)
        change(tried)
        fresh = MemoryBackend()
        fresh.apply(tried.engine.classifier, tried.engine.volatile)
        assert fresh.observe() == tried.backend.observe()
        assert {t: live.deadlines for t, live in fresh._live.items()} == {
            t: live.deadlines for t, live in tried.backend._live.items()
        }
