"""The lists that a policy of the domain carries: with it in force, with it kept, with it gone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ipsecd.config import Config
from ipsecd.control.absences import absences, filters_by_name
from ipsecd.engine import Engine
from ipsecd.errors import BackendFailed, InvalidInput, NotFound, Refused
from ipsecd.language.addresses import parse_address
from ipsecd.language.documents import format_policy
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Network
from ipsecd.model.lists import AddressList
from ipsecd.model.packed_form import pack
from ipsecd.model.protected import Protected
from ipsecd.model.values import Action
from ipsecd.protocol.description import CONTROL, load_interface
from ipsecd.sources.dynamic import DynamicRule
from tests.engine.domain import (
    PATH,
    answer,
    bundle,
    call,
    configured,
    digest_of,
    digests,
    policy,
    publish,
    take,
    trust,
    withdraw,
)
from tests.engine.site import HOST, Site
from tests.engine.test_lists import INSIDE, NEXT, OUTSIDE, entries, write

FLEET = policy("Fleet", "@drop=0")
ONE, TWO = entries("203.0.113.7"), entries("203.0.113.8", "[2001:db8::]/32")
INTERFACE = load_interface(CONTROL)


@pytest.fixture
def engine(site: Site) -> Engine:
    """With a policy of its own assigned, and a domain that has given none yet."""
    site.engine.change(put=[policy("Local", "*=0:1:UDP")], assign="Local")
    return configured(site)


def blocked(site: Site) -> list[int]:
    return [address for address in (INSIDE, NEXT, OUTSIDE) if site.blocks(53, address)]


def test_it_comes_with_the_policy_and_goes_with_it(site: Site, engine: Engine) -> None:
    """It is in force in the moment in which the policy is; a new daemon has both from the disk."""
    outcome = publish(engine, FLEET, 1, {"drop": ONE})
    assert "'Fleet' of the domain is in force with @drop" in outcome["message"]
    assert not outcome["warnings"]
    assert blocked(site) == [INSIDE]
    engine = site.again()
    assert (blocked(site), engine.warnings) == ([INSIDE], ())
    withdraw(engine)
    assert blocked(site) == []
    assert engine.lists == {}
    assert site.again().lists == {}
    assert list((site.directories.state / "domain/lists").iterdir()) == []


def test_a_list_alone_can_change(site: Site, engine: Engine) -> None:
    """The policy is not compiled anew, and the backend is told; what is the same tells nothing."""
    publish(engine, FLEET, 1, {"drop": ONE})
    compiled = engine.state.compiled
    taken_at = engine.domain.taken_at
    outcome = publish(engine, FLEET, 2, {"drop": TWO})
    assert outcome["changed"]
    assert blocked(site) == [NEXT]
    assert engine.state.compiled is compiled
    assert engine.domain.taken_at > taken_at
    assert not publish(engine, FLEET, 3, {"drop": TWO})["changed"]
    assert (site.again().domain.version, blocked(site)) == (3, [NEXT])


def test_a_list_that_is_here_need_not_be_handed_over_again(site: Site, engine: Engine) -> None:
    """By its digest it is the same; also under another name, and after a restart."""
    publish(engine, FLEET, 1, {"drop": ONE})
    engine = site.again()
    other = policy("Fleet", "@other=0")
    said = answer(path=PATH, sha256=_sha(other), version=2, lists=digests({"other": ONE}))
    assert take(engine, bundle(format_policy(other)), said)["changed"]
    assert blocked(site) == [INSIDE]


def _sha(what: Any) -> str:
    return hashlib.sha256(format_policy(what).encode()).hexdigest()


def _damaged(whole: bytes) -> bytes:
    return whole[:-1] + bytes([whole[-1] ^ 1])


NO_LIST = b"\x04\x20" + bytes(7) + b"\x02" + b"\x09\x00\x00\x00" + b"\x08\x00\x00\x00"


@pytest.mark.parametrize(
    ("files", "lists", "why"),
    [
        (bundle(format_policy(FLEET)), {"drop": TWO}, "@drop of the policy was not handed over"),
        (bundle(format_policy(FLEET), lists={"drop": ONE}), {"drop": TWO}, "was not handed over"),
        (
            bundle(format_policy(FLEET), lists={"drop": ONE}).replace(
                digest_of(ONE).encode(), digest_of(TWO).encode()
            ),
            {"drop": TWO},
            "another digest than the one that is signed",
        ),
        (_damaged(bundle(format_policy(FLEET), lists={"drop": TWO})), {"drop": TWO}, "digest"),
        (bundle(format_policy(FLEET), lists={"drop": TWO})[:-1], {"drop": TWO}, "behind its first"),
        (bundle(format_policy(FLEET), lists={"drop": TWO}) + b"x", {"drop": TWO}, "behind its"),
        (bundle(format_policy(FLEET)) + b"\n\x00", {}, "behind its first line"),
    ],
)
def test_what_is_not_as_it_was_signed_leaves_policy_and_lists(
    site: Site, engine: Engine, files: bytes, lists: dict[str, AddressList], why: str
) -> None:
    """Missing, another's, damaged, cut off or too long: nothing of it is taken."""
    publish(engine, policy("Fleet", "@drop=0", "*=0:3:UDP"), 1, {"drop": ONE})
    said = answer(path=PATH, sha256=_sha(FLEET), version=2, lists=digests(lists))
    before = engine.domain
    with pytest.raises((Refused, InvalidInput), match=why):
        take(engine, files, said)
    assert engine.domain is before
    assert blocked(site) == [INSIDE]
    assert site.blocks(3, OUTSIDE)


