"""Lines of real scripts, as processes one after the other, with the verdicts that were meant."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.netns import site
from tests.netns.site import Daemon, Namespace, run

pytestmark = pytest.mark.netns

SCRIPTS = yaml.safe_load(
    (Path(__file__).parents[1] / "data" / "scripts" / "ipseccmd.yaml").read_text()
)
_WORD = re.compile(r'(?:[^\s">]|"[^"]*")+')
_TO_NOWHERE = re.compile(r">\s*nul\b", re.IGNORECASE)
REFUSED = (
    ("-t 203.0.113.1", "does not encrypt"),
    ("-a p:", "does not encrypt"),
    ("10.5.5.7", "names another computer"),
    ("ipseccmd export", "backup"),
    ("ipseccmd import", "restore"),
    (" - r ", "a blank follows '-'"),
    ('-p "warden_firewall" -y', "there is no policy"),
    ('-p "warden_firewall" -o', "there is no policy"),
    ("-p Dialer -y", "there is no policy"),
    ("-p Dialer -o", "there is no policy"),
    ("ipsecmon", "ipsecctl show"),
    ("netsh ipsec static show all", "there are no policies"),
)
"""Parts of lines that ask for what is not done here, and of what is said then."""


def words_of(line: str) -> list[str]:
    """The words of a line as the shell of Windows takes it apart, for the agent's commands."""
    line = _TO_NOWHERE.sub("", line)
    return [word.replace('"', "") for word in _WORD.findall(line)]


def script_groups() -> list[list[dict[str, Any]]]:
    """Scripts, each with those that go on where it ends."""
    groups: list[list[dict[str, Any]]] = []
    for script in SCRIPTS:
        if str(script["script"]).endswith("b"):
            groups[-1].append(script)
        else:
            groups.append([script])
    return groups


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with site.daemon(tmp_path_factory.mktemp("scripts")) as running:
        run("ip", "address", "add", "10.9.0.2/24", "dev", "wire0")
        peer: Namespace = ("-n", site.PEER)
        run("ip", *peer, "address", "add", "10.9.0.1/24", "dev", "wire1")
        yield running


@pytest.fixture
def empty(daemon: Daemon) -> Daemon:
    """The daemon without any rule."""
    daemon.ctl("net", "start", "policyagent")
    daemon.ctl("flush")
    for policy in json.loads(daemon.ctl("policy", "list", "--json")):
        daemon.ctl("policy", "delete", policy["name"], "--unassign")
    return daemon


@pytest.mark.parametrize("group", script_groups(), ids=lambda group: str(group[0]["script"]))
def test_script(empty: Daemon, group: list[dict[str, Any]]) -> None:
    """Every line works, or is refused with the reason, and the packets fare as was meant."""
    for script in group:
        for line in script["lines"]:
            refusal = next((said for part, said in REFUSED if part in line), None)
            words = words_of(line.removeprefix("ipsecctl "))
            if refusal:
                said = empty.ctl(*words, code=2 if "blank" in refusal else 1)
                assert refusal in said, line
            else:
                empty.ctl(*words, code=0)
        for packet, wanted in script.get("wanted", ()):
            judged = json.loads(empty.ctl("explain", packet, "--json"))
            assert judged["decision"] == wanted, (script["script"], packet, judged)
