"""What the engine makes of lists of addresses, and of changes to them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from ipsecd.backend.memory import MemoryBackend
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.volatile import Delta, Volatile
from ipsecd.control.absences import absences, filters_by_name
from ipsecd.engine import Engine, compiling
from ipsecd.errors import BackendFailed, InvalidInput, LimitExceeded
from ipsecd.language.addresses import parse_address
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Keyword, Network
from ipsecd.model.inventory import Container, Inventory
from ipsecd.model.lists import AddressList, listed
from ipsecd.model.quarantine import Quarantine
from ipsecd.model.values import Action, Policy, Rule
from ipsecd.sources.dynamic import DynamicRule
from tests.engine.site import HOST, ME, Site, fail_once, meanwhile

INSIDE, NEXT, OUTSIDE = 0xCB007107, 0xCB007108, 0x08080808


def entries(*texts: str) -> AddressList:
    networks = [parse_address(text) for text in texts]
    return listed(network for network in networks if isinstance(network, Network))


def write(site: Site, **texts: str) -> None:
    """Write the files of lists by their names."""
    directory = site.directories.config / "lists"
    directory.mkdir(exist_ok=True)
    for name, text in texts.items():
        (directory / name).write_text(text)


def policy(*rules: tuple[str, str]) -> Policy:
    """A policy with a rule of one filter for each pair of action and filter."""
    return Policy(
        "P",
        tuple(
            Rule(f"r{number}", (parse_filter(text),), Action(action))
            for number, (action, text) in enumerate(rules)
        ),
    )


@pytest.fixture
def bench(site: Site) -> Site:
    """With a list that a policy blocks, and another that a dynamic rule blocks at port 54."""
    site.engine.list_changes.change({"drop": entries("203.0.113.7")})
    site.engine.change(put=[policy(("block", "@drop=0"))], assign="P")
    site.engine.add_dynamic(DynamicRule("d", (parse_filter("@bans=0:54:UDP"),), Action.BLOCK))
    return site


def test_rules_that_come_while_a_list_is_prepared_stay(
    bench: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that names this list."""
    for number, text in enumerate(("8.8.8.8=0", "0=@drop")):
        rule = DynamicRule(f"late {number}", (parse_filter(text),), Action.BLOCK)
        meanwhile(monkeypatch, bench, partial(bench.engine.add_dynamic, rule))
        bench.engine.list_changes.change({"drop": entries("203.0.113.8", f"10.0.0.{number}")})
        assert bench.engine.dynamic.get(rule.name)
        assert bench.blocks(53, NEXT)
        assert bench.blocks(53, OUTSIDE)
    assert not bench.blocks(53, INSIDE)


def test_a_list_is_in_force_with_the_rule_that_names_it(bench: Site) -> None:
    """What it has is blocked, and what is beside it passes."""
    assert bench.blocks(53, INSIDE)
    assert not bench.blocks(53, NEXT)


def test_what_comes_and_goes_in_a_list_does_in_force(bench: Site) -> None:
    """Also where entries have other prefix lengths than before, and where all go."""
    for texts, blocked in (
        (["203.0.113.8"], [NEXT]),
        (["203.0.113.0/24"], [INSIDE, NEXT]),
        (["203.0.113.0/24", "203.0.113.7"], [INSIDE, NEXT]),
        (["203.0.113.7"], [INSIDE]),
        ([], []),
        (["[2001:db8::]/32"], []),
        (["0.0.0.0/0"], [INSIDE, NEXT, OUTSIDE]),
    ):
        bench.engine.list_changes.change({"drop": entries(*texts)})
        for address in (INSIDE, NEXT, OUTSIDE):
            assert bench.blocks(53, address) == (address in blocked), texts


def test_a_list_may_come_after_the_rule_that_names_it(bench: Site) -> None:
    """Until then the rule matches nothing, and says so; after it is deleted, too."""
    named = absences(bench.engine, filters_by_name(bench.engine))
    assert named == ["@bans matches nothing at the moment: there is no such list"]
    assert not bench.blocks(54, OUTSIDE)
    bench.engine.list_changes.change({"bans": entries("8.8.0.0/16")})
    assert not absences(bench.engine, filters_by_name(bench.engine))
    assert bench.blocks(54, OUTSIDE)
    assert not bench.blocks(53, OUTSIDE)
    bench.engine.list_changes.change({"bans": entries("8.8.8.8", "8.8.0.0/17")})
    assert bench.blocks(54, OUTSIDE)
    bench.engine.list_changes.change({"bans": None})
    assert not bench.blocks(54, OUTSIDE)
    assert absences(bench.engine, filters_by_name(bench.engine)) == named