def test_what_is_signed_and_is_no_list_is_refused(engine: Engine) -> None:
    """Who publishes may be mistaken, and what was in force stays."""
    trust(engine)
    digest = hashlib.sha256(NO_LIST).hexdigest()
    line = {
        "metadata": {},
        "targets": {PATH: format_policy(FLEET)},
        "lists": {digest: len(NO_LIST)},
    }
    said = answer(path=PATH, sha256=_sha(FLEET), lists={"drop": digest})
    with pytest.raises(Refused, match="is signed, and is no list: its entries are not in order"):
        take(engine, json.dumps(line).encode() + b"\n" + NO_LIST, said)
    assert engine.domain.stored is None


@pytest.mark.parametrize(
    "lists",
    [
        {"../drop": "0" * 64},
        {"drop": "../../etc/passwd"},
        {"drop": 1},
        ["drop"],
        {f"l{n}": "0" * 64 for n in range(101)},
    ],
)
def test_a_verdict_with_lists_that_are_none_is_refused(engine: Engine, lists: object) -> None:
    """The process that verifies is believed as far as this can be checked."""
    trust(engine)
    said = answer(path=PATH, sha256=_sha(FLEET), lists=lists)
    with pytest.raises(Refused, match="gave no verdict"):
        take(engine, bundle(format_policy(FLEET)), said)


def test_a_list_of_this_host_stays_beside_it(site: Site, engine: Engine) -> None:
    """In the domain's policy the name means the domain's list, and in dynamic rules this host's."""
    write(site, drop="8.8.8.8\n")
    engine.reload({})
    rule = DynamicRule("d", (parse_filter("@drop=0:54:UDP"),), Action.BLOCK)
    engine.add_dynamic(rule)
    publish(engine, FLEET, 1, {"drop": ONE})
    assert blocked(site) == [INSIDE]
    assert site.blocks(54, OUTSIDE)
    write(site, drop="9.9.9.9\n")
    engine.reload({})
    assert (blocked(site), site.blocks(54, OUTSIDE)) == ([INSIDE], False)
    publish(engine, FLEET, 2, {"drop": TWO})
    assert (blocked(site), site.blocks(54, 0x09090909)) == ([NEXT], True)
    withdraw(engine)
    assert (blocked(site), site.blocks(54, 0x09090909)) == ([], True)
    assert engine.lists.keys() == {"drop"}


def test_what_the_domain_does_not_carry_is_this_hosts(site: Site, engine: Engine) -> None:
    """A policy may name lists that hosts have of their own, until it carries such a list itself."""
    write(site, drop="8.8.8.8\n")
    engine.reload({})
    publish(engine, FLEET)
    assert blocked(site) == [OUTSIDE]
    publish(engine, FLEET, 2, {"drop": AddressList()})
    assert blocked(site) == []
    publish(engine, FLEET, 3)
    assert blocked(site) == [OUTSIDE]
    withdraw(engine)
    engine.change(put=[policy("Local", "@drop=0")])
    assert blocked(site) == [OUTSIDE]


