"""``ipsecctl import``: what it writes, prints and refuses; no daemon is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ipsecd.language.documents import parse_policy
from tests.ctl.conftest import Run
from tests.importing.corpus import DIRECTORY

pytestmark = pytest.mark.usefixtures("no_daemon")
WORKSTATION = str(DIRECTORY / "workstation.v4")
SETS = ("iptables-save", str(DIRECTORY / "sets.v4"), "--set", str(DIRECTORY / "sets.ipset"))


def test_the_policy_is_printed_and_the_report_stands_beside_it(run: Run) -> None:
    """What is printed is the document alone, so that it can go on to another command."""
    ran = run("ipsecctl", "import", "iptables-save", WORKSTATION, "--prove", "--policy", "Desk")
    assert ran.code == 0
    assert parse_policy(ran.out.encode(), "out").name == "Desk"
    assert "6 rules read" in ran.err
    assert "and decided alike" in ran.err


def test_a_difference_is_told_and_ends_with_1(run: Run) -> None:
    """It is told with a packet that explain takes, and by which rules."""
    ran = run("ipsecctl", "import", "iptables-save", str(DIRECTORY / "server.v4"), "--prove")
    assert ran.code == 1
    assert "DIFFERENT: tcp 203.0.113.7:40000 > me:80 (invalid)" in ran.err
    assert "server.v4:10: -A INPUT -m conntrack --ctstate INVALID -j DROP" in ran.err
    assert "WEAKER THAN THE ORIGINAL" in ran.err
    # Without being asked for a proof, what was said beforehand is no failure.
    assert run("ipsecctl", "import", "iptables-save", str(DIRECTORY / "server.v4")).code == 0


def test_lists_need_a_directory(run: Run, tmp_path: Path) -> None:
    """Where they are needed nothing is printed that is not whole."""
    ran = run("ipsecctl", "import", *SETS)
    assert (ran.code, ran.out) == (1, "")
    assert "-o DIR" in ran.err
    into = tmp_path / "new"
    ran = run("ipsecctl", "import", *SETS, "-o", str(into), "--policy", "Net 1")
    assert ran.code == 0
    policy = parse_policy((into / "Net-1.yaml").read_bytes(), "file")
    entries = (into / "lists" / "spammers").read_text(encoding="utf-8").split()
    assert "@spammers=0" in (into / "Net-1.yaml").read_text(encoding="utf-8")
    assert policy.name == "Net 1"
    assert "203.0.113.0/28" in entries
    again = run("ipsecctl", "import", *SETS, "-o", str(into), "--policy", "Net 1")
    assert again.code == 1
    assert "is there already" in again.err


def test_json_has_all_of_it(run: Run) -> None:
    """The policy, its lists, the notes and the proof are one document."""
    ran = run("ipsecctl", "import", *SETS, "--prove", "--json")
    answer = json.loads(ran.out)
    assert answer["lists"]["spammers"][0] == "198.51.100.1"
    assert answer["proof"]["complete"] is True
    assert {"file", "line", "text", "kind", "reason", "hint", "weaker"} <= answer["notes"][0].keys()
    assert answer["weaker"] is True


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("*filter\n-A NOWHERE -j ACCEPT\n", "rules:2"),
        ("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s 10.0.0.0/8 -j nobody\n", "rules:3"),
        ("*filter\n:A - [0:0]\n-A A -j A\n", "rules:3"),
        ("*filter\n-A INPUT -p tcp --dport 99999 -j DROP\n", "rules:2"),
        ("nonsense\n", "rules:1"),
    ],
)
def test_what_is_no_rule_set_is_refused_with_its_line(
    run: Run, tmp_path: Path, text: str, where: str
) -> None:
    """Nothing is written, and the error says where."""
    file = tmp_path / "rules"
    file.write_text(text, encoding="utf-8")
    ran = run("ipsecctl", "import", "iptables-save", str(file), "-o", str(tmp_path / "out"))
    assert ran.code == 1
    assert where in ran.err
    assert not (tmp_path / "out").exists()


def test_a_source_that_is_not_known_is_a_wrong_command_line(run: Run) -> None:
    """It is told which there are."""
    ran = run("ipsecctl", "import", "pf", WORKSTATION)
    assert ran.code == 2
    assert "iptables-save" in ran.err


OWN_TABLE = """
table inet ipsecd { # progname python
	flags owner,persist

	chain arriving {
		type filter hook prerouting priority raw - 1; policy accept;
		meta nfproto ipv4 goto arriving_ip4
	}
}
"""
DORMANT = """
table ip old {
	flags dormant

	chain input {
		type filter hook input priority filter; policy drop;
	}
}
"""
OTHERS = """
table inet mine {
	flags owner

	chain input {
		type filter hook input priority filter; policy accept;
		iifname "eth0" tcp dport 23 drop
	}
}
"""


def test_nft_leaves_out_what_is_not_to_be_moved(run: Run, tmp_path: Path) -> None:
    """The daemon's own table, which is there while a host is moved over, and dormant ones."""
    file = tmp_path / "rules.nft"
    file.write_text(OWN_TABLE + DORMANT + OTHERS)
    ran = run("ipsecctl", "import", "nft", str(file), "--prove", "--json")
    assert ran.code == 0
    answer = json.loads(ran.out)
    assert [note["reason"] for note in answer["notes"]] == [
        "this is what ipsecd enforces",
        "no rule of it is in force",
    ]
    (rule,) = parse_policy(answer["policy"].encode(), "out").rules
    assert rule.name.endswith("tcp dport 23 drop")
