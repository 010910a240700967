"""Tests of the legacy dialects: their switches, the calls they mean, and their words."""

from __future__ import annotations

import io
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ipsecd.errors import BackendFailed, IpsecdError, NotFound, Refused
from tests.ctl.conftest import Run
from tests.ctl.fake_daemon import NOT_ASKED, OUTCOME, FakeDaemon

COMMANDS = Path(__file__).parents[1] / "data" / "kb813878-commands.txt"
ARTICLE = [line for line in COMMANDS.read_text().splitlines() if not line.startswith("#")]


def put(policy: str, rule: str, *filters: str, assign: bool = False, **more: Any) -> Any:
    stored = {
        "name": rule,
        "action": "block",
        "filters": list(filters),
        "interface": None,
        "when": None,
        **more,
    }
    return ("PutRules", {"policy": policy, "rules": [stored], "create": True, "assign": assign})


def add(action: str, *filters: str, interface: str | None = None) -> Any:
    parameters = {"filters": list(filters), "action": action, "name": None, "ttl_s": None}
    return ("AddDynamic", {**parameters, "interface": interface, "when": None})


def expected(line: str) -> str:
    """The method that a line of the article has to end in."""
    for sign, method in (
        ("netdiag", "Status"),
        ("secedit", "Status"),
        ("net stop", "Stop"),
        (" -u", "FlushDynamic"),
        (" -y", "UnassignPolicy"),
        (" -o", "RemoveRules"),
        (" -f [", "AddDynamic"),
    ):
        if sign in line:
            return method
    return "PutRules"


@pytest.mark.parametrize("line", ARTICLE)
def test_commands_of_the_article(daemon: FakeDaemon, run: Run, line: str) -> None:
    """Every command works as printed, its variables filled in; the misprint names what is right."""
    argv = shlex.split(line.replace("PortNumber", "1434").replace("Protocol", "UDP"))
    ran = run(*(("ipsecctl", *argv) if argv[0] == "net" else argv))
    if "*0=:" in line:
        assert ran.code == 1
        assert "0=*:port:protocol" in ran.err
        assert daemon.calls == []
        return
    assert (ran.code, ran.err) == (0, "")
    assert daemon.calls[0][0] == expected(line)
    if daemon.calls[0][0] == "PutRules":
        parameters = daemon.calls[0][1]
        assert parameters["policy"] == argv[argv.index("-p") + 1]
        assert parameters["assign"] is ("-x" in argv)
        assert parameters["create"] is True
        assert parameters["rules"][0]["name"] == argv[argv.index("-r") + 1]
        assert parameters["rules"][0]["action"] == "block"
    if daemon.calls[0][0] == "AddDynamic":
        assert daemon.calls == [add("block", "*=0:1434:UDP")]


MEANINGS: list[tuple[str, list[Any]]] = [
    ("-W reg -P Web -R Rule -F *=0:80:TCP -N block -X",
     [put("Web", "Rule", "*=0:80:TCP", assign=True)]),
    ("-x -n BLOCK -f *+0:135:tcp *+0:445:tcp -r Rule -p Web -w REG",
     [put("Web", "Rule", "*+0:135:TCP", "*+0:445:TCP", assign=True)]),
    ("-f *=0:80:TCP -f *=0:443:TCP -w REG -p Web -r Rule -n PERMIT -lan",
     [put("Web", "Rule", "*=0:80:TCP", "*=0:443:TCP", action="permit", interface="lan")]),
    ("-w REG -p Web -r Rule -f (0+*::ICMP)", [put("Web", "Rule", "0+*::ICMP", action="permit")]),
    ("-w REG -p Web:5 -x", [("AssignPolicy", {"name": "Web", **NOT_ASKED})]),
    ("-w REG -p Web:x -x", [("AssignPolicy", {"name": "Web:x", **NOT_ASKED})]),
    ("-w REG -p Web -y", [("UnassignPolicy", {"name": "Web"})]),
    ("-w REG -p Web -o",
     [("DeletePolicy", {"name": "Web", "unassign": True, "missing_ok": False})]),
    ("-w REG -p Web -y -o",
     [("DeletePolicy", {"name": "Web", "unassign": True, "missing_ok": True})]),
    ("-w REG -p Web -r A -r B -o",
     [("RemoveRules", {"policy": "Web", "rules": ["A", "B"], "delete_empty": True})]),
    ("-w REG -p Web", [("GetPolicy", {"name": "Web"})]),
    ("-f [*=0:80:TCP]", [add("block", "*=0:80:TCP")]),
    ("-f *=0:80:TCP -n PASS -dialup", [add("permit", "*=0:80:TCP", interface="dialup")]),
    ("-f [0+*] (0+*::ICMP) (0:53+*::UDP)",
     [add("permit", "0+*::ICMP", "0:53+*::UDP"), add("block", "0+*")]),
    ("-u", [("FlushDynamic", {})]),
]  # fmt: skip


