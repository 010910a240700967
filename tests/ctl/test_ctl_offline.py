"""Tests of what works without a daemon: check, format, diff of two files, explain --offline."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from ipsecd.errors import NotFound
from ipsecd.language.documents import format_policy, parse_policy
from tests.ctl.conftest import Run
from tests.ctl.fake_daemon import DOCUMENT, FakeDaemon

UNTIDY = DOCUMENT.replace("*=0:80:TCP", "*:0 = 0:80:tcp")
CANONICAL = format_policy(parse_policy(DOCUMENT))

pytestmark = pytest.mark.usefixtures("no_daemon")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "web.yaml"
    path.write_text(UNTIDY)
    return path


def test_check_of_a_good_file(run: Run, file: Path) -> None:
    """A valid file is summed up."""
    ran = run("ipsecctl", "check", str(file))
    assert ran.code == 0
    assert ran.out == f"{file}: policy 'Web' is valid · 1 rule, 1 filter\n"
    verdict = json.loads(run("ipsecctl", "check", str(file), "--json").out)
    assert (verdict["rules"], verdict["errors"]) == (1, [])


def test_check_of_a_bad_file(run: Run, file: Path) -> None:
    """An invalid one is named with its line, beside the good ones, and the exit code is 1."""
    bad = file.with_name("bad.yaml")
    bad.write_text(DOCUMENT.replace("block", "explode"))
    ran = run("ipsecctl", "check", str(file), str(bad))
    assert ran.code == 1
    assert ran.err.startswith(f"ipsecctl: {bad}:4: ")
    assert str(file) in ran.out
    verdict = json.loads(run("ipsecctl", "check", str(bad), "--json").out)
    assert (verdict["valid"], verdict["line"]) == (False, 4)


def test_check_tells_all_errors_of_a_file(run: Run, file: Path) -> None:
    """In the order of their lines; what stands beside them in JSON is the first that is met."""
    file.write_text("policy: P\nrules:\n  - rule: R\n    filters: [x y, 0+*, z z]\nexpect: [no]\n")
    ran = run("ipsecctl", "check", str(file))
    told = [line for line in ran.err.splitlines() if not line.startswith("  hint: ")]
    assert told == [
        f"ipsecctl: {file}:3: the rule has no 'action'",
        f"ipsecctl: {file}:4: 'x y' is not an address",
        f"ipsecctl: {file}:4: 'z z' is not an address",
        f"ipsecctl: {file}:5: 'no' does not begin with what is expected",
    ]
    assert (ran.code, ran.err.count("  hint: ")) == (1, 4)
    verdict = json.loads(run("ipsecctl", "check", str(file), "--json").out)
    assert (verdict["line"], verdict["message"]) == (4, "'x y' is not an address")
    assert [error["line"] for error in verdict["errors"]] == [3, 4, 4, 5]
    assert {key: verdict[key] for key in ("message", "hint", "line")} == verdict["errors"][1]
    assert "more_errors" not in verdict


def test_check_tells_a_hundred_errors_and_how_many_more(run: Run, file: Path) -> None:
    """Of a file that is something else, such as a list of names."""
    file.write_text("policy: P\nrules:\n" + "  - web.example\n" * 102)
    err = run("ipsecctl", "check", str(file)).err
    assert err.count("here must be keys and values") == 100
    assert err.endswith(f"ipsecctl: {file}: and 2 more errors\n")
    verdict = json.loads(run("ipsecctl", "check", str(file), "--json").out)
    assert (len(verdict["errors"]), verdict["more_errors"]) == (100, 2)


EXPECTING = (
    UNTIDY
    + """\