def test_lists_change_together(bench: Site) -> None:
    """An address moves from one list to another, and both are in force after it."""
    bench.engine.list_changes.change({"drop": None, "bans": entries("203.0.113.7")})
    assert not bench.blocks(53, INSIDE)
    assert bench.blocks(54, INSIDE)
    assert set(bench.engine.lists) == {"bans"}


def test_an_entry_ranks_as_the_same_address_in_a_filter(bench: Site) -> None:
    """A narrower permit beats a wider entry, and an entry beats a wider permit."""
    bench.engine.change(
        put=[
            policy(
                ("block", "@drop=0"),
                ("permit", "203.0.113.0/24=0"),
                ("permit", "203.0.113.8=0"),
            )
        ],
        assign="P",
    )
    bench.engine.list_changes.change({"drop": entries("203.0.113.0/25", "203.0.0.0/16")})
    assert bench.blocks(53, INSIDE)
    assert not bench.blocks(53, NEXT)
    assert not bench.blocks(53, 0xCB007181)
    bench.engine.list_changes.change({"drop": entries("203.0.0.0/16")})
    assert not bench.blocks(53, INSIDE)
    assert bench.blocks(53, 0xCB007207)


def test_only_lists_that_are_named_are_given_to_the_backend(bench: Site) -> None:
    """A list comes with the first rule that names it and goes with the last."""
    bench.engine.list_changes.change({"bans": entries("8.8.8.8"), "unused": entries("9.9.9.9")})
    assert set(bench.engine.classifier.lists) == {"drop", "bans"}
    bench.engine.remove_dynamic(bench.engine.dynamic.select("d"))
    assert set(bench.engine.classifier.lists) == {"drop"}
    bench.engine.add_dynamic(DynamicRule("u", (parse_filter("@unused=0"),), Action.BLOCK))
    assert set(bench.engine.classifier.lists) == {"drop", "unused"}
    assert bench.blocks(53, 0x09090909)
    bench.engine.change(assign=None)
    assert set(bench.engine.classifier.lists) == {"unused"}


def test_a_rule_can_be_found_by_its_list(bench: Site) -> None:
    """As by an address: ``unblock @bans``."""
    for text in ("@bans", "@bans=0:54:UDP"):
        assert [each.rule.name for each in bench.engine.dynamic.select(text)] == ["d"]


def test_containers_and_lists_in_one_filter(bench: Site) -> None:
    """Either side changes by itself."""
    rules = policy(("block", "@drop=container:web"))
    bench.engine.change(put=[rules], assign="P")
    web = 0x0A580002
    assert not bench.blocks(53, INSIDE, web)
    networks = {"front": (Network(Family.IPV4, web, 32),)}
    bench.engine.set_inventory(
        "podman", Inventory((Container("a" * 64, "web", networks=networks),))
    )
    assert bench.blocks(53, INSIDE, web)
    assert not bench.blocks(53, INSIDE, web + 1)
    bench.engine.list_changes.change({"drop": entries("8.0.0.0/8")})
    assert not bench.blocks(53, INSIDE, web)
    assert bench.blocks(53, OUTSIDE, web)


def test_a_quarantine_outdoes_a_permit_by_list(bench: Site) -> None:
    """The block in its place is as narrow: the same filter, whatever the list has."""
    bench.engine.list_changes.change({"office": entries("203.0.113.0/24")})
    bench.engine.change(put=[policy(("permit", "@office=0:22:UDP"))], assign="P")
    bench.engine.impose(Quarantine("me", Keyword.ME))
    assert bench.blocks(22, INSIDE)
    bench.engine.list_changes.change({"office": entries("203.0.113.7", "203.0.113.0/28")})
    for address in (INSIDE, NEXT):
        assert bench.blocks(22, address)


