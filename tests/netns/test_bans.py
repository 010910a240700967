"""Ban lists of ten thousand addresses with the real commands, and real packets."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns import site
from tests.netns.site import HERE4, PEER4, Daemon, delivered, dynamic_entries

pytestmark = pytest.mark.netns

PORT = 1434
MANY = 10_000
ADDRESSES = [PEER4, *(f"10.{n >> 8}.{n & 255}.1" for n in range(MANY - 1))]


@pytest.fixture(params=site.BACKENDS)
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    with site.daemon(tmp_path, request.param) as running:
        yield running


def in_force(daemon: Daemon) -> int:
    return sum(len(rule["filters"]) for rule in json.loads(daemon.ctl("show", "dynamic", "--json")))


def fed(daemon: Daemon, lines: list[str], *words: str) -> subprocess.CompletedProcess[str]:
    """What a command comes to that reads `lines` from standard input."""
    return subprocess.run(
        words,
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        env=daemon.environment,
        check=False,
    )


def test_a_list_is_in_force_by_one_command(daemon: Daemon) -> None:
    """It is one change; the same again changes nothing; without one address, all others stay."""
    words = (sys.executable, "-m", "ipsecctl", "block", "-", "--json")
    assert delivered(HERE4, PORT) == 5
    first = fed(daemon, ADDRESSES, *words)
    assert first.returncode == 0, first.stderr
    answer = json.loads(first.stdout)
    assert (answer["changed"], answer["added"], len(answer["rules"])) == (True, MANY, MANY)
    assert len(dynamic_entries(daemon)) == MANY
    assert delivered(HERE4, PORT) == 0
    assert json.loads(fed(daemon, ADDRESSES, *words).stdout)["changed"] is False
    wrong = fed(daemon, [*ADDRESSES[:5000], "10.0.0.256", "10.255.255.255"], *words)
    assert (wrong.returncode, "<stdin>:5001" in wrong.stderr) == (1, True)
    assert in_force(daemon) == len(dynamic_entries(daemon)) == MANY
    daemon.ctl("unblock", PEER4)
    assert in_force(daemon) == len(dynamic_entries(daemon)) == MANY - 1
    assert delivered(HERE4, PORT) == 5
    daemon.ctl("unblock", PEER4, code=1)


def test_a_list_is_in_force_by_many_commands(daemon: Daemon) -> None:
    """As ``xargs`` gives them: each ban is one rule, and a second run renews them and says so."""
    words = ("xargs", "-n", "500", sys.executable, "-m", "ipsecctl", "block", "--for", "1h")
    for what in ("new", "renewed"):
        done = fed(daemon, ADDRESSES, *words)
        assert done.returncode == 0, done.stderr
        said = done.stdout.splitlines()
        assert len(said) == MANY // 500
        assert all(f" as 500 rules (500 {what}): " in line for line in said)
        assert in_force(daemon) == len(dynamic_entries(daemon)) == MANY
        assert delivered(HERE4, PORT) == 0
    daemon.ctl("unblock", PEER4)
    assert in_force(daemon) == len(dynamic_entries(daemon)) == MANY - 1
    assert delivered(HERE4, PORT) == 5


def test_a_rule_of_many_gives_up_one(daemon: Daemon) -> None:
    """One rule with a name, and what outranks it or blocks all the same is named."""
    daemon.put(
        "policy: P\nrules:\n"
        "  - {rule: Friends, action: permit, filters: ['192.168.1.66=0:1435:UDP']}\n"
        "  - {rule: Wide, action: block, filters: ['192.168.0.0/16=0']}\n"
    )
    said = daemon.ctl("block", *ADDRESSES[:500], "--name", "bans")
    assert "warning: udp 192.168.1.66:49152 > 192.168.1.1:1435 still passes" in said
    assert "'Friends' of policy 'P' outranks 192.168.1.66=0" in said
    assert delivered(HERE4, 1435) == 5
    assert delivered(HERE4, PORT) == 0
    refused = daemon.ctl("block", "10.9.9.9", "--name", "bans", code=1)
    assert "--replace" in refused
    assert "--add" in refused
    said = daemon.ctl("unblock", PEER4)
    assert "192.168.1.66 is still blocked: 192.168.0.0/16=0 of rule 'Wide' of policy 'P'" in said
    assert in_force(daemon) == 499
    assert delivered(HERE4, PORT) == 0
    daemon.ctl("policy", "unassign")
    assert delivered(HERE4, PORT) == 5
    daemon.ctl("block", PEER4, "--name", "bans", "--add")
    assert in_force(daemon) == 500
    assert delivered(HERE4, PORT) == 0
    daemon.ctl("block", "10.9.9.9", "--name", "bans", "--replace")
    assert in_force(daemon) == 1
    assert delivered(HERE4, PORT) == 5


def test_what_is_protected_is_not_banned(daemon: Daemon) -> None:
    """Alone, by a wider network, or as one of ten thousand: nothing of the command is in force."""
    settings = daemon.directory / "ipsecd.yaml"
    settings.write_text(f"protect:\n  - {PEER4}\n")
    daemon.end()
    daemon.options = ("--config", str(settings))
    daemon.start()
    for words in ([PEER4], ["10.9.9.9", "192.168.0.0/16"], [f"0={PEER4}"], ["0.0.0.0/0+0"]):
        said = daemon.ctl("block", *words, code=1)
        assert f"{PEER4}, which is protected: {settings}:2" in said
    refused = fed(daemon, ADDRESSES[::-1], sys.executable, "-m", "ipsecctl", "block", "-")
    assert (refused.returncode, f"'{PEER4}=0' would block" in refused.stderr) == (1, True)
    assert in_force(daemon) == len(dynamic_entries(daemon)) == 0
    assert delivered(HERE4, PORT) == 5
    daemon.ctl("block", f"udp/{PORT}")
    assert delivered(HERE4, PORT) == 0