@pytest.mark.parametrize("program", ["IPSeccmd.exe", "/usr/bin/ipsecpol", "IPSECCMD"])
@pytest.mark.parametrize(("line", "calls"), MEANINGS, ids=[line for line, _ in MEANINGS])
def test_meaning_of_switches(
    daemon: FakeDaemon, run: Run, program: str, line: str, calls: list[Any]
) -> None:
    """Switches mean their calls, in any order and letter case and under every name."""
    ran = run(program, *line.split())
    assert (ran.code, ran.err) == (0, "")
    assert daemon.calls == calls
    assert "The command completed successfully: " in ran.out


def test_names_under_ipsecctl(daemon: FakeDaemon, run: Run) -> None:
    """Every dialect is also a verb of ipsecctl."""
    for line in ("ipseccmd -u", "IPSECPOL.EXE -u", "netdiag /test:ipsec", "gpupdate /force"):
        assert run("ipsecctl", *line.split()).code == 0
    methods = [method for method, _ in daemon.calls]
    assert methods == ["FlushDynamic", "FlushDynamic", "Status", "Status"]


def test_interval_is_said_to_be_needless(daemon: FakeDaemon, run: Run) -> None:
    """The polling interval behind a policy's name is taken, and nothing has to wait for it."""
    out = run("ipseccmd", "-w", "REG", "-p", "Web:5", "-x").out
    assert "Changes act at once: a polling interval of 5 minutes is not needed." in out
    assert daemon.calls == [("AssignPolicy", {"name": "Web", **NOT_ASKED})]


def test_absent_policy_is_created(daemon: FakeDaemon, run: Run) -> None:
    """A policy that is only named is created when it is absent."""
    daemon.replies["GetPolicy"] = NotFound("no such policy")
    assert run("ipseccmd", "-w", "REG", "-p", "Web").code == 0
    assert daemon.calls[1] == ("CreatePolicy", {"name": "Web", "description": None})


def replace(name: str, action: str, *filters: str) -> Any:
    """The call that puts a dynamic rule of this name in the place of the one that has it."""
    parameters = {"filters": list(filters), "action": action, "name": name, "existing": "replace"}
    absent = ("ttl_s", "until", "interface", "when", "source")
    return ("AddDynamicRules", {**dict.fromkeys(absent), **parameters})


def test_a_policy_without_w_is_dynamic(daemon: FakeDaemon, run: Run) -> None:
    """Each rule that -p and -r name without -w is one dynamic rule, beside all others."""
    for line in (
        "-p a -r a -f 10.9.0.2=10.9.0.1:80:TCP 0=*:53 -n PASS -x",
        "-p c -r c -f 10.9.0.2=* -n BLOCK",
        "-r alone -f *=0:80:TCP -n BLOCK",
        "-p d -f [*=0:80:TCP]",
    ):
        ran = run("ipseccmd", *line.split())
        assert (ran.code, ran.err) == (0, "")
        assert "in force until the agent stops" in ran.out
    assert daemon.calls == [
        replace("a: a", "permit", "10.9.0.2=10.9.0.1:80:TCP", "0=*:53"),
        replace("c: c", "block", "10.9.0.2=*"),
        replace("alone", "block", "*=0:80:TCP"),
        replace("d", "block", "*=0:80:TCP"),
    ]


def dynamic_rules(*names: str) -> dict[str, Any]:
    return {"rules": [dynamic_rule_called(name) for name in names]}


