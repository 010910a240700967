"""What ``ipsecctl export`` writes, and what it says that it cannot."""

from __future__ import annotations

import json
import re
import shlex
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings

from ipsecctl.exporting import ipseccmd, netsh
from ipsecctl.exporting.documents import policy_document
from ipsecctl.exporting.gathered import Stored, without_filter_lists_folded
from ipsecctl.exporting.matches import matches_of
from ipsecctl.exporting.nft_ruleset import TABLE
from ipsecctl.legacy_switches import parse_switches
from ipsecd.language.documents import format_policy, parse_policy, policy_schema
from ipsecd.language.filters import format_filter, parse_filter
from ipsecd.model.addresses import Family, HostName, Network
from ipsecd.model.fields import FIELDS
from ipsecd.model.values import Action, Endpoint, Filter, InForce, Origin, Policy, Rule, Store
from tests.ctl.conftest import Run
from tests.ctl.fake_daemon import FakeDaemon
from tests.ctl.netsh_host import NetshHost
from tests.strategies import policies

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/export.schema.json").read_text())
WEB = """
policy: Web
description: The web server
rules:
  - rule: Nothing else
    action: block
    when: opening
    filters: ["*=0"]
  - rule: Web
    action: permit
    filters: ["*=0:80,443:TCP", "192.0.2.0/24=0:22:TCP"]
  - rule: Bans
    action: block
    interface: lan
    filters: ["@bans=0", "cafe.example.net=0", "container:web=*"]
  - rule: Trial
    action: audit
    filters: ["0=*:1434:UDP"]
"""
NFT = f"""
#!/usr/sbin/nft -f
# what is in force: 6 filters, as a table that needs no daemon.
# In force with 'nft -f FILE', gone with 'nft delete table inet {TABLE}'.
# Of the rules for a packet the first decides. What no rule matches passes.
# List @bans had 3 entries; it is not followed.
# cafe.example.net was 192.0.2.7; it is not followed.
# Left out: policy 'Web', rule 'Bans': container:web=* is left out: container:web has other \
addresses whenever it is started
"""


def listed(policy: Policy, *, names: dict[str, list[str]]) -> list[dict[str, Any]]:
    """The filters of a policy as the daemon tells those that are in force."""
    return [
        {
            "store": "static",
            "policy": policy.name,
            "rule": rule.name,
            "filter": format_filter(flt),
            "action": policy.action_of(rule).value,
            "interface": rule.conditions.interface_text,
            "when": rule.conditions.when,
            "remaining_s": None,
            "names": [
                {"name": name, "addresses": addresses}
                for name, addresses in names.items()
                if name in format_filter(flt)
            ],
        }
        for rule in policy.rules
        for flt in rule.filters
    ]


def serve(daemon: FakeDaemon, text: str, *, dynamic: Sequence[dict[str, Any]] = ()) -> Policy:
    """Have the daemon keep this policy, with a list of bans."""
    policy = parse_policy(text)
    path = "/etc/ipsecd/policies/web.yaml"
    summary = {"description": "", "path": path, "assigned": True, "rules": 1, "filters": 1}
    stored = {"document": text, "path": path, "store": "static", "assigned": True}
    daemon.replies |= {
        "ListPolicies": {
            "policies": [
                {"name": policy.name, "store": "static", **summary, "audit": False, "error": None}
            ]
        },
        "GetPolicy": {**stored, "id": "x", "overriding": None},
        "ListFilters": {"filters": listed(policy, names={"cafe.example.net": ["192.0.2.7"]})},
        "ListDynamic": {"rules": list(dynamic)},
    }
    bans = {"name": "bans", "entries": 3, "ipv4": 3, "ipv6": 0, "added": 0, "ending": 0}
    bans |= {"ends": None, "path": None, "url": None, "every_s": None, "fetched": None}
    bans |= {"checked": None, "problems": [], "rules": [], "domain": False, "counted": False}
    entries = ["10.0.0.0/8", "10.1.2.3", "198.51.100.0/24"]
    daemon.replies["ListLists"] = {"lists": [bans]}
    daemon.replies["GetList"] = {"list": bans, "entries": entries, "ending": []}
    return policy


