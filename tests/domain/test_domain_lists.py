"""Lists that are published with a policy: signed as one with it, and never mixed with another."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import TargetFile, Targets

from ipsecd.errors import InvalidInput, Refused
from ipsecd.language.address_lists import read_list
from ipsecd.model.packed_form import pack, unpack_strictly
from ipsecd_domain import carried as carried_module
from ipsecd_domain.bundle import write_bundle
from ipsecd_domain.carried import Carried, carried_by, fetched, signed_lists
from ipsecd_domain.errors import Missing, NotFetched, NotTrusted
from ipsecd_domain.places import reader
from ipsecd_domain.repository import lists as lists_module
from ipsecd_domain.repository.content import read_repository
from ipsecd_domain.repository.halting import halt
from ipsecd_domain.repository.lists import GivenLists
from ipsecd_domain.repository.publishing import Published, Selection, publish, withdraw
from ipsecd_domain.repository.status import status
from ipsecd_domain.repository.store import Store
from ipsecd_domain.trusted import Refreshed
from ipsecd_domain.verify import answer
from tests.ctl.conftest import Run
from tests.domain.fleets import WEB, Fleet, Member, now
from tests.domain.test_domain_attacks import forged, refused
from tests.engine.test_lists import entries

LISTED = WEB.replace(b"*=0:23:TCP", b"@drop=0")
BOTH = WEB.replace(b'"*=0:23:TCP"', b'"@drop=0", "0=@more"')
ONE, TWO = b"203.0.113.7\n", b"203.0.113.8\n2001:db8::/32\n"


def given(own: tuple[str, ...] = (), *, accept: bool = False, **texts: bytes) -> GivenLists:
    return GivenLists({name: read_list(text, name) for name, text in texts.items()}, own, accept)


def give_out(
    fleet: Fleet,
    lists: GivenLists,
    document: bytes = LISTED,
    group: str | None = None,
    **selection: Any,
) -> Published:
    chosen = Selection(**selection)
    return publish(fleet.repository, fleet.keys, document, chosen, now(), group=group, lists=lists)


@dataclass
class Got:
    """What a host gets: the document, and the entries of lists by their names."""

    document: str
    lists: dict[str, str]


def got(seen: Refreshed, fleet: Fleet) -> Got:
    contents = fetched(seen.lists, reader(str(fleet.repository)), ())
    lists = {each.name: contents[each.sha256] for each in seen.lists}
    texts = {
        name: ",".join(sorted(str(network) for network in unpack_strictly(content).networks()))
        for name, content in lists.items()
    }
    return Got(seen.text, texts)


def words(text: bytes) -> str:
    return ",".join(sorted(str(each) for each in read_list(text, "x").addresses.networks()))


def targets(fleet: Fleet) -> list[str]:
    return sorted(read_repository(Store(fleet.repository)).targets.signed.targets)


def test_a_policy_is_published_with_its_lists(fleet: Fleet) -> None:
    """The host is told of them by what is signed, and gets them; the child names their digests."""
    published = give_out(fleet, given(drop=ONE, more=TWO), BOTH)
    assert (published.lists, published.own_lists) == (("drop", "more"), ())
    seen = Member.of(fleet).look(fleet.repository)
    texts = {"drop": ONE, "more": TWO}
    assert got(seen, fleet) == Got(
        BOTH.decode(), {name: words(text) for name, text in texts.items()}
    )
    # The child is given none of their content.
    asked = {
        "trusted": {"root.json": fleet.root()},
        "host": {"name": "web1", "groups": [], "labels": {}},
        "bundle": json.loads(b"".join(write_bundle(seen.bundle))),
    }
    assert answer(json.dumps(asked).encode())["lists"] == {
        name: hashlib.sha256(pack(read_list(text, "x").addresses)).hexdigest()
        for name, text in texts.items()
    }
    (listed,) = status(fleet.repository, now())["policies"][0]["offers"]
    assert listed["lists"].keys() == {"drop", "more"}


def test_a_list_alone_can_be_published_anew(fleet: Fleet) -> None:
    """The other one stays as it was, and what no policy carries any more is signed no more."""
    give_out(fleet, given(drop=ONE, more=TWO), BOTH)
    host = Member.of(fleet)
    before = host.look(fleet.repository)
    give_out(fleet, given(drop=TWO), BOTH)
    seen = host.look(fleet.repository)
    assert seen.version > before.version
    assert seen.sha256 == before.sha256
    assert got(seen, fleet).lists == {"drop": words(TWO), "more": words(TWO)}
    assert len([path for path in targets(fleet) if path.endswith(".list")]) == 2
    give_out(fleet, GivenLists(), LISTED)
    assert got(host.look(fleet.repository), fleet).lists == {"drop": words(TWO)}
    assert len([path for path in targets(fleet) if path.endswith(".list")]) == 1
    withdraw(fleet.repository, fleet.keys, now())
    assert targets(fleet) == ["all/index.json"]
    assert host.look(fleet.repository).lists == ()


def test_a_list_that_is_missing_keeps_a_policy_from_being_published(fleet: Fleet) -> None:
    """All that are missing are named, and what to do."""
    version = read_repository(Store(fleet.repository)).timestamp.signed.version
    with pytest.raises(Refused, match="names lists that are not given: @drop, @more") as told:
        give_out(fleet, GivenLists(), BOTH)
    assert "--list drop=FILE" in told.value.hint
    assert "--own-list drop" in told.value.hint
    with pytest.raises(Refused, match="not given: @more"):
        give_out(fleet, given(drop=ONE), BOTH)
    assert read_repository(Store(fleet.repository)).timestamp.signed.version == version


def test_hosts_may_have_a_list_of_their_own(fleet: Fleet) -> None:
    """Who publishes says so once, until the list is given."""
    assert give_out(fleet, given(("drop",), more=ONE), BOTH).own_lists == ("drop",)
    assert give_out(fleet, GivenLists(), BOTH).own_lists == ("drop",)
    host = Member.of(fleet)
    assert got(host.look(fleet.repository), fleet).lists == {"more": words(ONE)}
    assert give_out(fleet, given(drop=TWO), BOTH).own_lists == ()
    assert got(host.look(fleet.repository), fleet).lists.keys() == {"drop", "more"}
    for lists in (given(("drop",), drop=ONE), given(("web",)), given(web=ONE)):
        with pytest.raises(InvalidInput):
            give_out(fleet, lists, BOTH)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"0.0.0.0/0\n8.8.8.8\n", "is every IPv4 address"),
        (b"127.0.0.0/8\n", "loopback"),
        (b"# nothing\n", "it has no entry"),
        (b"203.0.113.1\nnonsense\nmore of it\n", "more malformed lines"),
        (b"203.0.113.1\n203.0.113.2\n", "would shrink from 5 entries to 2"),
    ],
)
def test_what_looks_like_a_mistake_is_not_published(fleet: Fleet, text: bytes, why: str) -> None:
    """Until somebody accepts it: it would be in force on every host."""
    give_out(fleet, given(drop=b"198.51.100.0-198.51.100.4\n", accept=True))
    give_out(fleet, given(drop=b"198.51.100.1\n198.51.100.3\n198.51.100.5\n"
                               b"198.51.100.7\n198.51.100.9\n"))  # fmt: skip
    host = Member.of(fleet)
    before = got(host.look(fleet.repository), fleet)
    with pytest.raises(Refused, match=why) as told:
        give_out(fleet, given(drop=text))
    assert "--accept" in told.value.hint
    assert got(host.look(fleet.repository), fleet) == before
    give_out(fleet, given(drop=text, accept=True))
    assert got(host.look(fleet.repository), fleet).lists == {"drop": words(text)}
    if b"/" in text:
        # What has been accepted passes with every later change.
        give_out(fleet, given(drop=text + b"9.9.9.9\n"))


def test_too_much_is_not_published_and_not_taken(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The publisher and every host have the same limits, and a host believes no publisher."""
    monkeypatch.setattr(lists_module, "MAX_CARRIED_BYTES", 30)
    give_out(fleet, given(drop=ONE, more=ONE), BOTH)
    with pytest.raises(Refused, match="54 bytes together, and 30 are the most"):
        give_out(fleet, given(more=TWO), BOTH)
    monkeypatch.setattr(lists_module, "MAX_CARRIED_BYTES", 1 << 20)
    give_out(fleet, given(more=TWO), BOTH)
    monkeypatch.setattr(carried_module, "MAX_CARRIED_BYTES", 30)
    with pytest.raises(NotTrusted, match="at most 30 are taken"):
        Member.of(fleet).look(fleet.repository)
    monkeypatch.undo()
    monkeypatch.setattr(lists_module, "MAX_CARRIED", 1)
    with pytest.raises(Refused, match="they are 2, and 1 are the most"):
        give_out(fleet, given(more=TWO), BOTH)


