"""What becomes of enforcement where a backend cannot do its work: never an open host by itself."""

from __future__ import annotations

from math import inf

import pytest

from ipsecd.backend.memory import MemoryBackend
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.volatile import Volatile
from ipsecd.config import Boot, Config
from ipsecd.control import Control
from ipsecd.engine import Engine
from ipsecd.errors import BackendFailed, IpsecdError
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family
from ipsecd.model.packets import Packet, Point
from ipsecd.model.values import ALWAYS, Action, Policy, Rule
from ipsecd.sources.dynamic import DynamicRule
from tests.engine.site import HOST, ME, Site

POLICY = Policy("P", (Rule("R", (parse_filter("*=0:1:UDP"),), Action.BLOCK),))
BAN = DynamicRule("ban", (parse_filter("*=0:3:UDP"),), Action.BLOCK, ALWAYS, inf)


class Unable(MemoryBackend):
    """A backend whose kernel takes nothing, or nothing but a block of everything."""

    def __init__(self, *, takes_block: bool = False) -> None:
        super().__init__()
        self.takes_block = takes_block
        self.works = False

    def apply(self, classifier: Classifier, volatile: Volatile) -> None:
        is_block = {origin.store for origin in classifier.origins} == {"boot"}
        if not self.works and not (is_block and self.takes_block):
            raise BackendFailed("the kernel takes nothing", "mend it")
        super().apply(classifier, volatile)


def unable_engine(site: Site, unable: Unable, able: MemoryBackend | None, boot: Boot) -> Engine:
    def make_other(reason: IpsecdError) -> MemoryBackend:
        if able is None:
            raise reason
        able.failures = (reason.message,)
        return able

    config = Config(boot=boot)
    return Engine(config, site.directories, lambda: unable, clock=site.clock, make_other=make_other)


def blocks(backend: MemoryBackend, port: int) -> bool:
    packet = Packet(Point.ARRIVING, Family.IPV4, 0xCB007107, ME, 17, 4000, port)
    return backend.judge(packet, HOST).action is Action.BLOCK


def test_where_a_backend_fails_at_start_the_other_enforces(site: Site) -> None:
    """The policy is in force, and status says why not as was asked for; at boot as well."""
    site.engine.change(put=[POLICY], assign="P")
    for start in (Engine.start, Engine.boot):
        able = MemoryBackend()
        engine = unable_engine(site, Unable(), able, Boot.PERMIT)
        start(engine)
        assert blocks(able, 1)
        assert not blocks(able, 2)
        assert engine.backend is able
        assert engine.backend.failures == ("the kernel takes nothing",)
        engine.close()


@pytest.mark.parametrize("boot", Boot)
def test_where_no_backend_takes_the_policy_the_setting_decides(site: Site, boot: Boot) -> None:
    """The daemon lives, says what failed, refuses to pretend, and enforces when it can again."""
    site.engine.change(put=[POLICY], assign="P")
    unable = Unable(takes_block=True)
    engine = unable_engine(site, unable, Unable(), boot)
    assert not engine.boot()
    engine = unable_engine(site, unable, Unable(), boot)
    engine.start()
    assert engine.held
    assert any("the kernel takes nothing" in text for text in engine.failures)
    assert blocks(unable, 2) == (boot is Boot.BLOCK)
    with pytest.raises(IpsecdError):
        engine.add_dynamic(BAN)
    assert engine.loaded_from == "nothing"
    unable.works = True
    engine.reload({})
    assert blocks(unable, 1)
    assert not blocks(unable, 2)
    assert engine.failures == ()
    engine.close()


def test_what_the_kernel_refused_at_start_is_tried_again(site: Site) -> None:
    """A failure that passes needs nobody: after some seconds the policy is in force."""
    site.engine.change(put=[POLICY], assign="P")
    unable = Unable()
    engine = unable_engine(site, unable, None, Boot.PERMIT)
    engine.start()
    unable.works = True
    engine.follow_senders()
    assert engine.held
    site.clock.now += 10
    engine.follow_senders()
    assert not engine.held
    assert blocks(unable, 1)
    assert engine.failures == ()
    assert engine.loaded_from == "policy"
    engine.add_dynamic(BAN)
    engine.close()


def test_who_asks_while_nothing_is_in_force_is_told(site: Site) -> None:
    """A start is refused, and to assign what is assigned is to try it."""
    site.engine.change(put=[POLICY], assign="P")
    unable = Unable()
    engine = unable_engine(site, unable, None, Boot.PERMIT)
    engine.start()
    control = Control(engine)
    for method in ("Start", "AssignPolicy"):
        with pytest.raises(BackendFailed):
            control.call(method, {"name": "P"}, "uid 0", {}, None)
    unable.works = True
    control.call("AssignPolicy", {"name": "P"}, "uid 0", {}, None)
    assert blocks(unable, 1)
    assert not engine.held
    engine.close()


def test_what_gave_way_judges_no_more(site: Site) -> None:
    """A block of everything until the policy is in force does not stay beside the other backend."""
    site.engine.change(put=[POLICY], assign="P")
    unable, able = Unable(takes_block=True), MemoryBackend()
    engine = unable_engine(site, unable, able, Boot.BLOCK)
    assert engine.boot()
    assert engine.backend is able
    assert unable.observe().digest is None
    engine.close()


def test_where_a_backend_fails_at_start_what_is_in_force_stays(site: Site) -> None:
    """What an earlier daemon left in the kernel is not touched by one that cannot enforce."""
    unable = Unable()
    unable.works = True
    site.engine.change(put=[POLICY], assign="P")
    engine = unable_engine(site, unable, None, Boot.BLOCK)
    engine.start()
    engine.close()
    unable.works = False
    engine = unable_engine(site, unable, None, Boot.BLOCK)
    engine.start()
    assert engine.held
    assert blocks(unable, 1)
    assert not blocks(unable, 2)
    engine.close()
