"""What was read once is not read again: by the same process, or by the next one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ipsecd.control import Control
from ipsecd.language import filters, reading
from ipsecd.language.documents import format_policy, parse_policy
from ipsecd.model.addresses import Family, Network
from ipsecd.model.inventory import Container, Inventory
from ipsecd.model.values import Filter, Policy
from ipsecd.sources import last_good as lastgood
from ipsecd.sources import remembered
from ipsecd.sources.checked import seal, unseal
from ipsecd.sources.names_file import Names
from ipsecd.sources.remembered import PolicyExcerpt, excerpts_from_json, excerpts_to_json
from tests.engine.site import ME, Site

TEXT = """\
# by hand
policy: P
description: "said by a person"
rules:
  - rule: hosts
    action: block
    filters: ["192.0.2.1=0:1:UDP", "192.0.2.2=0:1:UDP", "*=0:1:UDP"]
  - rule: web
    action: permit
    filters: ["198.51.100.1=container:web:80:TCP", "*=0:80:TCP"]
"""
NAMED = 'policy: P\nrules:\n- {rule: R, action: block, filters: ["worm.example=0:1:UDP"]}\n'
PEER = Network(Family.IPV4, 0xCB007107, 32)
WEB = Network(Family.IPV4, 0xAC110002, 32)


class Wanted(list[str]):
    """The texts of the filters that were read."""

    def during(self, work: Callable[[], object]) -> int:
        """How many are read while `work` is done."""
        self.clear()
        work()
        return len(self)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Wanted:
    texts = Wanted()

    def parse_short(text: str) -> Filter:
        texts.append(text)
        return filters.parse_short(text)

    monkeypatch.setattr(reading, "parse_short", parse_short)
    return texts


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    write(site, TEXT)
    (tmp_path / "etc/assigned").symlink_to("policies/p.yaml")
    reload(site)
    yield site
    site.engine.close()


def write(site: Site, text: str) -> None:
    (site.directories.config / "policies/p.yaml").write_text(text)


def reload(site: Site) -> dict[str, Any]:
    control, parameters = Control(site.engine), {"resolve": False}
    names = dict.fromkeys(control.names_needed("Reload", parameters, None), (PEER,))
    reply = control.call("Reload", parameters, "test", names, None)
    outcome: dict[str, Any] = reply["outcome"]
    return outcome


def status(site: Site) -> dict[str, Any]:
    reply = Control(site.engine).call("Status", {}, "test", {}, None)
    answer: dict[str, Any] = reply["status"]
    return answer


def shown(site: Site) -> list[dict[str, Any]]:
    reply = Control(site.engine).call("ListFilters", {}, "test", {}, None)
    filters: list[dict[str, Any]] = reply["filters"]
    return filters


def test_a_reload_without_a_change_reads_no_filter(site: Site, read: Wanted) -> None:
    """The bytes of the files are what they were."""
    assert read.during(lambda: reload(site)) == 0
    assert reload(site)["changed"] is False


def test_a_start_reads_only_the_filters_that_go_by_a_name(site: Site, read: Wanted) -> None:
    """What is in force comes compiled from disk, and what is asked all the time stands beside."""
    before = status(site)
    assert read.during(site.again) == 1
    assert site.blocks(1)
    assert read.during(lambda: reload(site)) == 0
    assert read.during(lambda: status(site)) == 0
    assert read.during(lambda: Control(site.engine).call("Stats", {}, "test", {}, None)) == 0
    after = status(site)
    assert after["policy_filters"] == 5
    assert {**after, "since": 0} == {**before, "since": 0}


def test_the_filters_are_read_when_somebody_wants_to_see_them(site: Site, read: Wanted) -> None:
    """And once for all that ask."""
    before = shown(site)
    site.again()
    assert read.during(lambda: shown(site)) == 5
    assert read.during(lambda: shown(site)) == 0
    assert shown(site) == before
    assert site.engine.policy == parse_policy(TEXT)
    assert parse_policy(TEXT) == site.engine.policy


def test_a_file_that_was_edited_meanwhile_is_read(site: Site, read: Wanted) -> None:
    """What is remembered is that of its own bytes."""
    write(site, TEXT.replace("*=0:1:UDP", "*=0:2:UDP"))
    assert read.during(site.again) >= 5
    assert site.blocks(2)
    assert not site.blocks(1)
    assert "0:2:UDP" in str(shown(site))


def test_what_an_apply_stored_is_not_read_at_the_next_start(site: Site, read: Wanted) -> None:
    """The document is known by what is written of it, in canonical form."""
    text = TEXT.replace("192.0.2.1", "192.0.2.7")
    parameters = {"source": None, "assign": True, "dry_run": False}
    control = Control(site.engine)
    control.names_needed("ApplyPolicy", parameters, text.encode())
    control.call("ApplyPolicy", parameters, "test", {}, text.encode())
    assert read.during(lambda: reload(site)) == 0
    assert read.during(site.again) == 1


def test_what_is_not_assigned_is_remembered_too(site: Site, read: Wanted) -> None:
    """A reload looks at every file."""
    (site.directories.config / "policies/q.yaml").write_text(TEXT.replace("policy: P", "policy: Q"))
    reload(site)
    assert read.during(site.again) == 2
    assert read.during(lambda: site.engine.stored("Q").facts) == 0
    assert format_policy(site.engine.stored("Q")).startswith("policy: Q\n")


@pytest.mark.parametrize("content", [b"nonsense", b""])
def test_without_what_was_remembered_the_files_are_read(
    site: Site, read: Wanted, content: bytes
) -> None:
    """It is written again at once."""
    (site.directories.state / "policies").write_bytes(content)
    assert read.during(site.again) == 5
    assert site.blocks(1)
    assert site.engine.warnings == ()
    assert read.during(site.again) == 1


def test_another_version_reads_for_itself(
    site: Site, read: Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may understand the same words in another way; that is nothing to warn of."""
    monkeypatch.setattr(remembered, "__version__", "999")
    assert read.during(site.again) == 5
    assert site.engine.warnings == ()