def test_canaries_and_groups_have_lists_of_their_own(fleet: Fleet) -> None:
    """A canary has the new list, the others the old one; halting gives the old one to all."""
    described = LISTED.replace(b"policy: Web\n", b"policy: Web\ndescription: with another list\n")
    give_out(fleet, given(drop=ONE), group="web")
    give_out(fleet, given(drop=TWO), described, "web", canary=100.0, hosts=("web1",))
    first, other = Member.of(fleet, "web1", "web"), Member.of(fleet, "db1", "web")
    assert got(first.look(fleet.repository), fleet).lists == {"drop": words(TWO)}
    assert got(other.look(fleet.repository), fleet).lists == {"drop": words(ONE)}
    halt(fleet.repository, fleet.keys, now())
    assert got(first.look(fleet.repository), fleet).lists == {"drop": words(ONE)}
    give_out(fleet, given(drop=TWO), described, "web", canary=50.0)
    give_out(fleet, GivenLists(), described, "web", canary=60.0)
    give_out(fleet, GivenLists(), described, "web")
    for host in (first, other):
        assert got(host.look(fleet.repository), fleet).lists == {"drop": words(TWO)}


def test_a_canary_of_a_list_alone_is_refused(fleet: Fleet) -> None:
    """Nobody could tell by the reports which hosts have it; with the same list there is no harm."""
    give_out(fleet, given(drop=ONE))
    with pytest.raises(Refused, match="nobody could tell who has the canary") as told:
        give_out(fleet, given(drop=TWO), canary=5.0)
    assert "description" in told.value.hint
    give_out(fleet, GivenLists(), canary=5.0)