expect: [ 'BLOCK tcp 203.0.113.7:4000 >  me:80', "permit tcp 203.0.113.7:4000 > me:443" ]
"""
)


def test_check_judges_what_is_expected(run: Run, file: Path) -> None:
    """A policy that does not meet its expectations is not valid, and every one is named."""
    file.write_text(EXPECTING)
    ran = run("ipsecctl", "check", str(file))
    assert ran.code == 0
    assert ran.out.endswith("is valid · 1 rule, 1 filter, 2 expectations met\n")
    assert json.loads(run("ipsecctl", "check", str(file), "--json").out)["expectations"] == 2
    file.write_text(EXPECTING.replace("permit tcp", "block tcp"))
    ran = run("ipsecctl", "check", str(file))
    assert ran.code == 1
    assert ran.err.splitlines()[:2] == [
        f"ipsecctl: {file}: policy 'Web' does not meet 1 of its 2 expectations:",
        '"block tcp 203.0.113.7:4000 > me:443": it is permitted, no filter matches it',
    ]
    verdict = json.loads(run("ipsecctl", "check", str(file), "--json").out)
    assert (verdict["valid"], verdict["line"]) == (False, 0)
    assert "does not meet 1 of its 2" in verdict["message"]
    assert "mend the rules" in verdict["hint"]
    assert verdict["errors"] == [{key: verdict[key] for key in ("message", "hint", "line")}]


def test_format_and_diff_have_expectations(run: Run, file: Path) -> None:
    """In canonical form after the rules, and on lines of their own."""
    expect = CANONICAL + (
        'expect:\n  - "block tcp 203.0.113.7:4000 > me:80"\n'
        '  - "permit tcp 203.0.113.7:4000 > me:443"\n'
    )
    other = file.with_name("other.yaml")
    other.write_text(EXPECTING)
    assert run("ipsecctl", "format", str(other)).out == expect
    assert run("ipsecctl", "diff", str(file), str(other)).out.splitlines() == [
        "+ expect: block tcp 203.0.113.7:4000 > me:80",
        "+ expect: permit tcp 203.0.113.7:4000 > me:443",
    ]


def test_format_prints_the_canonical_form(run: Run, file: Path) -> None:
    """Format prints and leaves the file alone."""
    assert run("ipsecctl", "format", str(file)).out == CANONICAL
    assert file.read_text() == UNTIDY


def test_format_in_place_keeps_mode_and_link(run: Run, file: Path) -> None:
    """--write replaces the content at once; mode and symlink stay, and no other file is left."""
    file.chmod(0o640)
    link = file.with_name("link.yaml")
    link.symlink_to(file)
    assert run("ipsecctl", "format", "-w", str(link)).code == 0
    assert link.is_symlink()
    assert file.read_text() == CANONICAL
    assert file.stat().st_mode & 0o7777 == 0o640
    assert sorted(file.parent.iterdir()) == [link, file]
    assert "already" in run("ipsecctl", "format", "-w", str(link)).out


def test_diff_of_two_files(run: Run, file: Path) -> None:
    """Two files differ by what they mean, not by how they are written."""
    second = file.with_name("other.yaml")
    second.write_text(DOCUMENT)
    assert run("ipsecctl", "diff", str(file), str(second)).code == 0
    second.write_text(DOCUMENT.replace("80", "443"))
    ran = run("ipsecctl", "diff", str(file), str(second))
    assert ran.code == 1
    assert "*=0:443:TCP" in ran.out
    difference = json.loads(run("ipsecctl", "diff", str(file), str(second), "--json").out)
    assert difference["equal"] is False
    assert difference["changes"] == ran.out.splitlines()[: len(difference["changes"])]
    assert {one["now"]["decision"] for one in difference["verdicts"]["classes"]} == {
        "block",
        "permit",
    }
    assert "permit becomes block: tcp 198.51.100.7:40000 > me:443" in ran.out.splitlines()


def test_diff_by_verdicts(run: Run, file: Path) -> None:
    """Rules that are other rules and do the same are equal, which is proven."""
    second = file.with_name("other.yaml")
    second.write_text(DOCUMENT.replace("*=0:80:TCP", '*=0:80:TCP", "203.0.113.0/24=0:80:TCP'))
    assert run("ipsecctl", "diff", str(file), str(second)).code == 1
    ran = run("ipsecctl", "diff", str(file), str(second), "--verdicts")
    assert (ran.code, ran.out) == (0, "no packet is decided differently, which is proven\n")
    second.write_text(DOCUMENT.replace("80", "443"))
    ran = run("ipsecctl", "diff", str(file), str(second), "--verdicts")
    assert ran.code == 1
    assert ran.out.startswith(("permit becomes block", "block becomes permit"))


def test_diff_judges_by_what_is_told_of_the_host(run: Run, file: Path) -> None:
    """Its addresses, and what lists hold; a name that is not told is warned of."""
    second = file.with_name("other.yaml")
    second.write_text(DOCUMENT.replace("*=0:80:TCP", '*=0:80:TCP", "*=192.0.2.1:80:TCP'))
    words = ["ipsecctl", "diff", str(file), str(second), "--verdicts"]
    assert run(*words).code == 1
    ran = run(*words, "--me", "192.0.2.1", "--json")
    # What arrives is to me already; what this host sends to itself is judged as explain judges it.
    classes = json.loads(ran.out)["verdicts"]["classes"]
    assert [one["packet"] for one in classes] == ["tcp me:40000 > 192.0.2.1:80"]
    second.write_text(DOCUMENT.replace("*=0:80:TCP", '*=0:80:TCP", "@l=0:81:TCP'))
    ran = run(*words)
    assert "@l" in ran.err
    members = file.with_name("l")
    members.write_text("203.0.113.9\n")
    ran = run(*words, f"--list=l={members}")
    assert ran.err == ""
    assert "tcp 203.0.113.9:40000 > me:81" in ran.out


def test_diff_of_stored_policies(daemon: FakeDaemon, run: Run, file: Path) -> None:
    """What is no file is the name of a stored policy; trouble of any kind ends with 2."""
    assert run("ipsecctl", "diff", "Web", str(file)).code == 0
    assert daemon.calls == [("GetPolicy", {"name": "Web"})]
    daemon.replies["GetPolicy"] = NotFound("no such policy")
    ran = run("ipsecctl", "diff", "Web", str(file))
    assert ran.code == 2
    assert "'Web' is neither a file nor the name of a stored policy" in ran.err
    file.write_text("rules: []\n")
    assert run("ipsecctl", "diff", str(file), str(file)).code == 2
    assert run("ipsecctl", "diff", "/no/such.yaml", str(file)).code == 2


def test_diff_with_the_stored_policy(daemon: FakeDaemon, run: Run, file: Path) -> None:
    """One file is compared with the stored policy of its name; an absent one differs wholly."""
    assert run("ipsecctl", "diff", str(file)).code == 0
    assert daemon.calls == [("GetPolicy", {"name": "Web"})]
    daemon.replies["GetPolicy"] = NotFound("no such policy")
    ran = run("ipsecctl", "diff", str(file))
    assert ran.code == 1
    assert ran.out
    file.write_text("policy: Web\nrules: []\n")
    assert run("ipsecctl", "diff", str(file)).out == "+ policy 'Web' is not stored yet\n"


def explain(run: Run, file: Path, *args: str) -> list[dict[str, object]]:
    ran = run("ipsecctl", "explain", "--offline", "--policy", str(file), "--json", *args)
    assert (ran.code, ran.err) == (0, "")
    return [json.loads(line) for line in ran.out.splitlines()]


def test_explain_offline_line_by_line(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packets on standard input are answered with one object a line, in their order."""
    packets = "tcp 203.0.113.7:4000 > me:80\ntcp [2001:db8::7]:1 > me:81\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(packets))
    answers = explain(run, file, "--me", "192.0.2.1", "--me", "2001:db8::1", "-")
    by = {
        "store": "static",
        "policy": "Web",
        "rule": "Block web",
        "filter": "*=0:80:TCP",
        "action": "block",
    }
    assert answers == [
        {"decision": "block", "by": by, "beaten": []},
        {"decision": "permit", "by": None, "beaten": []},
    ]