def test_a_last_good_policy_is_known_as_well(site: Site, read: Wanted) -> None:
    """The file that took its place cannot be used, at this start and at the next."""
    write(site, "policy: P\nrules: nonsense\n")
    for _ in range(2):
        assert read.during(site.again) == 1
        assert site.engine.loaded_from == "last-good"
        assert site.blocks(1)
    assert len(shown(site)) == 5


def test_dns_names_are_known_without_reading(site: Site, read: Wanted) -> None:
    """Their addresses are filled in when the filters are read."""
    write(site, NAMED)
    reload(site)
    assert read.during(site.again) == 0
    assert site.blocks(1, source=PEER.address)
    names = Control(site.engine).names_needed("Reload", {"resolve": True}, None)
    assert names == {"worm.example"}
    (flt,) = site.engine.in_force()
    assert flt.filter.families == {Family.IPV4}


def test_containers_are_followed_without_reading(site: Site, read: Wanted) -> None:
    """The filters that name them are kept whole."""
    site.again()
    web = Container("1" * 64, "web", networks={"front": (WEB,)})
    assert site.engine.selects_containers
    tell = lambda: site.engine.set_inventory("docker", Inventory((web,)))  # noqa: E731
    assert read.during(tell) == 0
    assert any(table.id.destination == 32 for table in site.engine.classifier.tables)


def test_a_last_good_policy_is_written_only_when_it_is_another(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless somebody deleted it."""
    encoded: list[lastgood.CompiledPolicy] = []

    def encode_last_good(good: lastgood.CompiledPolicy, names: Names) -> bytes:
        encoded.append(good)
        return lastgood.encode_last_good(good, names)

    monkeypatch.setattr("ipsecd.sources.kept.encode_last_good", encode_last_good)
    site.again()
    reload(site)
    assert not encoded
    (site.directories.state / "last-good").unlink()
    reload(site)
    assert encoded
    assert (site.directories.state / "last-good").exists()


def test_what_is_kept_says_what_the_document_said() -> None:
    """There and back it is the same, without the filters."""
    policy = parse_policy(TEXT)
    ((digest, excerpt),) = excerpts_from_json(excerpts_to_json({"x": policy})).items()
    assert digest == "x"
    assert excerpt == PolicyExcerpt("P", "said by a person", policy.expect, policy.facts)
    assert excerpt.policy(TEXT) == policy
    assert hash(excerpt.policy(TEXT)) == hash(policy)


def test_a_filter_by_name_belongs_to_a_rule_that_is_there() -> None:
    """Facts that contradict themselves are none."""
    content = json.loads(excerpts_to_json({"x": parse_policy(TEXT)}))
    content["policies"]["x"]["actions"][1][1] = "block"
    with pytest.raises(ValueError, match="not there"):
        excerpts_from_json(json.dumps(content).encode())


def test_nothing_of_the_filters_is_kept(site: Site) -> None:
    """What is remembered of a long policy is short."""
    sealed = (site.directories.state / "policies").read_bytes()
    content = unseal("policies", 1, sealed)
    assert b"192.0.2.1" not in content
    assert b"container:web" in content
    assert seal("policies", 1, content) == sealed


def test_a_policy_that_is_remembered_can_be_changed(site: Site) -> None:
    """Taking a rule away reads it, and makes another."""
    site.again()
    policy = site.engine.stored("P").without_rules(frozenset({"web"}))
    assert type(policy) is Policy
    site.engine.change(put=[policy])
    assert [rule.name for rule in site.engine.stored("P").rules] == ["hosts"]
    assert site.blocks(1, destination=ME)