def test_nobody_can_write_the_name_that_it_has_in_force(engine: Engine) -> None:
    """Neither in a filter nor for a list of this host."""
    publish(engine, FLEET, 1, {"drop": ONE})
    for text in ("@domain:drop=0", "0=@domain:drop"):
        with pytest.raises(InvalidInput):
            parse_filter(text)
    with pytest.raises(InvalidInput):
        parse_address("@domain:drop")
    assert "domain:drop" in engine.lists
    with pytest.raises(InvalidInput):
        call(engine, "CreateList", name="domain:drop", source=None, format=None, accept=True)
    with pytest.raises(InvalidInput):
        engine.list_changes.change({"domain:drop": None})


def test_it_is_shown_as_the_domains_and_cannot_be_changed_here(site: Site, engine: Engine) -> None:
    """Beside a list of this host of the same name, and without one."""
    publish(engine, FLEET, 1, {"drop": ONE})
    listed = INTERFACE.check_reply("ListLists", call(engine, "ListLists"))["lists"]
    shown = [(each["name"], each["domain"], each["entries"], each["rules"]) for each in listed]
    rule = {"store": "domain", "policy": "Fleet", "rule": "R"}
    assert shown == [("drop", True, 1, [rule])]
    assert call(engine, "GetList", name="drop", address=None)["entries"] == ["203.0.113.7"]
    for method, given in (
        ("AddToList", {"addresses": ["8.8.8.8"], "ttl_s": None, "accept": True}),
        ("RemoveFromList", {"addresses": ["203.0.113.7"]}),
        ("DeleteList", {}),
    ):
        for name in ("drop", "domain:drop"):
            with pytest.raises(Refused, match="is the domain's, so it cannot be changed"):
                call(engine, method, name=name, **given)
    write(site, drop="8.8.8.8\n")
    engine.reload({})
    both = call(engine, "ListLists")["lists"]
    assert [(each["domain"], len(each["rules"])) for each in both] == [(False, 0), (True, 1)]
    assert call(engine, "GetList", name="drop", address=None)["entries"] == ["8.8.8.8"]
    reply = call(engine, "GetList", name="domain:drop", address="203.0.113.7")
    assert (reply["entries"], reply["list"]["domain"]) == (["203.0.113.7"], True)
    outcome = call(
        engine, "AddToList", name="drop", addresses=["9.9.9.9"], ttl_s=None, accept=True
    )["outcome"]
    assert any("carries a list @drop of its own" in warning for warning in outcome["warnings"])
    assert blocked(site) == [INSIDE]
    with pytest.raises(NotFound):
        call(engine, "GetList", name="other", address=None)