def test_explain_offline_tells_which_audit_counts(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words, and as JSON where there is one, whatever the rule is called."""
    file = tmp_path / "p.yaml"
    file.write_text(
        "policy: P\nrules:\n"
        "  - {rule: \"<b>'try\", action: audit, filters: ['*:4000=0']}\n"
        "  - {rule: telnet, action: block, filters: ['*=0:23:TCP']}\n"
    )
    ports = (22, 23)
    packets = "".join(f"tcp 203.0.113.7:4000 > 192.0.2.1:{port}\n" for port in ports)
    monkeypatch.setattr(sys, "stdin", io.StringIO(packets))
    first, second = explain(run, file, "--me", "192.0.2.1", "-")
    audited = {**ANY_AUDIT, "rule": "<b>'try", "filter": "*:4000=0"}
    assert first == {"decision": "permit", "by": None, "audited": audited, "beaten": []}
    assert (second["decision"], "audited" in second) == ("block", False)
    words = ("explain", "--offline", "--policy", str(file), "--me", "192.0.2.1")
    said = run("ipsecctl", *words, "tcp 203.0.113.7:4000 > 192.0.2.1:22").out
    assert "would block it; it passes because nothing else matches" in said
    from_any = run("ipsecctl", *words, "tcp 203.0.113.7 > 192.0.2.1:22").out
    assert from_any.count("    audit audit *:4000=0") == 1


ANY_AUDIT = {"store": "static", "policy": "P", "action": "audit"}


def test_explain_offline_knows_links_by_name(run: Run, tmp_path: Path) -> None:
    """A rule for dial-up links matches on ppp0 and a modem, not on eth0, and nothing does on lo."""
    file = tmp_path / "dialup.yaml"
    file.write_text(DOCUMENT.replace("    filters", "    interface: dialup\n    filters"))
    verdicts = {}
    for name in ("ppp0", "wwp0s20u2", "eth0", "lo"):
        packet = f"tcp 203.0.113.7:4000 > me:80 in {name}"
        verdicts[name] = explain(run, file, "--me", "192.0.2.1", packet)[0]["decision"]
    expected = {"ppp0": "block", "wwp0s20u2": "block", "eth0": "permit", "lo": "permit"}
    assert verdicts == expected


def test_explain_offline_lets_essentials_pass(run: Run, tmp_path: Path) -> None:
    """A block of everything does not stop the host's own DHCP client."""
    file = tmp_path / "all.yaml"
    file.write_text(DOCUMENT.replace("*=0:80:TCP", "0+*"))
    assert explain(run, file, "--me", "192.0.2.1", "udp 192.0.2.9:67 > me:68") == [
        {"decision": "permit", "by": None, "beaten": []}
    ]
    text = run("ipsecctl", "explain", "--offline", "--policy", str(file), "--me", "192.0.2.1",
               "udp 192.0.2.9:67 > me:68")  # fmt: skip
    assert "dhcp-client" in text.out


LISTED = DOCUMENT.replace("*=0:80:TCP", "@drop=0:80:TCP")


def test_explain_offline_reads_lists(run: Run, tmp_path: Path) -> None:
    """Each by itself, or all of a directory; what is given by itself goes before the directory."""
    file, directory = tmp_path / "listed.yaml", tmp_path / "lists"
    directory.mkdir()
    file.write_text(LISTED)
    (directory / "drop").write_text("203.0.113.0/24\n")
    (directory / ".drop.swp").write_text("not a list")
    (tmp_path / "other").write_text("198.51.100.7\n")
    inside = "tcp 203.0.113.7:4000 > me:80"
    given = (f"--lists={directory}",), (f"--list=drop={directory}/drop",)
    for words in given:
        (answer,) = explain(run, file, "--me", "192.0.2.1", *words, inside)
        assert answer["decision"] == "block"
        assert "missing_lists" not in answer
    both = (f"--lists={directory}", f"--list=@drop={tmp_path}/other")
    (answer,) = explain(run, file, "--me", "192.0.2.1", *both, inside)
    assert answer["decision"] == "permit"


def test_explain_offline_says_which_lists_it_lacks(run: Run, tmp_path: Path) -> None:
    """A verdict without the entries of a list is not silently taken for the host's."""
    file = tmp_path / "listed.yaml"
    file.write_text(LISTED)
    packet = "tcp 203.0.113.7:4000 > me:80"
    (answer,) = explain(run, file, "--me", "192.0.2.1", packet)
    assert (answer["decision"], answer["missing_lists"]) == ("permit", ["drop"])
    words = ("explain", "--offline", "--policy", str(file), "--me", "192.0.2.1")
    ran = run("ipsecctl", *words, packet)
    assert ran.code == 0
    assert "list @drop was not given" in ran.err
    assert "--list drop=FILE" in ran.err
    refused = run("ipsecctl", *words, "--list", "drop", packet)
    assert refused.code == 2
    assert "NAME=FILE" in refused.err
    assert run("ipsecctl", *words, "--lists", str(tmp_path / "none"), packet).code == 1


LISTED_AND_EXPECTING = (
    LISTED
    + """\
expect: ["permit tcp 203.0.113.7:4000 > me:80"]
"""
)


def test_check_says_which_lists_it_lacks_for_what_is_expected(run: Run, tmp_path: Path) -> None:
    """What is met only because a list seems empty is not silently taken for the host's verdict."""
    file = tmp_path / "listed.yaml"
    file.write_text(LISTED_AND_EXPECTING)
    ran = run("ipsecctl", "check", str(file))
    assert (ran.code, ran.out.endswith("1 expectation met\n")) == (0, True)
    assert f"{file}: list @drop was not given" in ran.err
    assert "--list drop=FILE" in ran.err
    verdict = json.loads(run("ipsecctl", "check", str(file), "--json").out)
    assert (verdict["valid"], verdict["missing_lists"]) == (True, ["drop"])
    file.write_text(LISTED)
    assert not run("ipsecctl", "check", str(file)).err
    assert "missing_lists" not in run("ipsecctl", "check", str(file), "--json").out


def test_check_judges_what_is_expected_with_lists(run: Run, tmp_path: Path) -> None:
    """A list that blocks what has to pass is told, however it is given; another does no harm."""
    file, directory = tmp_path / "listed.yaml", tmp_path / "lists"
    directory.mkdir()
    file.write_text(LISTED_AND_EXPECTING)
    (directory / "drop").write_text("203.0.113.0/24\n")
    (tmp_path / "other").write_text("198.51.100.0/24\n2001:db8::/32\n")
    for words in ((f"--lists={directory}",), (f"--list=drop={directory}/drop",)):
        ran = run("ipsecctl", "check", str(file), *words)
        assert ran.code == 1
        assert "does not meet its expectation with the lists that were given" in ran.err
        assert 'it is blocked by block "@drop=0:80:TCP"' in ran.err
        assert "was not given" not in ran.err
        verdict = json.loads(run("ipsecctl", "check", str(file), *words, "--json").out)
        assert not verdict["valid"]
        assert "missing_lists" not in verdict
    ran = run("ipsecctl", "check", str(file), f"--list=@drop={tmp_path}/other")
    assert (ran.code, ran.err) == (0, "")


def test_lists_make_no_policy_usable_that_a_daemon_refuses(run: Run, tmp_path: Path) -> None:
    """A daemon judges without entries, and check says beforehand what it will say."""
    file = tmp_path / "listed.yaml"
    file.write_text(LISTED_AND_EXPECTING.replace("permit tcp", "block tcp"))
    (tmp_path / "drop").write_text("203.0.113.0/24\n")
    ran = run("ipsecctl", "check", str(file), f"--list=drop={tmp_path}/drop")
    assert ran.code == 1
    assert "does not meet its expectation:" in ran.err


OPENING = """\
policy: Nothing gets in unasked
rules:
  - rule: In
    action: block
    when: opening
    filters: ["*=0"]
  - rule: Shell
    action: permit
    when: opening
    filters: ["*=0:22:TCP"]
"""


def test_explain_offline_tells_of_open_connections(run: Run, tmp_path: Path) -> None:
    """Only where they make a difference; what a packet is can be said at its end."""
    file = tmp_path / "opening.yaml"
    file.write_text(OPENING)
    line = "tcp 203.0.113.7:4000 > me:23"
    (answer,) = explain(run, file, "--me", "192.0.2.1", line)
    assert answer["decision"] == "block"
    known = answer["established"]
    assert isinstance(known, dict)
    assert (known["decision"], known["by"]) == ("permit", None)
    for word, decision in (("opening", "block"), ("reply", "permit"), ("established", "permit")):
        (answer,) = explain(run, file, "--me", "192.0.2.1", f"{line} {word}")
        assert answer["decision"] == decision
        assert ("established" in answer) is (word == "opening")
    file.write_text(OPENING.replace("    when: opening\n", ""))
    (answer,) = explain(run, file, "--me", "192.0.2.1", line)
    assert set(answer) == {"decision", "by", "beaten"}


def test_explain_offline_says_once_what_opening_rules_do_not_know(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many packets are explained, behind all of them."""
    file = tmp_path / "opening.yaml"
    file.write_text(OPENING)
    packets = "tcp 203.0.113.7:4000 > me:22\nudp 203.0.113.7:53 > me:40000\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(packets))
    words = ("explain", "--offline", "--policy", str(file), "--me", "192.0.2.1", "-")
    lines = run("ipsecctl", *words).out.splitlines()
    assert [line for line in lines if "next packet out" in line] == lines[-1:]
    assert lines.count("part of an open connection: permit  udp 203.0.113.7:53 > 192.0.2.1:40000 "
                       "established") == 1  # fmt: skip


def test_explain_offline_takes_packets_without_a_source_port(run: Run, tmp_path: Path) -> None:
    """The answer has the verdict for each range of ports, and first that for a usual one."""
    file = tmp_path / "ports.yaml"
    file.write_text(OPENING + '  - {rule: DNS, action: permit, filters: ["*:53=0::TCP"]}\n')
    (answer,) = explain(run, file, "--me", "192.0.2.1", "tcp 203.0.113.7 > me:23 opening")
    assert answer["decision"] == "block"
    ranges = answer["source_ports"]
    assert isinstance(ranges, list)
    found = [(one["first"], one["last"], one["decision"]) for one in ranges]
    assert found == [(0, 52, "block"), (53, 53, "permit"), (54, 65535, "block")]
    words = ("explain", "--offline", "--policy", str(file), "--me", "192.0.2.1")
    lines = run("ipsecctl", *words, "tcp me > 203.0.113.7:443").out.splitlines()
    assert lines[0] == "permit  tcp 192.0.2.1 > 203.0.113.7:443"
    assert lines[2] == "  from    any source port"


def test_explain_offline_tells_of_what_leaves_as_this_hosts(run: Run, tmp_path: Path) -> None:
    """The text is that of the daemon: a forwarded packet may be blocked when it leaves."""
    file = tmp_path / "out.yaml"
    file.write_text(DOCUMENT.replace("*=0:80:TCP", "0=*:80:TCP"))
    words = ("explain", "--offline", "--policy", str(file), "--me", "192.0.2.1")
    lines = run("ipsecctl", *words, "tcp 10.0.0.5:5 > 203.0.113.7:80").out.splitlines()
    assert lines[0].startswith("permit")
    assert lines[2] == "and if it leaves under this host's address:"
    assert lines[3].startswith("block")
    assert "'Block web'" in lines[4]
    assert "leaves" not in run("ipsecctl", *words, "tcp 10.0.0.5:5 > 203.0.113.7:81").out


def test_lint_of_files(run: Run, file: Path) -> None:
    """What never decides is said with a packet, by check as a warning; else that nothing is."""
    ran = run("ipsecctl", "lint", str(file))
    assert (ran.code, ran.out) == (0, "everything has an effect, which is proven\n")
    twice = DOCUMENT + "  - rule: Twice\n    action: permit\n    filters: ['*=0:80:TCP']\n"
    file.write_text(twice)
    words = "rule 'Twice' never decides: rule 'Block web' blocks exactly what it permits"
    ran = run("ipsecctl", "lint", str(file))
    assert (ran.code, ran.out) == (1, f"{file}: {words}\n")
    (found,) = json.loads(run("ipsecctl", "lint", str(file), "--json").out)["findings"]
    assert (found["kind"], found["of"]["rule"]) == ("equals a block", "Twice")
    ran = run("ipsecctl", "check", str(file))
    assert ran.code == 0
    assert ran.err == f"warning: {file}: {words}\n"


def test_lint_finds_lists_that_nothing_names(run: Run, tmp_path: Path) -> None:
    """Of a directory of lists, which also say what filters match."""
    directory = tmp_path / "lists"
    directory.mkdir()
    (directory / "drop").write_text("203.0.113.0/24\n")
    (directory / "old").write_text("203.0.113.0/24\n")
    file = tmp_path / "listed.yaml"
    file.write_text(LISTED)
    ran = run("ipsecctl", "lint", str(file), f"--lists={directory}")
    assert (ran.code, ran.out) == (1, "list @old is named by no filter\n")


def test_lint_of_what_is_in_force(daemon: FakeDaemon, run: Run) -> None:
    """Without a file the daemon is asked."""
    daemon.replies["GetFindings"] = {"findings": [], "unused_lists": ["old"]}
    ran = run("ipsecctl", "lint")
    assert (ran.code, ran.out) == (1, "list @old is named by no filter\n")
    assert daemon.calls == [("GetFindings", {})]