def dynamic_rule_called(name: str) -> dict[str, Any]:
    rule = {"name": name, "action": "block", "filters": ["0=*"], "interface": None, "when": None}
    return {**rule, "remaining_s": None, "by": "uid 0 (root)", "created": 1.0}


@pytest.mark.parametrize(
    ("line", "selectors"),
    [
        ("-p c -r c -f 10.9.0.2=* -n BLOCK -y", ["c: c"]),
        ("-p c -r c -f nonsense -n MAYBE -o", ["c: c"]),
        ("-p c -r c -r d -o", ["c: c", "c: d"]),
        ("-p c -y -o", ["c: c", "c: d", "c"]),
        ("-r alone -o", ["alone"]),
        ("-p x -r c -f 10.9.0.2=* -n BLOCK -o", None),
    ],
)
def test_dynamic_rules_of_a_policy_are_switched_off(
    daemon: FakeDaemon, run: Run, line: str, selectors: list[str] | None
) -> None:
    """-y and -o take them away by their names; the filters beside these count for nothing."""
    daemon.replies["ListDynamic"] = dynamic_rules("c: c", "c: d", "c", "cc: c", "alone")
    removed = {"removed": selectors, "reduced": [], "filters": 0, "still_blocked": []}
    daemon.replies["RemoveDynamicRules"] = removed
    ran = run("ipseccmd", *line.split())
    assert (ran.code, ran.err) == (0, "")
    calls = [call["selectors"] for name, call in daemon.calls if name == "RemoveDynamicRules"]
    assert calls == ([selectors] if selectors else [])


def test_what_is_to_be_stored_has_w(daemon: FakeDaemon, run: Run) -> None:
    """A stored policy is not assigned without -w, nor is anything made of nothing."""
    daemon.replies["ListDynamic"] = dynamic_rules("other: c")
    ran = run("ipseccmd", "-p", "Web", "-x")
    assert ran.code == 1
    assert "no dynamic rule of policy 'Web'" in ran.err
    assert "-w REG" in ran.err
    assert daemon.calls == [("ListDynamic", {})]
    assert "1 dynamic rule of policy 'other' in force" in run("ipseccmd", "-p", "other", "-x").out


def test_what_starts_clean_tolerates_absence(daemon: FakeDaemon, run: Run) -> None:
    """-o with -x does, and -y or -o beside the filters of the rule; they still only switch off."""
    daemon.replies["UnassignPolicy"] = NotFound("there is no policy 'Web'")
    daemon.replies["RemoveRules"] = NotFound("there is no policy 'Web'")
    start = ["ipseccmd", "-w", "REG", "-p", "Web"]
    rule = ["-r", "A", "-f", "*=0:80:TCP", "-n", "BLOCK"]
    assert run(*start, "-o", "-x").code == 0
    assert daemon.calls == [("DeletePolicy", {"name": "Web", "unassign": True, "missing_ok": True})]
    assert "there is no policy 'Web'" in run(*start, *rule, "-y").out
    assert "there is no policy 'Web'" in run(*start, *rule, "-o").out
    assert {name for name, _ in daemon.calls} == {"DeletePolicy", "UnassignPolicy", "RemoveRules"}
    assert run(*start, "-y").code == 1


def test_an_absent_policy_is_assigned_only_over_nothing(daemon: FakeDaemon, run: Run) -> None:
    """It is made, as -p does, unless the policy in force would lose its place to an empty one."""
    daemon.replies["AssignPolicy"] = NotFound("there is no policy 'Wbe'")
    assert run("ipseccmd", "-w", "REG", "-p", "Wbe", "-x").code == 1
    daemon.status(assigned=None)
    assert run("ipseccmd", "-w", "REG", "-p", "Wbe", "-x").code == 0
    assert daemon.calls[-1][0] == "PutRules"
    assert daemon.calls[-1][1]["rules"] == []