def test_filters_and_explanations_say_its_name(
    site: Site, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is written in the policy; the verdict is that of the domain's entries."""
    known = SimpleNamespace(host=HOST, types={})
    monkeypatch.setattr("ipsecd.control.explain.read_host", lambda: known)
    write(site, drop="8.8.8.8\n")
    engine.reload({})
    publish(engine, FLEET, 1, {"drop": ONE})
    assert [each["filter"] for each in call(engine, "ListFilters")["filters"]] == ["@drop=0"]
    for source, decision in (("203.0.113.7", "block"), ("8.8.8.8", "permit")):
        said = call(engine, "Explain", packet=f"udp {source}:9 > me:53")["explanation"]
        assert said["decision"] == decision
    assert not absences(engine, filters_by_name(engine))
    domain = INTERFACE.check_reply("GetDomain", call(engine, "GetDomain"))["domain"]
    assert domain["lists"] == [{"name": "drop", "digest": digest_of(ONE), "entries": 1}]


def test_absence_withdraws_no_list(site: Site, engine: Engine) -> None:
    """A domain that has no policy for this host any more leaves both in force."""
    publish(engine, FLEET, 1, {"drop": ONE})
    take(engine, bundle(), answer("nothing", version=2))
    assert blocked(site) == [INSIDE]
    assert site.again().domain.lists.keys() == {"drop"}
    assert blocked(site) == [INSIDE]


def test_what_is_protected_on_this_host_is_not_blocked_by_it(site: Site) -> None:
    """The policy with its list is refused as a whole; what was in force stays."""
    engine = configured(site)
    publish(engine, FLEET, 1, {"drop": ONE})
    protected = Protected(Network(Family.IPV4, NEXT, 32), "203.0.113.8", "line 1")
    site.config = Config(domain=site.config.domain, protected=(protected,))
    engine = site.again()
    for version, lists in ((2, {"drop": TWO}), (3, {"drop": entries("203.0.0.0/16")})):
        with pytest.raises(Refused, match="which is protected"):
            publish(engine, FLEET, version, lists)
    with pytest.raises(Refused, match="which is protected"):
        publish(engine, policy("Fleet", "@fresh=0"), 4, {"fresh": TWO})
    assert (blocked(site), engine.domain.version) == ([INSIDE], 1)
    publish(engine, FLEET, 4, {"drop": entries("8.8.8.8")})
    assert blocked(site) == [OUTSIDE]


def test_a_backend_that_does_not_take_it_leaves_both(
    site: Site, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk has what is in force, too."""
    publish(engine, FLEET, 1, {"drop": ONE})

    def refuse(*_: object) -> None:
        raise BackendFailed("no room")

    monkeypatch.setattr(site.backend, "apply", refuse)
    with pytest.raises(BackendFailed):
        publish(engine, policy("Fleet", "@drop=0", "*=0:3:UDP"), 2, {"drop": TWO})
    monkeypatch.undo()
    assert blocked(site) == [INSIDE]
    assert (site.again().domain.version, blocked(site)) == (1, [INSIDE])


@pytest.mark.parametrize("what", ["missing", "damaged", "another", "directory"])
def test_a_list_that_is_lost_on_disk_is_told_and_fetched_anew(
    site: Site, engine: Engine, what: str
) -> None:
    """The policy is in force with the other lists, and no list of this host takes its place."""
    write(site, drop="8.8.8.8\n")
    publish(engine, policy("Fleet", "@drop=0", "@more=0"), 1, {"drop": ONE, "more": TWO})
    file: Path = site.directories.state / "domain/lists" / digest_of(ONE)
    content = file.read_bytes()
    file.unlink()
    if what == "damaged":
        file.write_bytes(content[:-1])
    elif what == "another":
        other = file.with_name(digest_of(TWO))
        file.write_bytes(other.read_bytes())
    elif what == "directory":
        file.mkdir()
    engine = site.again()
    assert blocked(site) == [NEXT]
    assert "list @drop of the domain has no entry until it is fetched anew" in engine.warnings[0]
    assert engine.check() == [engine.warnings[0]]
    held = {each["name"]: each["digest"] for each in call(engine, "GetDomain")["domain"]["lists"]}
    assert held == {"drop": "", "more": digest_of(TWO)}
    if what == "directory":
        file.rmdir()
    assert publish(engine, policy("Fleet", "@drop=0", "@more=0"), 2, {"drop": ONE, "more": TWO})[
        "changed"
    ]
    assert (blocked(site), engine.warnings) == ([INSIDE, NEXT], ())
    assert (site.again().warnings, blocked(site)) == ((), [INSIDE, NEXT])


def test_what_has_no_lists_is_kept_as_other_versions_read_it(site: Site, engine: Engine) -> None:
    """A host that goes back to an older version loses no policy by lists that it does not use."""
    publish(engine, policy("Fleet", "*=0:3:UDP"))
    file = site.directories.state / "domain/taken"
    assert "lists" not in json.loads(file.read_bytes().partition(b"\n")[2])
    publish(engine, FLEET, 2, {"drop": ONE})
    assert json.loads(file.read_bytes().partition(b"\n")[2])["lists"] == digests({"drop": ONE})


def test_lists_that_are_not_used_any_more_are_deleted(site: Site, engine: Engine) -> None:
    """When what replaces them is in force."""
    directory = site.directories.state / "domain/lists"
    publish(engine, FLEET, 1, {"drop": ONE})
    publish(engine, FLEET, 2, {"drop": TWO})
    assert [path.name for path in directory.iterdir()] == [digest_of(TWO)]
    (directory / ("0" * 64)).write_bytes(pack(ONE))
    publish(engine, FLEET, 3, {"drop": TWO})
    assert [path.name for path in directory.iterdir()] == [digest_of(TWO)]


def test_while_enforcement_is_stopped_it_is_taken_and_waits(site: Site, engine: Engine) -> None:
    """The start has it in force."""
    publish(engine, FLEET, 1, {"drop": ONE})
    engine.stop()
    publish(engine, FLEET, 2, {"drop": TWO})
    assert blocked(site) == []
    engine.start()
    assert blocked(site) == [NEXT]
