"""What commands of netsh do to lists, actions, rules and policies, and what is told of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from ipsecctl.netsh import command
from ipsecd.errors import BackendFailed
from ipsecd.model.kinds import Action
from ipsecd.model.shared_filters import ServerKind, Servers
from ipsecd.output import begin, finish
from tests.ctl.netsh_host import NetshHost, found_servers

STATIC = "ipsec static "
BANS = (
    "add policy P assign=yes",
    "add filter L 203.0.113.9 me",
    "add filteraction A action=block",
    "add rule R P L A",
)
HOSTILE = "x\x1b[2J\n^ERR.*$ 'q\" IPsec"


def host_with(*lines: str) -> NetshHost:
    host = NetshHost()
    for line in lines:
        answer = host.line(STATIC + line)
        assert (answer.code, answer.lines) == (0, ()), line
    return host


def test_a_rule_has_its_filters_and_the_names_of_its_list_and_action() -> None:
    """So whoever looks at the policy sees what is in force, and where it comes from."""
    host = host_with(*BANS, "set rule R P desc=why conntype=dialup")
    (rule,) = host.policy("P").rules
    assert (rule.name, rule.filter_list, rule.filter_action) == ("R", "L", "A")
    assert (rule.action, rule.description) == (Action.BLOCK, "why")
    assert rule.conditions.interface_text == "dialup"
    assert host.verdict("tcp 203.0.113.9:1 > me:2") == "permit"
    host.line(STATIC + "set rule R P conntype=all")
    assert host.verdict("tcp 203.0.113.9:1 > me:2") == "block"


def test_a_change_of_a_list_is_one_change_of_all_policies_that_use_it() -> None:
    """Those that are assigned, and those that are not."""
    host = host_with(*BANS, "add policy Q", "add rule S Q L A activate=no")
    before = host.changes
    assert host.line(STATIC + "add filter L 203.0.113.10 me").code == 0
    assert host.changes == before + 1
    assert len(host.policy("P").rules[0].filters) == 2
    assert len(host.policy("Q").resting[0].filters) == 2
    assert host.verdict("tcp 203.0.113.10:1 > me:2") == "block"


def test_a_change_of_an_action_is_one_of_all_policies_that_use_it() -> None:
    """And so is another name of it, or of a list."""
    host = host_with(
        *BANS, "set filteraction A action=permit newname=B", "set filterlist L newname=M"
    )
    (rule,) = host.policy("P").rules
    assert (rule.action, rule.filter_action, rule.filter_list) == (Action.PERMIT, "B", "M")
    assert set(host.shared.lists) == {"M"}
    assert set(host.shared.actions) == {"B"}
    host.line(STATIC + "add filter M 203.0.113.10 me")
    assert len(host.policy("P").rules[0].filters) == 2


def test_lists_and_actions_outlive_their_policy() -> None:
    """They are deleted by themselves, and not while a rule uses them."""
    host = host_with(*BANS)
    for line in ("delete filterlist L", "delete filteraction A", "delete filterlist all"):
        answer = host.line(STATIC + line)
        assert answer.lines[0].startswith("ERR IPsec[05004] : ")
        assert "rule 'R' of policy 'P' uses it" in answer.hints[0]
    host.line(STATIC + "delete policy P")
    assert host.assigned is None
    assert set(host.shared.lists) == {"L"}
    for line in ("delete filterlist L", "delete filteraction A"):
        assert host.line(STATIC + line).code == 0
    assert not host.shared


def test_rules_without_a_list_stay_as_they_are() -> None:
    """Those of other commands, also if somebody wrote the name of an action into one by hand."""
    host = host_with(*BANS)
    host.documents["Q"] = (
        "policy: Q\nrules:\n  - rule: S\n    action: permit\n    filter-action: A\n"
        '    filters: ["*=0:80:TCP"]\n  - rule: T\n    action: permit\n    filters: ["*=0"]\n'
    )
    host.line(STATIC + "set filteraction A newname=B")
    host.line(STATIC + "add rule U Q L B")
    actions = {rule.name: (rule.action, len(rule.filters)) for rule in host.policy("Q").rules}
    assert actions == {
        "S": (Action.BLOCK, 1),
        "T": (Action.PERMIT, 1),
        "U": (Action.BLOCK, 1),
    }
    assert "No. of Filters         : 1" in host.line(STATIC + "show rule T Q").lines


def test_what_uses_a_list_is_known_all_along_a_file() -> None:
    """Rules that come and go in it, and policies that go or get another name."""
    host = host_with(*BANS)
    answer = host.file(
        "pushd ipsec static\ndelete filterlist L\nset policy P Q\ndelete filteraction A\n"
        "add filterlist M\nadd rule S Q M A\ndelete filterlist M\ndelete rule S Q\n"
        "delete filterlist M\nset rule R Q newname=T\ndelete rule T Q\ndelete filterlist L\n"
        "add filterlist L\nadd rule R Q L A\ndelete policy Q\ndelete filterlist L\n"
        "delete filteraction A"
    )
    assert [line.partition(" : ")[2].partition(":")[0] for line in answer.lines] == [
        "line 2",
        "line 4",
        "line 7",
    ]
    assert not host.shared


def test_a_list_that_becomes_empty_matches_nothing() -> None:
    """Ban lists begin so: the dummy that the rule was made with is taken out."""
    host = host_with(*BANS)
    assert host.line(STATIC + "delete filter L 203.0.113.9 me").code == 0
    assert host.verdict("tcp 203.0.113.9:1 > me:2") == "permit"
    assert host.line(STATIC + "add filter L 203.0.113.9 me").code == 0
    assert host.verdict("tcp 203.0.113.9:1 > me:2") == "block"


def test_the_same_filter_is_there_once() -> None:
    """To add it again works and changes nothing, and deleting it leaves none."""
    host = host_with(*BANS)
    before = host.changes
    assert host.line(STATIC + "add filter L 203.0.113.9 me desc=again").code == 0
    assert host.changes == before
    host.line(STATIC + "delete filter L 203.0.113.9 me")
    assert not host.shared.lists["L"].filters


def test_one_policy_is_assigned() -> None:
    """Whichever was assigned last, until that one is not, is deleted or gets another name."""
    host = host_with("add policy P assign=y", "add policy Q assign=y")
    assert host.assigned == "Q"
    host.line(STATIC + "set policy P assign=n")
    assert host.assigned == "Q"
    host.line(STATIC + "set policy Q newname=R")
    assert (host.assigned, set(host.documents)) == ("R", {"P", "R"})
    host.line(STATIC + "set policy R assign=n")
    assert host.assigned is None


def test_a_rule_is_switched_off_and_on() -> None:
    """It keeps its list, which may change meanwhile."""
    host = host_with(*BANS, "set rule R P activate=no")
    assert not host.policy("P").rules
    host.line(STATIC + "add filter L 203.0.113.10 me")
    assert host.verdict("tcp 203.0.113.10:1 > me:2") == "permit"
    assert "Activated              : NO" in host.line(STATIC + "show rule R P").lines
    host.line(STATIC + "set rule R P activate=yes newname=S")
    assert host.verdict("tcp 203.0.113.10:1 > me:2") == "block"
    assert [rule.name for rule in host.policy("P").rules] == ["S"]


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("add policy P", "05003"),
        ("add filterlist L", "05010"),
        ("add filteraction A action=block", "05014"),
        ("add rule R P L A", "05003"),
        ("add rule S P nolist A", "05002"),
        ("add rule S P L noaction", "05002"),
        ("add rule S nopolicy L A", "05072"),
        ("set policy nopolicy assign=y", "05072"),
        ("set policy P newname=Q", "05003"),
        ("set rule norule P activate=no", "05002"),
        ("set filterlist nolist newname=x", "05002"),
        ("set filteraction noaction action=block", "05002"),
        ("set filterlist L newname=M", "05010"),
        ("delete policy nopolicy", "05072"),
        ("delete rule norule P", "05002"),
        ("delete filterlist nolist", "05002"),
        ("delete filteraction noaction", "05002"),
        ("delete filter nolist any me", "05002"),
        ("delete filter L any me", "05002"),
        ("show policy nopolicy", "05072"),
        ("show filterlist nolist", "05002"),
        ("show rule norule", "05002"),
        ("importpolicy /no/such/file", "05002"),
        ("exportpolicy /no/such/directory/file", "05002"),
    ],
)
def test_what_exists_or_does_not_is_told_and_tolerated(line: str, number: str) -> None:
    """By a number that scripts know, where there is one, and without the name of what is absent."""
    host = host_with(*BANS, "add policy Q", "add filterlist M")
    before = host.changes
    answer = host.line(STATIC + line)
    assert answer.code == 1
    assert answer.lines[0].startswith(f"ERR IPsec[{number}] : ")
    assert len(answer.lines) == 1
    for name in ("nopolicy", "nolist", "noaction", "norule"):
        assert name not in answer.lines[0]
    assert answer.understood
    assert host.changes == before
    answer = host.file(f"{STATIC}{line}\n{STATIC}add policy New")
    assert "line 1: " in answer.lines[0]
    assert (answer.code, "New" in host.documents) == (1, True)


def test_a_filter_action_that_does_something_else_keeps_a_file_from_being_carried_out() -> None:
    """What follows in the file takes it for one that blocks, and the rules would permit."""
    host = host_with(*BANS, "add filteraction Stop action=permit")
    before = host.changes
    lines = ("add filteraction Stop action=block", "add rule S P L Stop", "add policy New")
    answer = host.file("\n".join(f"{STATIC}{line}" for line in lines))
    assert (answer.code, host.changes, "New" in host.documents) == (1, before, False)
    assert answer.lines[0].startswith("ERR IPsec[05014] : line 1: ")
    assert "which is to permit; to have it block, write: set filteraction" in answer.hints[0]


@pytest.mark.parametrize(
    "line",
    [
        "add filteraction B action=negotiate",
        "add filteraction B",
        "set filteraction A action=negotiate",
        "add rule S P L A tunnel=1.2.3.4",
        "set store location=domain",
        "set defaultrule P activate=yes",
        "add filter L srcaddy=any dstaddr=me",
        "add filter L any me dstport=80",
        "add policy",
        "frob",
        "add policy N > nul",
    ],
)
def test_what_is_not_understood_or_not_done_keeps_a_file_from_being_carried_out(line: str) -> None:
    """Whatever is before it and behind it: what is left could be weaker than what was meant."""
    host = host_with(*BANS)
    before = host.changes
    dynamic = "ipsec dynamic add rule any any 1 actionin=block actionout=block"
    answer = host.file(f"{STATIC}add policy New\n{dynamic}\n{STATIC}{line}\n{STATIC}delete all")
    assert (answer.code, answer.understood, host.changes) == (1, False, before)
    assert not host.dynamic
    assert "line 3: " in answer.lines[0]
    assert answer.hints[-1] == "nothing was changed, because of 1 line of the file"


@pytest.mark.parametrize(
    "line",
    [
        "set store location=local", "set batch mode=enable", "set defaultrule P activate=no",
        "set policy P", "add policy Q mmpfs=no mmlifetime=10 pollinginterval=5 mmsec=3DES-SHA1-2",
        "add filteraction B action=block qmpfs=no inpass=no soft=no",
        "add rule S P L A kerberos=no psk=key",
    ],
)  # fmt: skip
def test_what_means_nothing_here_is_accepted(line: str) -> None:
    """Without a word on standard output, as scripts take one for an error."""
    answer = host_with(*BANS).line(STATIC + line)
    assert (answer.code, answer.lines) == (0, ())
    assert bool(answer.hints) is any(tag in line for tag in ("mmpfs", "qmpfs", "psk"))


def test_letter_case_is_told() -> None:
    """Names are what they are; whoever writes one in another letter case is told."""
    answer = host_with(*BANS).line(STATIC + "show policy p")
    assert answer.hints == ("there is no policy 'p', only 'P': letter case counts",)


@pytest.mark.parametrize("tag", ["name", "description"])
def test_hostile_names_are_visible(tag: str) -> None:
    """Nothing of what others wrote ends a line or controls a terminal."""
    host = host_with(*BANS)
    for words in (
        ["add", "policy", f"name={HOSTILE}"],
        ["add", "policy", "name=Q", f"description={HOSTILE}"],
        ["add", "filter", "L", f"srcaddr={HOSTILE}", "dstaddr=me"],
        ["add", "filter", "L", "any", "me", f"description={HOSTILE}"],
        ["add", "rule", "S", "P", "L", "A", f"description={HOSTILE}"],
        ["add", "filteraction", "B", f"description={HOSTILE}", "action=block"],
        ["set", "filterlist", "L", f"{tag if tag == 'description' else 'newname'}={HOSTILE}"],
        ["delete", "policy", HOSTILE],
        ["delete", HOSTILE],
        [HOSTILE],
        ["importpolicy", HOSTILE],
    ):
        answer = host.line(["ipsec", "static", *words])
        assert all(line.isprintable() for line in (*answer.lines, *answer.hints)), words
    for what in ("all", "policy all level=verbose", "filterlist all level=verbose", "rule all"):
        lines = host.line(STATIC + "show " + what).lines
        assert all(line.isprintable() for line in lines)
        assert not any(line.startswith("ERR") for line in lines)
    assert "\\u000a" in "".join(host.line(STATIC + "show all").lines)


@pytest.mark.parametrize(
    "words",
    [
        "add policy {0}", "show policy {0}", "add {0}", "{0}", "add filter L {0} me",
        "add filter L any me protocol={0}", "add policy P assign={0}", "add policy P {0}=1",
        "add filter L any me dstport={0}", "importpolicy {0}", "add filterlist a b {0}",
    ],
)  # fmt: skip
def test_long_words_are_shortened(words: str) -> None:
    """An error quotes their beginning."""
    answer = NetshHost().line(STATIC + words.format("x" * 100_000))
    assert answer.code == 1
    assert max(map(len, (*answer.lines, *answer.hints))) < 400


def test_show_has_the_labels_that_scripts_look_for() -> None:
    """Padded to 23 columns, with a colon and the value."""
    host = host_with(
        "add policy P assign=y",
        'add filter L 192.168.0.0/24 me dstport=80 protocol=tcp desc="the web"',
        "add filter L www.example.com me mirrored=no",
        "add filter L 10.0.0.1-10.0.0.9 any",
        "add filteraction A action=block",
        "add rule R P L A",
    )
    assert host.line(STATIC + "show filterlist L level=verbose format=table").lines == (
        "",
        "FilterList Name        : L",
        "Description            : NONE",
        "No. of Filters         : 3",
        "Filter(s)",
        "---------",
        "Description            : the web",
        "Mirrored               : YES",
        "Source IP Address      : 192.168.0.0",
        "Source Mask            : 255.255.255.0",
        "Source DNS Name        : NONE",
        "Destination IP Address : <My IP Address>",
        "Destination Mask       : 255.255.255.255",
        "Destination DNS Name   : NONE",
        "Protocol               : TCP",
        "Source Port            : ANY",
        "Destination Port       : 80",
        "",
        "Description            : NONE",
        "Mirrored               : NO",
        "Source IP Address      : <resolved when used>",
        "Source Mask            : 255.255.255.255",
        "Source DNS Name        : www.example.com",
        "Destination IP Address : <My IP Address>",
        "Destination Mask       : 255.255.255.255",
        "Destination DNS Name   : NONE",
        "Protocol               : ANY",
        "Source Port            : ANY",
        "Destination Port       : ANY",
        "",
        "Description            : NONE",
        "Mirrored               : YES",
        "Source IP Address      : 10.0.0.1-10.0.0.9",
        "Source Mask            : 255.255.255.255",
        "Source DNS Name        : NONE",
        "Destination IP Address : <Any IP Address>",
        "Destination Mask       : 0.0.0.0",
        "Destination DNS Name   : NONE",
        "Protocol               : ANY",
        "Source Port            : ANY",
        "Destination Port       : ANY",
    )
    shown = host.line(STATIC + "show policy name=P level=verbose").lines
    assert "Policy Name            : P" in shown
    assert "Assigned               : YES" in shown
    assert "Rule Name              : R" in shown
    assert "FilterList Name        : L" in shown


def test_show_of_nothing() -> None:
    """The number is the one that scripts read."""
    for what in ("policy all", "all", "rule all"):
        answer = NetshHost().line(STATIC + "show " + what)
        assert answer.lines == ("ERR IPsec[05072] : there are no policies",)
    assert NetshHost().line(STATIC + "show filterlist all").lines == ()


def test_all_may_be_a_name() -> None:
    """Then only the word without its tag means all."""
    host = host_with("add policy all", "add policy P")
    assert host.line(STATIC + "delete policy name=all").code == 0
    assert set(host.documents) == {"P"}
    assert host.line(STATIC + "delete policy name=all").code == 1
    assert host.line(STATIC + "delete policy all").code == 0
    assert not host.documents


def test_what_was_exported_is_imported(tmp_path: Path) -> None:
    """All of it, by name, into a store that has something else."""
    file = tmp_path / "store.txt"
    host = host_with(*BANS, "add policy Q", "add rule R Q L A desc=why activate=no",
                     f"exportpolicy {file}")  # fmt: skip
    other = host_with("add policy P", "add policy Other assign=y", "add filterlist L")
    assert other.line(STATIC + f"importpolicy {file}").code == 0
    assert other.policy("P") == host.policy("P")
    assert other.policy("Q") == host.policy("Q")
    assert other.shared == host.shared
    assert (other.assigned, len(other.documents)) == ("Other", 3)


def test_a_file_of_windows_is_not_imported(tmp_path: Path) -> None:
    """Nor is anything else that was not exported here."""
    file = tmp_path / "store"
    for content, said in ((b"\x01\0\0\x02", "binary"), (b"\xff", "UTF-8"), (b"a: b", "not one of")):
        file.write_bytes(content)
        answer = NetshHost().line(STATIC + f"importpolicy {file}")
        assert (answer.code, answer.understood) == (1, False)
        assert said in answer.lines[0]


def test_a_refused_file_is_not_exported(tmp_path: Path) -> None:
    """What would be in it is not so."""
    file = tmp_path / "store"
    NetshHost().file(f"{STATIC}exportpolicy {file}\nrubbish")
    assert not file.exists()


def test_servers_are_looked_for_anew_with_every_change() -> None:
    """What a list says of them is what they were; if none is found, they stay."""
    host = host_with(*BANS, "add filter L dns me")
    assert len(host.policy("P").rules[0].filters) == 2

    def elsewhere(kind: ServerKind) -> Servers:
        return Servers(kind, found_servers(ServerKind.GATEWAY).addresses)

    command.as_one_change(
        host,  # type: ignore[arg-type]
        lambda session: session.carry_out(["ipsec", "static", "add", "policy", "Z"]),
        elsewhere,
    )
    assert "dns(192.0.2.4)" in host.shared_text
    assert host.verdict("udp 192.0.2.4:53 > me:5") == "block"
    assert host.verdict("udp 192.0.2.1:53 > me:5") == "permit"


def test_somebody_else_changes_something_meanwhile() -> None:
    """The line is carried out again, on what there is then."""
    host = host_with(*BANS)
    asked = host.call
    other = iter([True])

    def call(
        method: str, parameters: dict[str, Any] | None = None, descriptor: int | None = None
    ) -> dict[str, Any]:
        if method == "ChangeTogether" and next(other, False):
            host.call = asked  # type: ignore[method-assign]
            host.line(STATIC + "add filter L 203.0.113.10 me")
        return asked(method, parameters, descriptor)

    host.call = call  # type: ignore[method-assign]
    assert host.line(STATIC + "add filter L 203.0.113.11 me").code == 0
    assert len(host.policy("P").rules[0].filters) == 3


def counted(act: Callable[[], object]) -> int:
    """How many calls of functions something takes."""
    calls = 0

    def count(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize(
    "lines",
    [
        ["static add filter L 10.{0}.{1}.1 me"],
        ["static add filter L{2} 10.{0}.{1}.1 me", "static add filteraction A{2} action=block",
         "static add policy P assign=yes", "static add rule R{2} P L{2} A{2}"],
        ["static add filter L 10.{0}.{1}.1 me", "static delete filter L 10.{0}.{1}.1 me"],
        ["static add filter L{2} 10.{0}.{1}.1 me", "static delete filterlist L{2}"],
        ["dynamic add rule 10.{0}.{1}.1 any 1 actionin=block actionout=block",
         "dynamic delete rule 10.{0}.{1}.1 any"],
    ],
    ids=["filters", "rules", "filters that go", "lists that go", "dynamic rules"],
)  # fmt: skip
def test_a_line_costs_the_same_however_many_there_are(lines: list[str]) -> None:
    """Twice as many lines are about twice the work, so 3,000 of them take a second."""

    def work(number: int) -> int:
        host = host_with(*BANS)
        each = (
            "ipsec " + line.format(n // 250, n % 250, n) for n in range(number) for line in lines
        )
        text = "\n".join(each)
        return counted(lambda: host.file(text))

    work(10)
    assert work(800) < 2.3 * work(400)


def test_a_process_prints_what_it_comes_to(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines and errors on standard output, hints on standard error."""
    host: Any = NetshHost()
    begin()
    code = command.run(host, ["ipsec", "static", "add", "policy", "P", "assign=y"])
    assert (finish(code, "netsh"), code) == (0, 0)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "netsh: policy 'P' is assigned and has no rule: it blocks nothing\n"
    begin()
    code = finish(command.run(host, ["ipsec", "static", "show", "policy", "Q"]), "netsh")
    out, err = capsys.readouterr()
    assert (code, out) == (1, "ERR IPsec[05072] : there is no such policy\n")
    assert err == "netsh: there is no policy 'Q'\n"


def test_a_daemon_that_refuses_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """As an error of netsh, with the daemon's own words."""

    class Refusing(NetshHost):
        def call(
            self,
            method: str,
            parameters: dict[str, Any] | None = None,
            descriptor: int | None = None,
        ) -> dict[str, Any]:
            if method == "ChangeTogether":
                raise BackendFailed("the kernel does not take it", "look at the log")
            return super().call(method, parameters, descriptor)

    host: Any = Refusing()
    begin()
    code = finish(command.run(host, ["ipsec", "static", "add", "policy", "P"]), "netsh")
    out, err = capsys.readouterr()
    assert (code, out) == (1, "ERR IPsec[05005] : the kernel does not take it\n")
    assert err == "netsh: look at the log\n"