def test_lists_are_in_force_from_the_first_state_on(bench: Site) -> None:
    """A start reads them before it enforces anything, for the dynamic rules that were left too."""
    write(bench, drop="203.0.113.7", bans="8.8.8.8")
    states: list[Classifier] = []
    apply = bench.backend.apply

    def noted(classifier: Classifier, volatile: Volatile) -> None:
        states.append(classifier)
        apply(classifier, volatile)

    bench.backend.apply = noted  # type: ignore[method-assign]
    for start in (Engine.start, Engine.boot):
        states.clear()
        start(Engine(bench.config, bench.directories, lambda: bench.backend, clock=bench.clock))
        assert {name: len(members) for name, members in states[0].lists.items()} == {
            "drop": 1,
            "bans": 1,
        }
        assert bench.blocks(53, INSIDE)
        assert bench.blocks(54, OUTSIDE)


def test_lists_that_cannot_be_read_keep_nothing_else_from_starting(bench: Site) -> None:
    """All other filters are in force."""
    bench.engine.change(put=[policy(("block", "@drop=0"), ("block", "*=0:55:UDP"))], assign="P")
    (bench.directories.config / "lists").write_text("this is no directory")
    bench.again()
    assert bench.blocks(55, OUTSIDE)
    assert "lists" in bench.engine.warnings[0]


def test_lists_that_change_while_stopped_are_in_force_at_the_start(bench: Site) -> None:
    """Nothing is enforced until then."""
    bench.engine.stop()
    write(bench, drop="8.8.8.8")
    bench.engine.reload({})
    assert not bench.blocks(53, OUTSIDE)
    bench.engine.start()
    assert bench.blocks(53, OUTSIDE)
    assert not bench.blocks(53, INSIDE)