def test_a_rule_without_a_name_is_called_as_its_filters(daemon: FakeDaemon, run: Run) -> None:
    """So that the same line is the same rule the next time."""
    line = "-w REG -p Web -f 192.168.1.100:*:*+* *=0:80:TCP -n BLOCK -x"
    assert run("ipseccmd", *line.split()).code == 0
    name = "192.168.1.100+* *=0:80:TCP"
    assert daemon.calls == [put("Web", name, "192.168.1.100+*", "*=0:80:TCP", assign=True)]
    many = [f"192.0.2.{n}=0:80:TCP" for n in range(99)]
    assert run("ipseccmd", "-w", "REG", "-p", "Web", "-f", *many, "-n", "BLOCK").code == 1


@pytest.mark.parametrize("name", [r"\\127.0.0.1", r"\\LocalHost", r"\127.0.0.53", r"\\192.0.2.1"])
def test_names_of_this_computer(daemon: FakeDaemon, run: Run, name: str) -> None:
    """Loopback, localhost and own addresses behind backslashes are this computer."""
    address = {"name": "eth0", "index": 2, "type": "lan", "up": True, "addresses": ["192.0.2.1/24"]}
    daemon.replies["ListInterfaces"] = {"interfaces": [address]}
    assert run("ipsecpol", name, "-u").code == 0
    assert daemon.calls[-1] == ("FlushDynamic", {})


def test_lines_that_windows_wrote(daemon: FakeDaemon, run: Run) -> None:
    """A carriage return at the end of a line is no part of what it says."""
    for line in (
        "ipseccmd -f [*=0:80:TCP]", "ipseccmd -u", "ipseccmd -u ", "gpupdate /force",
        "netdiag /test:ipsec", "secedit /refreshpolicy machine_policy", "net stop policyagent",
    ):  # fmt: skip
        assert run("ipsecctl", *f"{line}\r".split(" ")).code == 0, line
    assert daemon.calls[0] == add("block", "*=0:80:TCP")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("\N{EN DASH}f *=0:80:TCP", "a dash (U+2013)"),
        ("-w REG -p Web -r R \N{EN DASH}f *=0:80:TCP", "a dash (U+2013)"),
        ("-f *=0:80\N{EN DASH}90:TCP -n BLOCK", "a dash (U+2013)"),
        ("-f *=0:80:TCP\N{NO-BREAK SPACE}-n BLOCK", "a blank that does not break (U+00A0)"),
        ("-f \N{LEFT DOUBLE QUOTATION MARK}*=0:80:TCP\N{RIGHT DOUBLE QUOTATION MARK} -n BLOCK",
         "a curved quotation mark (U+201C)"),
    ],
)  # fmt: skip
def test_what_word_processors_make_is_named(
    daemon: FakeDaemon, run: Run, line: str, what: str
) -> None:
    """What looks like a dash, a quotation mark or a blank and is none is said to be none."""
    ran = run("ipseccmd", *line.split(" "))
    assert ran.code in (1, 2)
    assert what in ran.err
    assert "type a plain" in ran.err
    assert daemon.calls == []


def test_services_of_windows(daemon: FakeDaemon, run: Run) -> None:
    """``net`` and ``sc`` know the agent by all of its names, and what scripts look for is said."""
    for line in (
        ["net", "stop", "IPSEC Services"], ["net", "start", "PolicyAgent", "/y"],
        ["sc", "stop", "policyagent"], ["sc.exe", "start", "PolicyAgent", "Services"],
    ):  # fmt: skip
        assert run("ipsecctl", *line).code == 0, line
    assert [name for name, _ in daemon.calls] == ["Stop", "Start", "Stop", "Start"]
    assert "STATE              : 4  RUNNING" in run("ipsecctl", "sc", "query", "PolicyAgent").out
    daemon.status(state="stopped")
    assert "STATE              : 1  STOPPED" in run("ipsecctl", "sc", "query", "PolicyAgent").out
    assert run("ipsecctl", "sc", "config", "policyagent", "start=", "auto").code == 0
    ran = run("ipsecctl", "sc", "config", "policyagent", "start=", "disabled")
    assert (ran.code, "systemctl disable" in ran.err) == (1, True)