def test_nft_says_what_is_not_followed(daemon: FakeDaemon, run: Run) -> None:
    """In comments, and of what is left out also on standard error and by the exit code."""
    serve(daemon, WEB)
    ran = run("ipsecctl", "export", "nft")
    assert ran.out.startswith(NFT.lstrip())
    assert ran.code == 1
    assert "rule 'Bans': container:web=* is left out" in ran.err
    assert "1 thing could not be exported" in ran.err


def test_nft_is_what_a_person_would_write(daemon: FakeDaemon, run: Run) -> None:
    """Addresses and ports of a rule are one line; the order of lines is that of the ranks."""
    serve(daemon, WEB.replace(', "container:web=*"', ""))
    ran = run("ipsecctl", "export", "nft")
    assert (ran.code, ran.err) == (0, "")
    chain = ran.out.partition("chain arriving_ip4_checked_me {\n")[2].partition("}\n")[0]
    lan = 'iiftype != { 256, 257, 258, 259, 512, 519 } iifname != "ww*" counter'
    assert [line.strip() for line in chain.splitlines() if line.strip()] == [
        f'ip saddr @list0_bans_ip4_32 {lan} drop comment "Web / Bans"',
        f'ip saddr 192.0.2.7 {lan} drop comment "Web / Bans"',
        'ip saddr 192.0.2.0/24 tcp dport 22 counter accept comment "Web / Web"',
        f'ip saddr @list0_bans_ip4_8_24 {lan} drop comment "Web / Bans"',
        'tcp dport { 80, 443 } counter accept comment "Web / Web"',
        'ct state { new, invalid, untracked } counter drop comment "Web / Nothing else"',
    ]


def test_every_field_has_words() -> None:
    """Whoever adds a field decides how it is exported, and says so here."""
    assert [field.name for field in FIELDS] == [
        *("source", "destination", "protocol", "source_ports", "destination_ports", "message"),
        *("interface_type", "interface_name", "process", "opening"),
    ]


def test_names_stay_comments(daemon: FakeDaemon, run: Run) -> None:
    """Whatever a rule is called, it is one comment, and as long as nft takes it."""
    name = 'a "b" ${c} #' + "é" * 100
    serve(daemon, f"policy: P\nrules:\n  - {{rule: '{name}', action: block, filters: ['*=0']}}\n")
    text = run("ipsecctl", "export", "nft").out
    (comment,) = {line.partition("comment ")[2] for line in text.splitlines() if "P / a" in line}
    assert comment.startswith("\"P / a 'b' ${c} #éé")
    assert comment.count('"') == 2
    assert len(comment.encode()) <= 2 + 127


def test_what_is_no_policy_is_told(daemon: FakeDaemon, run: Run) -> None:
    """A file that cannot be used, and the policy of the domain, are in no script of all."""
    serve(daemon, "policy: P\nrules: []\n")
    told = daemon.replies["ListPolicies"]
    assert isinstance(told, dict)
    (summary,) = told["policies"]
    told["policies"] += [
        {**summary, "name": "broken.yaml", "error": "line 3: no"},
        {**summary, "name": "Fleet", "store": "domain"},
    ]
    for form in ("ipseccmd", "netsh"):
        ran = run("ipsecctl", "export", form)
        assert ran.code == 1
        assert "# Left out: policy 'Fleet': all of it is left out: it is the domain's\n" in ran.out
        assert "policy 'broken.yaml': all of it is left out: its file cannot be used" in ran.err
        assert run("ipsecctl", "export", form, "P").code == 0


def test_nft_of_a_policy_leaves_the_rest(daemon: FakeDaemon, run: Run) -> None:
    """A policy that is named stands alone, beside what the settings protect."""
    serve(daemon, WEB)
    told = daemon.replies["ListFilters"]
    assert isinstance(told, dict)
    told["filters"] += [
        {**told["filters"][0], "store": "dynamic", "policy": "", "rule": "ban", "when": None},
        {**told["filters"][0], "store": "configuration", "policy": "", "rule": "protected",
         "action": "permit", "filter": "198.51.100.9+0", "when": None},
    ]  # fmt: skip
    text = run("ipsecctl", "export", "nft", "Web").out
    assert '"dynamic / ban"' not in text
    assert "198.51.100.9" in text
    assert "# policy 'Web': " in text
    assert '"dynamic / ban"' in run("ipsecctl", "export", "nft").out


