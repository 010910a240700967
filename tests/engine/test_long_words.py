"""Tests of what the methods answer to words that are far too long, or far too many."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ipsecd.control import Control
from ipsecd.errors import IpsecdError
from ipsecd.protocol.errors import to_wire
from tests.engine.site import Site

LONG = "a" * 2_000_000
DOCUMENT = b"policy: P\nrules: [{rule: R, action: block, filters: ['*=0:80:TCP']}]\n"
DYNAMIC = {"filters": ["*=0:80:TCP"], "action": "block"}
RULE = {"name": "R", "action": "block", "filters": ["*=0:80:TCP"], "interface": None}
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("GetPolicy", {"name": LONG}),
    ("AnnounceContainer", {"id": LONG, "addresses": [LONG], "shared": False}),
    ("Explain", {"packet": LONG}),
    ("Explain", {"packet": f"tcp {LONG} > me:80"}),
    ("Explain", {"packet": f"tcp 192.0.2.1:1 > me:{LONG}"}),
    ("AddDynamic", {**DYNAMIC, "filters": [LONG]}),
    ("AddDynamic", {**DYNAMIC, "action": LONG}),
    ("AddDynamic", {**DYNAMIC, "interface": LONG}),
    ("AddDynamic", {**DYNAMIC, "name": LONG}),
    ("RemoveDynamic", {"selector": LONG}),
    ("ApplyPolicy", {"source": LONG, "content": LONG.encode()}),
    ("ApplyPolicy", {"source": LONG, "content": b"#" * ((16 << 20) + 1)}),
    ("ApplyPolicy", {"source": LONG, "content": DOCUMENT.replace(b"block", b"no")}),
    ("CreatePolicy", {"name": LONG}),
    ("DeletePolicy", {"name": LONG}),
    ("AssignPolicy", {"name": LONG}),
    ("UnassignPolicy", {"name": LONG}),
    ("PutRules", {"policy": LONG, "rules": [RULE], "create": True}),
    ("PutRules", {"policy": "P", "rules": [{**RULE, "name": LONG}], "create": True}),
    ("PutRules", {"policy": "P", "rules": [{**RULE, "action": LONG}], "create": True}),
    ("PutRules", {"policy": "P", "rules": [{**RULE, "filters": [LONG]}], "create": True}),
    ("PutRules", {"policy": "P", "rules": [{**RULE, "interface": LONG}], "create": True}),
    ("RemoveRules", {"policy": LONG, "rules": ["R"]}),
    ("RemoveRules", {"policy": "P", "rules": [LONG]}),
]


def call(
    site: Site, method: str, content: bytes | None = None, **parameters: Any
) -> dict[str, Any]:
    return Control(site.engine).call(method, parameters, "uid 0", {}, content)


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_no_method_echoes_what_is_too_long(site: Site, number: int) -> None:
    """Each quotes its beginning, and is no answer by itself."""
    method, parameters = CALLS[number]
    call(site, "ApplyPolicy", DOCUMENT)
    with pytest.raises(IpsecdError) as caught:
        call(site, method, **parameters)
    assert len(str(caught.value)) < 800
    assert "a" * 1000 not in str(caught.value)
    assert len(json.dumps(to_wire(caught.value))) < 1500


def test_long_and_many_changes_are_summed_up(site: Site) -> None:
    """What changed is counted, and of long lines the ends are shown."""
    ports = ",".join(map(str, range(1, 20_001, 2)))
    rules = "".join(
        f'  - {{rule: R{n}, action: block, filters: ["*=0:{ports}:TCP"]}}\n' for n in range(60)
    )
    document = f"policy: P\nrules:\n{rules}".encode()
    message = call(site, "ApplyPolicy", document)["outcome"]["message"]
    first, *changes = message.splitlines()
    assert first == "policy 'P' is stored: 60 rules and 60 filters are new"
    assert changes[-1] == "and 20 more lines"
    assert max(map(len, changes)) < 500
    described = f"policy: P\ndescription: {LONG[:100_000]}\nrules: []\n".encode()
    message = call(site, "ApplyPolicy", described)["outcome"]["message"]
    assert message.startswith("policy 'P' is stored: 60 rules and 60 filters are gone\n")
    assert len(message) < 25_000


def test_small_changes_are_not_counted(site: Site) -> None:
    """What one reads at a glance needs no sum."""
    message = call(site, "ApplyPolicy", DOCUMENT)["outcome"]["message"]
    assert message == "policy 'P' is stored:\n+ rule \"R\": block *=0:80:TCP"


def test_many_rules_are_named_by_the_first(site: Site) -> None:
    """Whoever stores thousands of rules at once is not told each of their names."""
    rules = [{**RULE, "name": f"rule {n}"} for n in range(3000)]
    done = call(site, "PutRules", policy="P", rules=rules, create=True)["outcome"]
    assert done["message"].startswith("rules 'rule 0', 'rule 1', ")
    assert done["message"].endswith(" and 2,992 more are stored in policy 'P'")


def test_many_broken_files_are_summed_up(site: Site) -> None:
    """A reload names the first files that it cannot use, and counts the others."""
    directory = site.directories.config / "policies"
    directory.mkdir(parents=True, exist_ok=True)
    for n in range(200):
        (directory / f"broken-{n:03}.yaml").write_text("nonsense\n")
    message = call(site, "Reload", resolve=False)["outcome"]["message"]
    assert "broken-000.yaml" in message
    assert message.endswith("\nand 190 more")
    assert len(message.splitlines()) < 40