# -- somebody else ----------------------------------------------------------------------------


@pytest.fixture
def served(fleet: Fleet) -> Fleet:
    """A repository of which a host has taken the first state, and has seen the second."""
    give_out(fleet, given(drop=ONE), group="web")
    return fleet


def the_list(fleet: Fleet) -> Path:
    (path,) = (path for path in fleet.repository.rglob("*.list"))
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-1],
        lambda content: content + b"\x00",
        lambda content: content[:-1] + b"\xff",
        lambda _: b"",
        lambda _: pack(entries("9.9.9.9")),
        lambda _: b"x" * (1 << 20),
    ],
    ids=["truncated", "longer", "changed", "empty", "another", "endless"],
)
def test_a_list_that_is_not_as_it_was_signed_is_refused(
    served: Fleet, change: Callable[[bytes], bytes]
) -> None:
    """Whatever the web server gives; no more is read than is signed."""
    file = the_list(served)
    file.write_bytes(change(file.read_bytes()))
    seen = Member.of(served, "web1", "web").look(served.repository)
    with pytest.raises(NotFetched if len(file.read_bytes()) > 14 else NotTrusted):
        got(seen, served)


def test_a_list_that_is_withheld_is_missing(served: Fleet) -> None:
    """The look fails, and tells which."""
    the_list(served).unlink()
    seen = Member.of(served, "web1", "web").look(served.repository)
    with pytest.raises(Missing, match=r"drop-[0-9a-f]{16}\.list"):
        got(seen, served)
    digest = seen.lists[0].sha256
    assert fetched(seen.lists, reader(str(served.repository)), {digest}) == {}