def test_a_list_is_a_set_for_what_ranks_together(daemon: FakeDaemon, run: Run) -> None:
    """Where a filter of the other action stands between its entries, they are apart."""
    head = "policy: P\nrules:\n  - {rule: B, action: block, filters: ['@bans=0']}\n"
    serve(daemon, head)
    text = run("ipsecctl", "export", "nft").out
    assert "set list0_bans_ip4 {" in text
    assert "10.1.2.3" not in text.partition("elements")[2].partition("}")[0]
    between = "  - {rule: A, action: permit, filters: ['10.0.0.0/16=0']}\n"
    serve(daemon, head + between)
    text = run("ipsecctl", "export", "nft").out
    sets = {line.split()[1] for line in text.splitlines() if line.strip().startswith("set ")}
    assert sets == {"list0_bans_ip4_24_32", "list0_bans_ip4_8"}


def test_it_is_written_into_a_file(daemon: FakeDaemon, run: Run, tmp_path: Path) -> None:
    """With --output; with --json it is said what is left out."""
    serve(daemon, WEB)
    path = tmp_path / "web.nft"
    ran = run("ipsecctl", "export", "nft", "--output", str(path))
    assert (ran.code, ran.out) == (1, f"{path}: written\n")
    text = path.read_text()
    assert f"table inet {TABLE} {{" in text
    answer = json.loads(run("ipsecctl", "export", "nft", "--json").out)
    assert answer["text"] == text
    assert [one["rule"] for one in answer["left_out"]] == ["policy 'Web', rule 'Bans'"]


IPSECCMD = """\
#!/bin/sh
# Ends at the first command that fails.
set -e
# What ipsecd has, for ipseccmd. Run again, it changes nothing.
# Left out: policy 'Web', rule 'Nothing else': all of it is left out: the command does not ask \
whether a packet opens a connection
# Left out: policy 'Web', rule 'Bans': @bans=0 is left out: the command knows addresses and DNS \
names, and not @bans
# Left out: policy 'Web', rule 'Bans': container:web=* is left out: the command knows addresses \
and DNS names, and not container:web
# Left out: policy 'Web', rule 'Trial': all of it is left out: an audit only counts, and the \
command knows block and permit

# Policy 'Web'
# Without its description.
# Only for ipsecd, and not for Windows: lists of ports
ipseccmd -w REG -p Web -r Web -f '*=0:80,443:TCP' 192.0.2.0/24=0:22:TCP -n PASS
ipseccmd -w REG -p Web -r Bans -f cafe.example.net=0 -n BLOCK -lan
ipseccmd -w REG -p Web -x
"""


def test_ipseccmd_has_what_it_has_words_for(daemon: FakeDaemon, run: Run) -> None:
    """The rest is left out by name, and the exit code says so."""
    serve(daemon, WEB)
    ran = run("ipsecctl", "export", "ipseccmd", "Web")
    assert (ran.code, ran.out) == (1, IPSECCMD)
    assert "4 things could not be exported" in ran.err


def test_dynamic_rules_that_end_are_not_made_to_last(daemon: FakeDaemon, run: Run) -> None:
    """The old dialects know no end: such a rule is left out, and others are there."""
    rule: dict[str, Any] = {"name": "ban", "action": "block", "filters": ["192.0.2.9=0"]}
    rule |= {"interface": None}
    rule |= {"when": None, "by": "uid 0 (root)", "created": 1.0, "names": None}
    rules = [{**rule, "remaining_s": None}, {**rule, "name": "short", "remaining_s": 9.5}]
    serve(daemon, "policy: P\nrules: []\n", dynamic=rules)
    ran = run("ipsecctl", "export", "ipseccmd")
    assert ran.code == 1
    assert "ipseccmd -w REG -p P\n" in ran.out
    assert "ipseccmd -f 192.0.2.9=0 -n BLOCK\n" in ran.out
    assert "dynamic rule 'short': all of it is left out" in ran.err
    ran = run("ipsecctl", "export", "netsh")
    assert (
        "netsh ipsec dynamic add rule srcaddr=192.0.2.9 dstaddr=me protocol=ANY mirrored=no "
        "mmpolicy=none actioninbound=block actionoutbound=block\n"
    ) in ran.out


