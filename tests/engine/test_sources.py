"""Which source's policy is in force: the first that has one, at start and at every change."""

from __future__ import annotations

import pytest

from ipsecd.engine import Engine
from ipsecd.engine.sources import Offer, Situation, SourceName
from ipsecd.errors import IpsecdError, StoreFailed
from ipsecd.language.documents import format_policy
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, Policy, Rule
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.reading import StoredPolicy
from tests.engine.site import Site


def policy(name: str, text: str) -> Policy:
    return Policy(name, (Rule("R", (parse_filter(text),), Action.BLOCK),))


LOCAL, OTHER, CENTRAL = policy("L", "*=0:1:UDP"), policy("O", "*=0:2:UDP"), policy("C", "*=0:3:UDP")


class Central:
    """A source in front of the static store, as a domain is."""

    name = SourceName.DOMAIN

    def __init__(self) -> None:
        self.policy: Policy | None = CENTRAL
        self.error: IpsecdError | None = None

    def read(self, _: Situation) -> Offer | None:
        if self.error:
            raise self.error
        if self.policy is None:
            return None
        return Offer(StoredPolicy(self.policy, "central", format_policy(self.policy)))


@pytest.fixture
def central() -> Central:
    return Central()


@pytest.fixture
def engine(site: Site, central: Central) -> Engine:
    """With a policy assigned on this host, and another that comes before it."""
    site.engine.change(put=[LOCAL], assign="L")
    return started(site, central)


def started(site: Site, central: Central) -> Engine:
    site.engine = Engine(
        site.config,
        site.directories,
        lambda: site.backend,
        clock=site.clock,
        earlier_sources=[central],
    )
    site.engine.start()
    return site.engine


def blocked(site: Site) -> set[int]:
    return {port for port in range(1, 5) if site.blocks(port)}


def test_the_first_source_replaces_the_others_as_a_whole(site: Site, engine: Engine) -> None:
    """Nothing of the policy that is assigned on this host is in force beside it; bans are."""
    assert engine.loaded_from == "domain"
    assert blocked(site) == {3}
    engine.add_dynamic(DynamicRule("ban", (parse_filter("*=0:4:UDP"),), Action.BLOCK))
    assert blocked(site) == {3, 4}
    assert {one.origin.rule for one in engine.in_force()} == {"R", "ban"}


def test_what_is_changed_on_this_host_meanwhile_is_stored_without_effect(
    site: Site, engine: Engine, central: Central
) -> None:
    """It is in force as soon as the source before it has none."""
    engine.change(put=[OTHER], assign="O")
    assert engine.reload({}) == (False, ())
    assert blocked(site) == {3}
    assert engine.loaded.assigned == "O"
    central.policy = None
    engine.reload({})
    assert engine.loaded_from == "policy"
    assert blocked(site) == {2}
    central.policy = CENTRAL
    engine.change(put=[LOCAL])
    assert engine.loaded_from == "domain"
    assert blocked(site) == {3}


def test_a_broken_file_on_this_host_does_not_end_the_first_source(
    site: Site, engine: Engine, central: Central
) -> None:
    """What is not in force cannot fail to be."""
    (site.directories.config / "policies/l.yaml").write_text("nonsense")
    engine.reload({})
    assert blocked(site) == {3}
    assert started(site, central).loaded_from == "domain"
    assert blocked(site) == {3}


def test_a_first_source_that_cannot_say_leaves_what_comes_after(
    site: Site, engine: Engine, central: Central
) -> None:
    """At a start the next one is in force, with the reason; a reload is refused."""
    central.error = StoreFailed("its cache cannot be read", "look")
    with pytest.raises(StoreFailed):
        engine.reload({})
    assert blocked(site) == {3}
    engine = started(site, central)
    assert engine.loaded_from == "policy"
    assert "its cache cannot be read" in engine.failures[0]
    assert blocked(site) == {1}


def test_what_was_in_force_last_is_so_again_where_no_source_can_say(
    site: Site, engine: Engine, central: Central
) -> None:
    """Whichever source it came from."""
    central.error = StoreFailed("its cache cannot be read", "look")
    (site.directories.config / "policies/l.yaml").write_text("nonsense")
    engine = started(site, central)
    assert engine.loaded_from == "last-good"
    assert len(engine.failures) == 2
    assert blocked(site) == {3}
