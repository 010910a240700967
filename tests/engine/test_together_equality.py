"""What changes together comes to what the same changes come to one by one, for any of them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecd.language.documents import format_policy, parse_policy
from ipsecd.model.decide import decide
from ipsecd.model.values import Action
from tests.engine.site import HOST, ME, Site
from tests.engine.test_together import ask, change, document, put, rule, workspace

POLICIES, RULES, PORTS = ("A", "B", "C"), ("r", "s", "t"), (1, 2, 3, 4)


@st.composite
def together(draw: st.DrawFn) -> dict[str, Any]:
    """A change of all parts, for a host that has any of the policies."""
    ports = st.lists(st.sampled_from(PORTS), max_size=3, unique=True)
    actions = st.sampled_from(["block", "permit"])
    stored = draw(st.lists(st.sampled_from(POLICIES), max_size=3, unique=True))
    texts = []
    for name in stored:
        text = document(name, *draw(ports)).replace("block", draw(actions))
        texts.append(draw(st.sampled_from(["", "# by hand\n"])) + text)
    rules = draw(st.lists(st.sampled_from(RULES), max_size=3, unique=True))
    return {
        "put": put(*texts),
        "delete": [each for each in draw(st.sets(st.sampled_from(POLICIES))) if each not in stored],
        "assign": draw(st.sampled_from([None, *POLICIES])),
        "unassign": draw(st.booleans()),
        "shared_filters": draw(st.sampled_from([None, "", "filter-lists: []\n"])),
        "put_rules": [
            {**rule(each, draw(st.sampled_from(PORTS))), "action": draw(actions)} for each in rules
        ],
        "remove_rules": sorted(draw(st.sets(st.sampled_from(RULES)))),
    }


def fitted(site: Site, wanted: dict[str, Any]) -> dict[str, Any]:
    """The change as it can be made on a host: it deletes and assigns what there is."""
    there = set(site.engine.loaded.policies)
    delete = [name for name in wanted["delete"] if name in there]
    there = (there | {each["name"] for each in wanted["put"]}) - set(delete)
    assign = wanted["assign"] if wanted["assign"] in there else None
    kept = [name for name in wanted["remove_rules"] if name not in names_of(wanted)]
    return {
        **wanted,
        "delete": delete,
        "assign": assign,
        "unassign": wanted["unassign"] and assign is None,
        "remove_rules": kept,
    }


def names_of(wanted: dict[str, Any]) -> set[str]:
    return {each["name"] for each in wanted["put_rules"]}


def one_by_one(site: Site, wanted: dict[str, Any]) -> None:
    for each in wanted["put"]:
        policy, text = parse_policy(each["document"]), each["document"]
        if text == format_policy(policy):
            # As for rules that are put into a policy: the comments of its file stay.
            site.engine.change(put=[policy])
        else:
            ask(site, "ApplyPolicy", content=text.encode(), source="x", assign=False, dry_run=False)
    if wanted["assign"]:
        ask(site, "AssignPolicy", name=wanted["assign"])
    for name in wanted["delete"]:
        ask(site, "DeletePolicy", name=name, unassign=True, missing_ok=False)
    if wanted["unassign"]:
        ask(site, "UnassignPolicy", name=None)
    if wanted["shared_filters"] is not None:
        change(site, shared_filters=wanted["shared_filters"])
    ask(site, "ChangeDynamicRules", put=wanted["put_rules"], remove=wanted["remove_rules"])


def seen(site: Site) -> tuple[object, ...]:
    """All that is stored and in force, and what becomes of packets."""
    facts = workspace(site)
    rules = sorted((each["name"], each["action"], each["filters"]) for each in facts["dynamic"])
    blocked = [site.blocks(port) for port in PORTS]
    in_force = site.engine.in_force()
    packets = [site.packet(port, 0xCB007107, ME) for port in PORTS]
    assert blocked == [decide(in_force, each, HOST).action is Action.BLOCK for each in packets]
    return facts["policies"], facts["assigned"], facts["shared_filters"], rules, blocked


@settings(max_examples=20, deadline=None)
@given(st.lists(together(), min_size=1, max_size=4))
def test_together_is_one_by_one(changes: list[dict[str, Any]]) -> None:
    """Documents byte by byte, what is assigned, rules, and verdicts, which are those of decide."""
    with tempfile.TemporaryDirectory() as folder:
        one, other = (Site(Path(folder) / name) for name in ("one", "other"))
        for wanted in changes:
            fits = fitted(one, wanted)
            fresh = workspace(one)["fingerprint"]
            change(one, fingerprint=fresh, **fits)
            one_by_one(other, fits)
            assert seen(one) == seen(other)
        before = seen(one)
        one.again()
        assert seen(one) == before
        one.engine.close()
        other.engine.close()