def made_by_ipseccmd(script: str) -> tuple[dict[str, dict[str, Rule]], str | None]:
    """The rules of each policy that the commands of a script make, and which is assigned."""
    made: dict[str, dict[str, Rule]] = {}
    assigned = None
    for line in script.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] != ["ipseccmd"]:
            continue
        switches = parse_switches(words[1:])
        rules = made.setdefault(switches.policy, {})
        if switches.filters:
            (name,) = switches.rules
            filters = tuple(parse_filter(text) for text, _ in switches.filters)
            rules[name] = Rule(name, filters, Action(switches.filters[0][1]))
        if "-x" in switches.flags:
            assigned = switches.policy
    return made, assigned


@settings(max_examples=60, deadline=None)
@given(policies(names=True))
def test_ipseccmd_makes_the_same_again(policy: Policy) -> None:
    """Every rule is made by the commands, or its filters are told to be left out."""
    exported = ipseccmd.export([Stored(policy, Store.STATIC, assigned=True)], [])
    left_out = {(each.rule, each.what) for each in exported.left_out}
    whole = (f"policy {policy.name!r}", "all of it")
    if whole in left_out:
        return
    made, assigned = made_by_ipseccmd(exported.text)
    assert assigned == policy.name
    for rule, rests in policy.written_rules():
        place = f"policy {policy.name!r}, rule {rule.name!r}"
        if (place, "all of it") in left_out:
            assert rule.name not in made[policy.name]
            continue
        assert not rests
        kept = [flt for flt in rule.filters if (place, format_filter(flt)) not in left_out]
        found = made[policy.name].get(rule.name)
        assert [*(found.filters if found else ())] == kept
        assert found is None or found.action is policy.action_of(rule)


@settings(max_examples=80, deadline=None)
@given(policies(names=True))
def test_netsh_makes_the_same_again(policy: Policy) -> None:
    """Every rule is made by the commands, switched off or not, or is told to be left out."""
    exported = netsh.export([Stored(policy, Store.STATIC, assigned=True)], [])
    host = NetshHost()
    for line in exported.text.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["netsh"]:
            answer = host.line(words[1:])
            assert (answer.code, answer.lines) == (0, ()), line
    left_out = {(each.rule, each.what) for each in exported.left_out}
    made = host.policy(policy.name)
    assert (host.assigned, made.description) == (policy.name, said(policy.description))
    by_name = {rule.name: (rule, rests) for rule, rests in made.written_rules()}
    for rule, rests in policy.written_rules():
        place = f"policy {policy.name!r}, rule {rule.name!r}"
        if (place, "all of it") in left_out:
            assert rule.name not in by_name
            continue
        kept = [flt for flt in rule.filters if (place, format_filter(flt)) not in left_out]
        if not kept and rule.filters:
            assert rule.name not in by_name
            continue
        again, rests_again = by_name[rule.name]
        assert rests_again is rests
        assert (again.action, again.description) == (rule.action, said(rule.description))
        assert again.conditions == rule.conditions
        assert matched(again.filters) == matched(kept)


def said(description: str) -> str:
    """What of a description can stand in a command."""
    return description.strip() if description.isprintable() else ""


def matched(filters: Iterable[Filter]) -> set[object]:
    """What filters match, whether several ports are in one of them or in several."""

    def known(end: Endpoint) -> Endpoint:
        if not isinstance(end.address, HostName):
            return end
        number = zlib.crc32(end.address.name.encode())
        both = [Network(family, number, family.bits) for family in Family]
        return replace(end, address=HostName(end.address.name, tuple(both)))

    some = [
        InForce(
            Origin("static", "P", "R"),
            replace(flt, source=known(flt.source), destination=known(flt.destination)),
            Action.BLOCK,
        )
        for flt in filters
    ]
    return {(match.family, match.values) for match in matches_of(some) if match.points}