@pytest.mark.parametrize("verb", ["prepare", "apply"])
def test_a_change_that_fails_changes_nothing(
    bench: Site, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the backend does not take, the lists of before stay in force, and are told."""
    bench.engine.list_changes.change({"bans": entries("8.8.8.8")})
    before = dict(bench.engine.lists)
    has_failed = fail_once(monkeypatch, bench.backend, verb)
    with pytest.raises(BackendFailed):
        bench.engine.list_changes.change(
            {"drop": entries("8.8.0.0/16"), "bans": entries("9.0.0.0/8")}
        )
    assert has_failed()
    assert bench.engine.lists == before
    assert bench.blocks(53, INSIDE)
    assert bench.blocks(54, OUTSIDE)
    assert not bench.blocks(53, OUTSIDE)
    assert bench.engine.observe().digest == bench.engine.classifier.digest


def test_a_name_that_no_list_can_have_is_refused(bench: Site) -> None:
    """The same as in a filter."""
    with pytest.raises(InvalidInput, match="cannot name a list"):
        bench.engine.list_changes.change({"../drop": entries("8.8.8.8")})


def test_the_last_good_policy_has_no_entries_of_lists(bench: Site) -> None:
    """Its lists are read from where they are kept, or are empty."""
    bench.engine.keep_last_good()
    assert not bench.engine.state.compiled.classifier.tables
    Path(bench.engine.path_of("P")).write_text("no policy", encoding="utf-8")
    bench.again()
    bench.engine.list_changes.change({"drop": entries("203.0.113.7")})
    assert bench.engine.loaded_from == "last-good"
    assert bench.blocks(53, INSIDE)


def test_lists_that_a_rule_names_alike_are_looked_into_once(site: Site) -> None:
    """Countries by the hundred in one rule; what two lists have stays until both give it up."""
    lists = {f"c{n}": entries(f"10.{n}.0.0/16", f"198.51.{n}.0/24") for n in range(250)}
    site.engine.list_changes.change({**lists, "c250": entries("10.7.0.0/16", "203.0.113.7")})
    rule = Rule("r", tuple(parse_filter(f"@c{n}=0") for n in range(251)), Action.BLOCK)
    site.engine.change(put=[Policy("P", (rule,))], assign="P")
    listing = [table for table in site.engine.classifier.tables if table.id.listed]
    assert len(listing) == 3, "one for each prefix length"
    in_both = 0x0A070101
    assert site.blocks(53, INSIDE)
    assert site.blocks(53, in_both)
    assert not site.blocks(53, NEXT)
    site.engine.list_changes.change({"c7": None})
    assert site.blocks(53, in_both)
    site.engine.list_changes.change({"c250": entries("203.0.113.8", "203.0.113.0/25")})
    assert not site.blocks(53, in_both)
    assert site.blocks(53, NEXT)


def test_a_policy_that_looks_into_lists_too_often_is_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name, and what was in force stays."""
    monkeypatch.setattr(compiling, "MAX_LIST_LOOK_UPS", 3)
    site.engine.list_changes.change({f"c{n}": entries(f"10.{n}.0.0/16") for n in range(4)})
    site.engine.change(put=[policy(("block", "@c0=0"))], assign="P")
    with pytest.raises(LimitExceeded, match="into lists 4 times"):
        site.engine.change(put=[policy(*(("block", f"@c{n}=0:{n + 1}:TCP") for n in range(4)))])
    assert site.blocks(53, 0x0A000101)


def test_lists_that_are_put_together_cannot_be_written() -> None:
    """The sign between their names is nobody else's."""
    with pytest.raises(InvalidInput, match="cannot name a list"):
        parse_address("@a+b")


class WatchedBackend(MemoryBackend):
    """It notes after each step what becomes of a packet."""

    def __init__(self, site: Site, source: int) -> None:
        super().__init__(site.clock)
        self.packet = site.packet(53, source, ME)
        self.verdicts: list[Action] = []

    def apply(self, classifier: Classifier, volatile: Volatile) -> None:
        super().apply(classifier, volatile)
        self.verdicts.append(self.judge(self.packet, HOST).action)

    def change(self, delta: Delta, volatile: Volatile) -> None:
        super().change(delta, volatile)
        self.verdicts.append(self.judge(self.packet, HOST).action)


def watched(site: Site, source: int) -> WatchedBackend:
    backend = WatchedBackend(site, source)
    site.backend = backend
    site.again()
    return backend


def test_dynamic_rules_that_end_have_their_lists_to_the_last(site: Site) -> None:
    """A packet that was blocked by a list and still is never meets a permit beside it."""
    backend = watched(site, 0x0A010203)
    site.engine.list_changes.change({"bad": entries("10.1.0.0/16")})
    site.engine.change(put=[policy(("block", "*=0"))], assign="P")
    site.engine.add_dynamic(DynamicRule("p", (parse_filter("10.0.0.0/8=0"),), Action.PERMIT))
    site.engine.add_dynamic(DynamicRule("b", (parse_filter("@bad=0"),), Action.BLOCK))
    assert backend.verdicts[-1] is Action.BLOCK
    backend.verdicts.clear()
    site.engine.flush()
    assert backend.verdicts
    assert set(backend.verdicts) == {Action.BLOCK}


def test_dynamic_rules_that_come_together_have_their_lists_from_the_first(site: Site) -> None:
    """Who is in a list that is permitted is not cut by the block that comes with it."""
    backend = watched(site, 0x0A010203)
    site.engine.list_changes.change({"admins": entries("10.1.0.0/16")})
    rules = [
        DynamicRule("b", (parse_filter("*=0"),), Action.BLOCK),
        DynamicRule("p", (parse_filter("@admins=0"),), Action.PERMIT),
    ]
    backend.verdicts.clear()
    site.engine.change_dynamic(rules, [rule.name for rule in rules])
    assert site.blocks(53, OUTSIDE)
    assert backend.verdicts
    assert set(backend.verdicts) == {Action.PERMIT}


def test_a_start_with_lists_that_are_too_much_is_a_failure_and_no_crash(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was in force is held, or the setting for the boot decides."""
    write(site, **{f"c{n}": f"10.{n}.0.0/16\n" for n in range(4)})
    site.again()
    site.engine.change(
        put=[policy(*(("block", f"@c{n}=0:{n + 1}:UDP") for n in range(4)))], assign="P"
    )
    monkeypatch.setattr(compiling, "MAX_LIST_LOOK_UPS", 3)
    site.again()
    assert any("into lists 4 times" in failure for failure in site.engine.failures)
    assert site.blocks(2, 0x0A010001)
