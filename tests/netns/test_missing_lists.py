"""A long list that a dynamic rule is the first to name is loaded before that, in short steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import inf
from pathlib import Path

import pytest

from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables.wire import Message, NftSocket
from ipsecd.config import Config, Directories
from ipsecd.engine import Engine
from ipsecd.errors import Refused
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, Filter
from ipsecd.sources.dynamic import DynamicRule
from tests.netns import site
from tests.netns.site import BPFFS
from tests.netns.test_lists import hosts, sets

pytestmark = pytest.mark.netns

SHORT = 2 * (1 << 16) + 4096
"""The most bytes of one step: two messages of elements, and little beside them."""


class Host:
    """An engine with a long list, and the bytes of elements of lists in each transaction."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.sizes: list[int] = []
        engine.start()
        engine.list_changes.change({"drop": hosts(10 << 24, 50_000)})

    def note(self, messages: Sequence[Message]) -> None:
        of_lists = [m for m in messages if m.what.startswith("elements of set list_")]
        added = [m for m in of_lists if m.kind == nft.NEWSETELEM]
        self.sizes.append(sum(len(message.attributes) for message in added))

    def block(self, change: Callable[[], None], *filters: Filter) -> None:
        self.sizes.clear()
        self.engine.list_changes.load_and(filters, change)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    site.needs_isolation()
    directories = Directories(tmp_path / "etc", tmp_path / "lib", tmp_path / "run", BPFFS)
    engine = Engine(Config(backend="nftables"), directories)
    made = Host(engine)
    commit = NftSocket.commit

    def noted(self: NftSocket, messages: Sequence[Message], generation: int | None = None) -> None:
        commit(self, messages, generation)
        made.note(messages)

    monkeypatch.setattr(NftSocket, "commit", noted)
    yield made
    engine.stop()
    engine.close()


def rule(name: str, text: str) -> DynamicRule:
    return DynamicRule(name, (parse_filter(text),), Action.BLOCK, deadline=inf, created=0.0, by="")


def test_the_list_is_loaded_in_short_steps(host: Host) -> None:
    """All of it, once, and before the rule; the next rule loads nothing."""
    first, second = rule("a", "@drop=0"), rule("b", "@drop=0:80:TCP")
    host.block(lambda: host.engine.add_dynamic(first), *first.filters)
    assert sum(host.sizes) >= 50_000 * 16
    assert max(host.sizes) < SHORT
    ((_, elements),) = sets().items()
    assert len(elements) == 50_000
    assert host.engine.observe().drift == ()
    host.block(lambda: host.engine.add_dynamic(second), *second.filters)
    assert sum(host.sizes) == 0


def test_a_list_that_a_policy_looks_into_is_loaded_for_a_rule_beside_it(host: Host) -> None:
    """What is in force of lists already stays as it is."""
    host.engine.list_changes.change({"other": hosts(11 << 24, 30_000)})
    first, second = rule("a", "@drop=0"), rule("b", "@other=0")
    for each in (first, second):
        added = each
        host.block(lambda: host.engine.add_dynamic(added), *each.filters)  # noqa: B023
        assert max(host.sizes) < SHORT
    assert sorted(map(len, sets().values())) == [30_000, 50_000]
    assert host.engine.observe().drift == ()


def test_nothing_is_left_of_it_if_there_is_no_rule(host: Host) -> None:
    """Whether the rule is refused with an error, or left out."""
    wanted = parse_filter("@drop=0")

    def refuse() -> None:
        raise Refused("no", "ask again")

    with pytest.raises(Refused):
        host.block(refuse, wanted)
    assert sum(host.sizes) > 0
    assert not sets()
    host.block(lambda: None, wanted)
    assert sum(host.sizes) > 0
    assert not sets()
    assert host.engine.observe().drift == ()