@pytest.mark.parametrize("name", ["Web:5", "Web:", "a 'quoted' $name", "Web:5:0", "-x"])
def test_names_are_read_as_they_were(name: str) -> None:
    """A policy whose name looks like an interval keeps its name; one like a switch is left out."""
    policy = Policy(name, (Rule("R", (parse_filter("*=0"),), Action.BLOCK),))
    exported = ipseccmd.export([Stored(policy, Store.STATIC, assigned=False)], [])
    made, _ = made_by_ipseccmd(exported.text)
    assert [*made] == ([] if name == "-x" else [name])
    assert bool(exported.left_out) is (name == "-x")


def test_json_is_as_its_schema_says(daemon: FakeDaemon, run: Run) -> None:
    """The whole document, and the policy in it is one that apply takes."""
    rule: dict[str, Any] = {"name": "ban", "action": "block", "filters": ["x.example=0:25"]}
    rule |= {"interface": "wg*"}
    rule |= {"when": "opening", "by": "uid 0 (root)", "created": 1.0, "remaining_s": 5.0}
    names = [{"name": "x.example", "addresses": ["192.0.2.1"]}]
    policy = serve(daemon, WEB, dynamic=[{**rule, "names": names}])
    ran = run("ipsecctl", "export", "json")
    document = json.loads(ran.out)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert (ran.code, ran.err) == (0, "")
    (stored,) = document["policies"]
    jsonschema.Draft202012Validator(policy_schema()).validate(stored["document"])
    assert parse_policy(json.dumps(stored["document"])) == policy
    assert document["dynamic"][0]["addresses"] == {"x.example": ["192.0.2.1"]}
    assert document["lists"][0]["entries"] == 3
    assert "dynamic" not in json.loads(run("ipsecctl", "export", "json", "Web").out)


def _one_letter(pair: re.Match[str]) -> str:
    letter: str = json.loads(f'"{pair[2]}"')
    return pair[1] + letter


@settings(max_examples=60, deadline=None)
@given(policies(names=True, expect=True))
def test_every_policy_has_a_json_form(policy: Policy) -> None:
    """It is read back as the same policy, as jq writes it."""
    text = json.dumps(policy_document(policy)).replace("\x7f", "\\u007f")
    # YAML does not take one letter for two, which JSON in ASCII has beyond the first 65,536.
    text = re.sub(r"(?<!\\)((?:\\\\)*)(\\ud[89ab]..\\ud[c-f]..)", _one_letter, text)
    assert parse_policy(text) == parse_policy(format_policy(policy))


def test_every_filter_of_a_filter_list_is_exported() -> None:
    """Also those that a list of addresses holds for it; the lists of others stay named."""
    host = NetshHost()
    host.lists["netsh-Bans"] = {
        Network(Family.IPV4, 0xC6336400, 24),
        Network(Family.IPV6, 0x20010DB8 << 96, 32),
    }
    policy = parse_policy(
        """
policy: P
rules:
  - rule: R
    action: block
    filter-list: Bans
    filters: ["*=0:445:TCP", "@netsh-Bans:9=0::TCP", "0=@drop"]
  - rule: By hand
    action: block
    filters: ["@netsh-Bans=0"]
  - rule: Off
    enabled: false
    action: block
    filter-list: Bans
    filters: ["0+@netsh-Bans"]
"""
    )
    whole = without_filter_lists_folded(host, policy)  # type: ignore[arg-type]
    texts = [[format_filter(flt) for flt in rule.filters] for rule, _ in whole.written_rules()]
    assert sorted(texts) == sorted(
        [
            ["*=0:445:TCP", "198.51.100.0/24:9=0::TCP", "[2001:db8::]/32:9=0::TCP", "0=@drop"],
            ["@netsh-Bans=0"],
            ["0+198.51.100.0/24", "0+[2001:db8::]/32"],
        ]
    )