@pytest.mark.parametrize("name", ["net", "sc"])
def test_other_services_are_for_other_programs(tmp_path: Path, name: str) -> None:
    """The next program of the name on the path gets what is not about the agent."""
    other = tmp_path / name
    other.write_text('#!/bin/sh\necho "other $0: $@"\nexit 7\n')
    other.chmod(0o755)
    line = [sys.executable, "-m", "ipsecctl", name, "ads", "join user"]
    done = subprocess.run(
        line, capture_output=True, text=True, check=False, env={"PATH": str(tmp_path)}
    )
    assert done.returncode == 7
    assert done.stdout.endswith("ads join user\n")
    done = subprocess.run(line, capture_output=True, text=True, check=False, env={"PATH": ""})
    assert done.returncode == 2
    assert f"'{name} ads join user' is not known here" in done.stderr


@pytest.mark.parametrize("name", ["net", "sc"])
def test_what_is_handed_on_does_not_come_back(tmp_path: Path, name: str) -> None:
    """Two programs that would hand a command to each other for ever pass it once, and say so."""
    directories = [tmp_path / each for each in ("first", "second")]
    for directory in directories:
        directory.mkdir()
        program = directory / name
        ours = f'"{sys.executable}" -m ipsecctl'
        program.write_text(f'#!/bin/sh\necho "${{0}}" >> {tmp_path}/ran\n{ours} {name} "$@"\n')
        program.chmod(0o755)
    path = ":".join(map(str, directories))
    done = subprocess.run(
        [str(directories[0] / name), "share"], capture_output=True, text=True, check=False,
        env={"PATH": path}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"'{name} share' is not known here" in done.stderr
    assert len((tmp_path / "ran").read_text().splitlines()) <= 3


def test_commands_are_handed_to_no_program_that_lies_about(tmp_path: Path) -> None:
    """Not to one where somebody stands, and not with the agent's name; what fails is said."""
    other = tmp_path / "sc"
    other.write_text("no program")
    other.chmod(0o755)

    def ran(path: str, *words: str) -> tuple[int, str]:
        line = [sys.executable, "-m", "ipsecctl", "sc", *words]
        done = subprocess.run(
            line, capture_output=True, text=True, check=False, env={"PATH": path}, cwd=tmp_path
        )
        return done.returncode, done.stderr

    for path in (":/nowhere", ".", str(tmp_path)):
        code, said = ran(path, "delete", "PolicyAgent")
        assert (code, "'sc delete PolicyAgent' is not known here" in said) == (2, True)
    for path in (":/nowhere", "."):
        assert "'sc x' is not known here" in ran(path, "x")[1]
    code, said = ran(str(tmp_path), "x")
    assert (code, "cannot be run: Exec format error" in said) == (2, True)


def test_start_clean_tolerates_absence(daemon: FakeDaemon, run: Run) -> None:
    """-y -o succeeds when the policy or some of its rules are absent; -o alone does not."""
    clean = ["-w", "REG", "-p", "Web", "-r", "A", "-r", "Block web", "-y", "-o"]
    assert run("ipseccmd", *clean).code == 0
    removal = {"policy": "Web", "rules": ["Block web"], "delete_empty": True}
    assert [daemon.calls[0], daemon.calls[-1]] == [
        ("UnassignPolicy", {"name": "Web"}),
        ("RemoveRules", removal),
    ]
    absent = [*clean[:6], "-r", "B", "-y", "-o"]
    assert "'Web' has no such rule" in run("ipseccmd", *absent).out
    daemon.replies["RemoveRules"] = NotFound("policy 'Web' has no rule 'A'")
    assert "'Web' has no rule 'A'" in run("ipseccmd", *clean[:6], "-y", "-o").out
    daemon.replies["UnassignPolicy"] = NotFound("there is no policy 'Web'")
    assert run("ipseccmd", *["-w", "REG", "-p", "Web", "-r", "A", "-y", "-o"]).code == 0
    daemon.replies["RemoveRules"] = NotFound("there is no policy 'Web'")
    assert run("ipseccmd", *["-w", "REG", "-p", "Web", "-r", "A", "-o"]).code == 1


def test_half_a_command_does_not_stay(
    daemon: FakeDaemon, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the second of two dynamic rules is refused, the first is taken back."""
    make_up = daemon.make_up

    def answer(method: str, parameters: dict[str, Any]) -> dict[str, Any] | IpsecdError:
        full = parameters["action"] == "block"
        return BackendFailed("the kernel is full") if full else make_up(method, parameters)

    monkeypatch.setattr(daemon, "make_up", answer)
    ran = run("ipseccmd", "-f", "[0+*]", "(0+*::ICMP)")
    assert ran.code == 1
    assert ran.err.startswith("ipseccmd: the kernel is full")
    assert daemon.calls[2] == ("RemoveDynamic", {"selector": "dynamic-1"})
    daemon.replies["RemoveDynamic"] = BackendFailed("no memory")
    ran = run("ipseccmd", "-f", "[0+*]", "(0+*::ICMP)")
    assert "'dynamic-4' could not be taken back: no memory" in ran.err


REFUSALS = [
    ("-f *=0:80:TCP", "-n BLOCK"),
    ("-f *=0:80:TCP -n ESP[3DES,MD5]", "does not encrypt"),
    ("-f *=0:80:TCP -n esp[des,sha] ah[md5]", "does not encrypt"),
    ("-f *=0:80:TCP -n AH[SHA]", "does not encrypt"),
    ("-f *=0:80:TCP -n InPass", "does not encrypt"),
    ("-f *=0:80:TCP -n BLOCK -t 10.0.0.1", "-t"),
    ("-f *=0:80:TCP -n BLOCK -a PRESHARE:secret", "-a"),
    ("-f *=0:80:TCP -soft", "-soft"),
    ("-f *=0:80:TCP -1s DES-MD5-1", "-1s"),
    ("-f *=0:80:TCP -1K 50Q", "-1K"),
    ("-f *=0:80:TCP -1p", "-1p"),
    ("-f *=0:80:TCP -1f *=0", "-1f"),
    ("-f *=0:80:TCP -1e 3600", "-1e"),
    ("-w DS:example.com -p Web -x", "-w REG"),
    ("-w REG -x", "-p NAME"),
    ("-w REGISTRY -p Web -x", "-w REG"),
    ("-w REG -p Web -r A", "-r"),
    ("-w REG -p Web -x -y", "-x"),
    ("-w REG -p Web -r A -r B -f *=0:80:TCP -n BLOCK", "-r"),
    ("-p Web -r A -r B -f *=0:80:TCP -n BLOCK", "-r"),
    ("-p Web -r A -f [*=0:80:TCP] (0+*)", "one action"),
    ("-x", "-f"),
    ("-y", "-p POLICY"),
    ("export REG old.ipsec", "ipsecctl backup"),
    ("import REG old.ipsec", "ipsecctl restore"),
    ("-w REG -p Web -r A -f [*=0:80:TCP] -n PASS", "brackets"),
    ("-w REG -p Web -r A -f [*=0:80:TCP] (0+*)", "one action"),
    ("-f etc -n BLOCK", "quote"),
]


@pytest.mark.parametrize(("line", "word"), REFUSALS, ids=[line for line, _ in REFUSALS])
def test_refusals(daemon: FakeDaemon, run: Run, line: str, word: str) -> None:
    """What cannot be done is refused by name with exit 1, and nothing is changed."""
    ran = run("ipseccmd", *line.split())
    assert (ran.code, ran.out) == (1, "")
    assert word in ran.err
    assert daemon.calls == []


@pytest.mark.parametrize("name", [r"\\host", r"\host", r"\\10.5.5.7"])
def test_other_computers_are_refused(daemon: FakeDaemon, run: Run, name: str) -> None:
    """Nothing is changed when a line means another computer; it is said how to get there."""
    ran = run("ipseccmd", name, "-u")
    assert (ran.code, ran.out) == (1, "")
    assert f"ssh {name.lstrip(chr(92))} ipsecctl" in ran.err
    assert [method for method, _ in daemon.calls] == ["ListInterfaces"]


@pytest.mark.parametrize(
    "line",
    ["-frob", "- f", "-w REG -p Web -n BLOCK", "-w REG -p Web -x -lan",
     "-w REG -p", "-w REG -p -x", "-u -x", "stray", "-f *=0:80:TCP -n MAYBE", "-lan",
     "-f *=0:80:TCP -n BLOCK -lan -dialup", "-w REG -p A -p B -x", "show", "show frob"],
)  # fmt: skip
def test_wrong_command_lines(daemon: FakeDaemon, run: Run, line: str) -> None:
    """A command line that does not exist is exit 2."""
    ran = run("ipseccmd", *line.split())
    assert (ran.code, ran.out) == (2, "")
    assert daemon.calls == []


def test_usage_of_the_dialects(run: Run) -> None:
    """Usage is printed for -? and /? with exit 0, and for no argument with exit 2."""
    for program in ("ipseccmd", "ipsecpol"):
        assert run(program).code == 2
        for asked in ("-?", "/?"):
            ran = run(program, asked)
            assert ran.code == 0
            assert ran.out.startswith(f"usage: {program} -w REG")
    assert "show" in run("ipseccmd", "-?").out
    assert "show" not in run("ipsecpol", "-?").out


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("N\n", 1), ("\n", 1), ("", 1)])
def test_confirm_asks_before_acting(
    daemon: FakeDaemon, run: Run, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    """With -confirm only a yes changes something; the end of input is a no."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    ran = run("ipseccmd", "-f", "[*=0:80:TCP]", "-confirm")
    assert ran.code == code
    assert "block *=0:80:TCP\n" in ran.out
    assert bool(daemon.calls) is (code == 0)


def test_show_of_ipseccmd(daemon: FakeDaemon, run: Run) -> None:
    """``show all`` prints every list, and says honestly that nothing is encrypted here."""
    ran = run("ipseccmd", "show", "all")
    assert ran.code == 0
    asked = [method for method, _ in daemon.calls]
    assert asked == ["ListFilters", "ListPolicies", "Stats", "Status"]
    assert "There is no domain policy on this host." in ran.out
    assert "There are no security associations: this system blocks and permits" in ran.out
    assert run("ipsecpol", "show", "all").code == 2


def test_refresh_says_what_is_in_force(daemon: FakeDaemon, run: Run) -> None:
    """Secedit and gpupdate ask the daemon before they say that the local policy is in force."""
    line = "There is no domain policy on this host; the local policy is in force.\n"
    assert run("secedit", "/refreshpolicy", "machine_policy").out == line
    assert run("gpupdate", "/target:computer", "/force").out == line
    daemon.status(assigned=None)
    assert "no local policy is assigned" in run("gpupdate").out
    daemon.status(state="failed", failures=["web.yaml:3: no action"])
    assert run("gpupdate").code == 1
    assert run("secedit", "/analyze").code == 1


DOMAIN = {
    "source": "https://policy.example.net/fleet",
    "policy": "Fleet",
    "path": "all/web.yaml",
    "digest": "f" * 64,
    "version": 3,
    "expires": "2100-01-01T00:00:00Z",
    "expired": False,
    "taken_at": 1.0,
    "checked_at": 1.0,
    "problem": "",
    "withdrawn": False,
    "why": "it is for all hosts",
    "overridden": "Web",
    "trusted": True,
}
REFRESHED = {
    "changed": True,
    "message": "policy 'Fleet' of the domain is in force",
    "changes": [],
    "assigned": "Web",
    "warnings": [],
}


@pytest.mark.parametrize(
    ("line", "wait_s"),
    [
        ("secedit /refreshpolicy machine_policy", 600.0),
        ("secedit /refreshpolicy MACHINE_POLICY /enforce", 600.0),
        ("gpupdate", 600.0),
        ("gpupdate /force", 600.0),
        ("gpupdate /target:computer /force /wait:0", 0.0),
        ("gpupdate /Wait:30 /sync /boot", 30.0),
        ("gpupdate /wait:-1", 3600.0),
        ("GPUpdate.exe -Target:COMPUTER -Force -Wait:5 -Logoff -Boot -Sync", 5.0),
    ],
)
def test_refresh_has_the_domain_looked_at(
    daemon: FakeDaemon, run: Run, line: str, wait_s: float
) -> None:
    """Where a domain is configured it is looked at at once, and what came is said."""
    daemon.status(domain=DOMAIN, loaded_from="domain", assigned="Fleet")
    daemon.replies["RefreshDomain"] = {"outcome": REFRESHED}
    ran = run(*line.split())
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == ("The domain was looked at: policy 'Fleet' of the domain is in force.\n")
    assert daemon.calls[1:] == [("RefreshDomain", {"wait_s": wait_s})]
    daemon.replies["RefreshDomain"] = Refused("nobody looks at the domain", "start it")
    ran = run(*line.split())
    assert ran.code == 1
    assert "nobody looks at the domain" in ran.err


@pytest.mark.parametrize("arg", ["/wait:x", "/wait:", "/wait:-2", "/target:moon", "/force:1"])
def test_switches_of_gpupdate_are_checked(daemon: FakeDaemon, run: Run, arg: str) -> None:
    """What was not a switch of old is none."""
    assert run("gpupdate", arg).code == 2
    assert daemon.calls == []


@pytest.mark.parametrize("arg", ["/?", "-?", "/help"])
def test_gpupdate_explains_its_switches(daemon: FakeDaemon, run: Run, arg: str) -> None:
    """Whoever asks is told of each switch, and nothing is refreshed."""
    ran = run("gpupdate", "/force", arg)
    assert (ran.code, daemon.calls) == (0, [])
    for switch in ("/target:", "/force", "/wait:", "/logoff", "/boot", "/sync"):
        assert switch in ran.out


def test_there_are_no_policies_for_users(daemon: FakeDaemon, run: Run) -> None:
    """``gpupdate /target:user`` refreshes nothing, and says so."""
    ran = run("gpupdate", "/target:user", "/force")
    assert (ran.code, daemon.calls) == (0, [])
    assert "no policy for users" in ran.out


def test_the_domain_is_named(daemon: FakeDaemon, run: Run) -> None:
    """By netdiag, by ``ipseccmd show gpo`` and by status, with all that is known of it."""
    daemon.status(domain=DOMAIN, loaded_from="domain", assigned="Fleet")
    ran = run("netdiag", "/test:ipsec")
    assert ran.out.endswith("Passed\n    Domain IPSec Policy Active: 'Fleet'\n")
    ran = run("ipseccmd", "show", "gpo")
    assert ran.out.startswith(
        "Domain policy: 'Fleet'\n    Source: https://policy.example.net/fleet"
    )
    assert "In the place of: 'Web' of this host" in ran.out
    ran = run("ipsecctl", "status")
    assert "'Fleet', of the domain" in ran.out
    assert "version 3 · good until 2100-01-01T00:00:00Z · looked at" in ran.out
    assert "'Web' is assigned, without effect meanwhile" in ran.out
    changes = {"problem": "no route", "expired": True, "policy": None, "overridden": None}
    daemon.status(domain={**DOMAIN, **changes}, loaded_from="policy")
    ran = run("ipsecctl", "status")
    assert "no policy was taken yet" in ran.out
    assert "problem: no route; what is in force stays" in ran.out
    daemon.status(domain={**DOMAIN, **changes, "withdrawn": True}, loaded_from="policy")
    assert "withdrawn" in run("ipsecctl", "status").out
    assert run("ipseccmd", "show", "gpo").out.startswith("Domain policy: withdrawn\n")
    daemon.status(domain={**DOMAIN, **changes, "trusted": False}, loaded_from="policy")
    assert "no root is trusted: ipsecctl domain trust REPO" in run("ipsecctl", "status").out


def test_net_starts_and_stops(daemon: FakeDaemon, run: Run) -> None:
    """Net start and net stop policyagent start and stop enforcement."""
    assert run("ipsecctl", "net", "START", "PolicyAgent").code == 0
    assert run("ipsecctl", "net", "stop", "policyagent").code == 0
    assert daemon.calls == [("Start", {}), ("Stop", {})]


def test_nothing_is_said_twice(daemon: FakeDaemon, run: Run) -> None:
    """A message that is itself about what is assigned is not followed by the same words."""
    outcome = {**OUTCOME, "message": "no policy is assigned", "assigned": None}
    daemon.replies["UnassignPolicy"] = {"outcome": outcome}
    out = run("ipseccmd", "-w", "REG", "-p", "Web", "-y").out
    assert out == "The command completed successfully: no policy is assigned.\n"