def test_an_old_list_cannot_be_given_for_a_new_one(served: Fleet) -> None:
    """Neither under the name of the new one, nor by old metadata beside new."""
    host = Member.of(served, "web1", "web")
    old = served.repository.with_name("old")
    shutil.copytree(served.repository, old)
    before = the_list(served).read_bytes()
    host.look(served.repository)
    give_out(served, given(drop=TWO, accept=True), group="web")
    host.look(served.repository)
    refused(host, without_files_of_lists(old), NotTrusted, "went back to what is older")
    newest = max(served.repository.rglob("*.list"), key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(before)
    with pytest.raises((NotTrusted, NotFetched)):
        got(host.look(served.repository), served)
    for role in ("group-web", "snapshot"):
        mixed = served.repository.with_name(f"mixed-{role}")
        shutil.copytree(served.repository, mixed)
        for path in mixed.rglob("*.list"):
            path.unlink()
        files = sorted((mixed / "metadata").glob(f"*.{role}.json"), key=_version)
        files[-1].write_bytes(files[-2].read_bytes())
        refused(host_of(served), mixed, (NotTrusted, NotFetched))


def without_files_of_lists(repository: Path) -> Path:
    for path in repository.rglob("*.list"):
        path.unlink()
    return repository


def _version(path: Path) -> int:
    return int(path.name.partition(".")[0])


def host_of(fleet: Fleet) -> Member:
    return Member.of(fleet, "web1", "web")


@pytest.mark.parametrize(
    "custom",
    [
        {"lists": {"drop": "all/drop-0.list"}},
        {"lists": {"drop": "all/index.json"}},
        {"lists": {"drop": "group/db/drop-0.list"}},
        {"lists": {"drop": "group/web/../../metadata/root.json"}},
        {"lists": {"drop": "group/web/nobody-signed-this.list"}},
        {"lists": {"../drop": "group/web/index.json"}},
        {"lists": {"drop": 1}},
        {"lists": ["drop"]},
        {"lists": {f"l{n}": "group/web/index.json" for n in range(101)}},
        {"lists": {}, "own_lists": [1]},
        {"lists": {}, "own_lists": "drop"},
        ["lists"],
        None,
    ],
)
def test_who_has_the_key_of_a_group_names_lists_of_this_group_alone(
    served: Fleet, custom: Any
) -> None:
    """What else stands there is refused, by the fetcher and by the daemon's child."""

    def change(signed: Targets) -> None:
        target = signed.targets["group/web/web.yaml"]
        target.unrecognized_fields["custom"] = {"ipsecd": custom}

    host = host_of(served)
    without_files_of_lists(served.repository)
    forged(served, ("group-web", "snapshot", "timestamp"), change)
    if custom is None:
        assert host.look(served.repository).lists == ()
        return
    refused(host, served.repository, NotTrusted)


def test_what_is_said_of_others_is_no_matter_of_ours() -> None:
    """Custom data of somebody else means nothing."""
    target = TargetFile(1, {"sha256": "0" * 64}, "all/web.yaml", {"custom": {"color": "red"}})
    assert carried_by(target, "targets") == Carried()
    unsigned = TargetFile(1, {"sha512": "0"}, "all/a.list")
    with pytest.raises(NotTrusted, match="signed without a SHA-256"):
        signed_lists(Carried({"a": "all/a.list"}), lambda _: unsigned)


def test_lists_stand_behind_the_line_that_names_them(served: Fleet) -> None:
    """They are no text, and may be long."""
    seen = host_of(served).look(served.repository)
    contents = fetched(seen.lists, reader(str(served.repository)), ())
    line, _, rest = b"".join(write_bundle(seen.bundle, contents)).partition(b"\n")
    assert json.loads(line)["lists"] == {digest: len(each) for digest, each in contents.items()}
    assert rest == b"".join(contents.values())
    assert b"\n" not in b"".join(write_bundle(seen.bundle))


# -- the verb ---------------------------------------------------------------------------------


def test_the_verb_takes_lists_from_files(run: Run, fleet: Fleet, tmp_path: Path) -> None:
    """Each by itself, or those of a directory that the policy names; it says what it published."""
    document, directory = tmp_path / "web.yaml", tmp_path / "lists"
    directory.mkdir()
    document.write_bytes(BOTH)
    (directory / "drop").write_bytes(ONE)
    (directory / "unused").write_bytes(b"no list at all\n")
    words_of_all = ("publish", str(fleet.repository), str(document), "--keys", str(fleet.keys))
    ran = run(*words_of_all)
    assert ran.code == 1
    assert "not given: @drop, @more" in ran.err
    ran = run(*words_of_all, f"--lists={directory}", "--own-list", "@more")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[1:] == [
        "  with @drop",
        "  without @more, which hosts have of their own",
    ]
    (directory / "drop").write_bytes(b"0.0.0.0/0\n")
    ran = run(*words_of_all, f"--list=@more={directory}/drop")
    assert ran.code == 1
    assert "--accept" in ran.err
    ran = run(*words_of_all, f"--list=@more={directory}/drop", "--accept", "--json")
    assert json.loads(ran.out)["lists"] == ["drop", "more"]
    assert "  with @drop, @more\n" in run("status", str(fleet.repository)).out
    ran = run(*words_of_all, f"--list=web={directory}/drop")
    assert "no filter of the policy names it" in ran.err
    assert run(*words_of_all, "--list=web").code == 2
