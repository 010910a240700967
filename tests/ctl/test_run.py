"""``ipsecctl run``: what a file does, what is said of each line, and what it must not do."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ipsecctl import __main__ as main
from ipsecctl.options import parse_options
from ipsecctl.running import interpreter, verb
from ipsecctl.running.decoding import decoded
from ipsecctl.running.syntax import parse
from ipsecctl.verbs import VERBS
from ipsecctl.workspace.exchange import ATTEMPTS
from ipsecd.errors import Changed, InvalidInput, IpsecdError, LimitExceeded, Refused
from ipsecd.model.shared_filters import SharedFilter
from tests.ctl.direct_daemon import DirectDaemon

CHANGES = ("ChangeTogether", "Start", "Stop", "RefreshDomain")
ADD = 'ipseccmd -w REG -p Web -r "Block {0}" -f *=0:{0}:TCP -n BLOCK'


class Told(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What a report in JSON says of each line."""
        lines: list[dict[str, Any]] = json.loads(self.out)["lines"]
        return lines

    @property
    def results(self) -> list[tuple[int, str]]:
        return [(line["line"], line["result"]) for line in self.lines]


RunText = Callable[..., Told]


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DirectDaemon:
    monkeypatch.chdir(tmp_path)
    return DirectDaemon(tmp_path / "daemon")


@pytest.fixture
def run(daemon: DirectDaemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> RunText:
    """Carries out a file with these lines."""

    def run_text(*lines: str, options: tuple[str, ...] = ("--json",)) -> Told:
        path = tmp_path / "file.cmd"
        path.write_bytes("\r\n".join(lines).encode())
        daemon.calls.clear()
        code = verb.run(daemon, parse_options(VERBS["run"], [str(path), *options]))
        return Told(code, *capsys.readouterr())

    return run_text


def rules(daemon: DirectDaemon) -> list[str]:
    """The names of the rules of the policy that is assigned."""
    return [entry["rule"] for entry in daemon.call("ListFilters")["filters"]]


def test_a_file_is_one_change(daemon: DirectDaemon, run: RunText) -> None:
    """However many lines it has, the daemon is asked once."""
    told = run("ipseccmd -w REG -p Web -o -x", *(ADD.format(n) for n in (80, 81, 82)),
               "ipseccmd -w REG -p Web -x")  # fmt: skip
    assert told.code == 0
    assert [name for name in daemon.calls if name in CHANGES] == ["ChangeTogether"]
    assert rules(daemon) == ["Block 80", "Block 81", "Block 82"]
    assert json.loads(told.out)["changed"] is True
    assert told.results == [(1, "no effect"), *((n, "done") for n in (2, 3, 4, 5))]


def test_the_second_time_nothing_changes(daemon: DirectDaemon, run: RunText) -> None:
    """A file that starts clean makes what is there already, and that is seen."""
    lines = ["ipseccmd -w REG -p Web -o -x", ADD.format(80) + " -x", "net start policyagent"]
    assert json.loads(run(*lines).out)["changed"] is True
    assert json.loads(run(*lines).out)["changed"] is False
    assert [name for name in daemon.calls if name in CHANGES] == []


def test_one_line_that_is_refused_refuses_the_file(daemon: DirectDaemon, run: RunText) -> None:
    """All lines are told, and nothing has changed; the others can be had by an option."""
    run(ADD.format(1) + " -x")
    before = daemon.state()
    lines = [ADD.format(80) + " -x", "ipseccmd -w REG -p Web -r T -f 0+* -n ESP[3DES,SHA]",
             "ipseccmd -u -x", ADD.format(81)]  # fmt: skip
    told = run(*lines)
    assert told.code == 1
    assert daemon.state() == before
    assert told.results == [(1, "done"), (2, "refused"), (3, "refused"), (4, "done")]
    assert "does not encrypt" in told.lines[1]["reason"]
    assert json.loads(told.out)["changed"] is False
    assert json.loads(told.out)["error"] == "Refused"
    assert "2 lines are refused, so nothing has changed; the first is line 2" in told.err
    told = run(*lines, options=("--skip-refused", "--json"))
    assert told.code == 0
    assert rules(daemon) == ["Block 1", "Block 80", "Block 81"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("shutdown /r", "does something else than rules"),
        ("DEL C:\\x.txt", "does something with files"),
        (r"C:\Windows\reg.exe add HKLM\x", "does something with the computer"),
        ("powershell -c x", "starts another program"),
        ("goto start", "jumps"),
        ("call other.bat", "calls another file"),
        ("frobnicate", "is no command of those that are taken"),
        ("net stop spooler", "is not about the policy agent"),
        ("sc query", "is not about the policy agent"),
        ("netsh advfirewall firewall add rule name=x dir=in action=block", ""),
        ("netsh interface ip show config", "is not done here"),
        ("ipsecctl flush", "is not taken in a file"),
        ("ipsecctl", "is not taken in a file"),
        ('ipseccmd -f "[*=0:80:TCP]" -confirm', "asks somebody"),
        ('if "%X:~0,1%"=="a" ipseccmd -u', "a part of a value"),
        ("ipseccmd -w REG -p %NONE% -x", "has no value"),
        ("echo x | more", "piped to"),
        ("netsh ipsec static set policy name=none assign=y", "there is no policy"),
        ('if "%1"=="x" shutdown', "does something else than rules"),
        ("for %%i in (*.txt) do ipseccmd -u", "stands for files"),
        ("for /l %%i in (1,2) do ipseccmd -u", "is not start, step and end"),
        ("set X=a^&b\nipseccmd -w REG -p %X% -x", "would make another command"),
        ("setlocal EnableDelayedExpansion\nipseccmd -w REG -p !X! -x", "!NAME!"),
    ],
)
def test_what_else_is_refused(daemon: DirectDaemon, run: RunText, line: str, said: str) -> None:
    """By name, with its line, and before anything is changed."""
    run(ADD.format(1) + " -x")
    before = daemon.state()
    told = run(ADD.format(2), *line.split("\n"))
    assert told.code == 1
    refused = [each for each in told.lines if each["result"] == "refused"]
    assert len(refused) == 1
    assert said in refused[0]["reason"]
    assert refused[0]["line"] in (2, 3)
    assert daemon.state() == before


def test_what_is_not_understood_asks_no_daemon(daemon: DirectDaemon, run: RunText) -> None:
    """Neither for what is there nor for a change."""
    assert run("del x", "shutdown").code == 1
    assert daemon.calls == []
    with pytest.raises(InvalidInput, match="writes a file") as raised:
        run(ADD.format(1), "ipseccmd show all > x.txt")
    assert raised.value.line == 2
    assert daemon.calls == []


def test_what_is_not_there_is_no_error_where_it_is_taken_away(run: RunText) -> None:
    """It is told, and counts as an exit code of 1, as in cmd."""
    told = run(
        "ipseccmd -w REG -p Web -y",
        "if errorlevel 1 echo absent",
        "ipseccmd -w REG -p Web -o",
        "ipseccmd -p a -r b -o",
        "netsh ipsec static delete policy name=Web",
        "netsh ipsec static delete filterlist name=L || echo none",
        "netsh ipsec static add filterlist name=L && echo made",
        "netsh ipsec static add filterlist name=L",
    )
    assert told.code == 0
    assert told.results == [
        (1, "no effect"), (2, "said"), (3, "no effect"), (4, "no effect"), (5, "no effect"),
        (6, "no effect"), (6, "said"), (7, "done"), (7, "said"), (8, "no effect"),
    ]  # fmt: skip
    assert told.lines[0]["reason"] == "there is no policy 'Web'"
    assert [line["printed"] for line in told.lines if line["result"] == "said"] == [
        ["absent"], ["none"], ["made"],
    ]  # fmt: skip


def test_a_rule_that_is_missing_is_said_at_the_end(run: RunText) -> None:
    """A rule whose list is not there is passed over, as in the scripts; what is open is told."""
    told = run(
        "netsh ipsec static add policy name=P assign=y",
        "netsh ipsec static add filteraction name=B action=block",
        "netsh ipsec static add rule name=R policy=P filterlist=L filteraction=B",
    )
    assert told.code == 0
    warnings = json.loads(told.out)["warnings"]
    assert "line 3: no rule was added: there is no filter list 'L'" in warnings
    assert "policy 'P' is assigned and has no filter: it blocks nothing" in warnings


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("netsh ipsec static add filteraction B action=permit", "which is to block"),
        ("netsh ipsec static set policy None ass=y", "there is no policy 'None'"),
        ("netsh ipsec static add policy Q assign=y", "policy 'Q' is left as it is"),
        ("netsh -f inner.txt", "there is no policy 'None'"),
    ],
)
def test_what_would_leave_the_host_open_is_refused(
    daemon: DirectDaemon, run: RunText, tmp_path: Path, line: str, said: str
) -> None:
    """An action that is the opposite of what is meant, and a policy that is not assigned."""
    (tmp_path / "inner.txt").write_text("ipsec static set policy None assign=y\n")
    run(
        "netsh ipsec static add filteraction name=B action=block",
        "netsh ipsec static add policy P assign=y",
        "netsh ipsec static add policy Q",
    )
    before = daemon.state()
    told = run(line, ADD.format(1))
    assert (told.code, daemon.state()) == (1, before)
    assert told.results == [(1, "refused"), (2, "done")]
    assert said in told.lines[0]["reason"] + told.lines[0]["hint"]


def test_what_is_there_just_so_lacks_nothing(run: RunText) -> None:
    """Scripts are run twice. A rule of that name that is another one is told at the end."""
    lines = [
        "netsh ipsec static add filteraction name=B action=block",
        "netsh ipsec static add filter L any me",
        "netsh ipsec static add policy P assign=y",
        "netsh ipsec static add rule R P L B",
    ]
    run(*lines)
    told = run(*lines)
    assert (told.code, json.loads(told.out)["warnings"]) == (0, [])
    told = run(*lines[:3], "netsh ipsec static add rule R P L B conn=lan")
    assert json.loads(told.out)["warnings"] == [
        "line 4: no rule was added: rule 'R' is left as it is"
    ]


def test_old_commands_and_netsh_see_each_other(daemon: DirectDaemon, run: RunText) -> None:
    """Whichever made something, the other finds it, in the same file."""
    told = run(
        "netsh ipsec static add policy name=P",
        "ipseccmd -w REG -p P -r A -f *=0:80:TCP -n BLOCK",
        "netsh ipsec static set policy name=P assign=y",
        "netdiag /test:ipsec | find \"'P'\" && echo active",
        "netsh ipsec static delete rule name=A policy=P",
    )
    assert told.code == 0
    assert [line["printed"] for line in told.lines if line["result"] == "said"] == [["active"]]
    assert daemon.state()["assigned"] == "P"
    assert rules(daemon) == []


def test_existence_tests(daemon: DirectDaemon, run: RunText) -> None:
    """What is asked for is what the file has made so far."""
    asked = 'netsh ipsec static show policy name=Web | findstr "Web" > nul && echo yes || echo no'
    told = run(asked, ADD.format(80), asked, "ipseccmd -w REG -p Web -o", asked)
    assert [line["printed"] for line in told.lines if line["result"] == "said"] == [
        ["no"], ["yes"], ["no"],
    ]  # fmt: skip
    assert daemon.state()["policies"] == []


def test_variables_and_loops(daemon: DirectDaemon, run: RunText) -> None:
    """A value is what it was before a block began; loops write out what they do."""
    told = run(
        r'set IPS="C:\Program Files\Support Tools\ipseccmd.exe" -w REG -p "My Net"',
        "set PORT=80",
        '%IPS% -r "p%PORT%" -f *=0:%PORT%:TCP -n BLOCK -x',
        "for %%p in (135, 137) do (",
        "  set PORT=%%p",
        "  echo %PORT%",
        "  %IPS% -r p%%p -f *=0:%%p:TCP -n BLOCK",
        ")",
        "for /l %%i in (5,-2,1) do echo %%i %PORT%",
        "set PORT=",
        'if "%PORT%"=="" echo %PORT% 100%% %NONE%',
        'if not "a"=="b" if /i "A"=="a" echo both',
        "if 3 geq 20 (echo wrong) else echo numbers",
    )
    assert rules(daemon) == ["p80", "p135", "p137"]
    said = [line["printed"][0] for line in told.lines if line["result"] == "said"]
    assert said[:5] == ["80", "80", "5 137", "3 137", "1 137"]
    assert said[5:] == ["%PORT% 100% %NONE%", "both", "numbers"]


def test_where_the_file_is(daemon: DirectDaemon, run: RunText, tmp_path: Path) -> None:
    """Files that it names by its own place are found, wherever somebody stands."""
    (tmp_path / "list.nsh").write_text("ipsec static add policy name=P\n")
    told = run('cd /d "%~dp0"', 'netsh -f "%~dp0list.nsh"', "@exit /b 0", "shutdown")
    assert told.code == 1
    told = run('cd /d "%~dp0"', 'netsh -f "%~dp0list.nsh"', "exit /b 0", ADD.format(1))
    assert [each["name"] for each in daemon.state()["policies"]] == ["P"]


def test_dry_runs_change_nothing(daemon: DirectDaemon, run: RunText, tmp_path: Path) -> None:
    """Nor do they write files, start the agent, or ask for a look at a domain."""
    daemon.call("Stop")
    before = daemon.state()
    told = run("net start policyagent", ADD.format(80), "netsh ipsec static exportpolicy file=x",
               options=("--dry-run", "--json"))  # fmt: skip
    assert told.code == 0
    assert json.loads(told.out)["changed"] is True
    assert daemon.state() == before
    assert not (tmp_path / "x").exists()
    assert daemon.call("Status")["status"]["state"] == "stopped"


def test_the_agent_is_started_and_never_left_stopped(daemon: DirectDaemon, run: RunText) -> None:
    """A restart ends dynamic rules, as it does by itself; a stop at the end is refused."""
    run('ipseccmd -f "[*=0:80:TCP]"', ADD.format(1) + " -x")
    assert len(daemon.state()["dynamic"]) == 1
    with pytest.raises(Refused, match="ends with the policy agent stopped"):
        run(ADD.format(2), "net stop policyagent")
    assert rules(daemon) == ["Block 1", "dynamic-1"]
    told = run("net stop policyagent", "net start policyagent", ADD.format(2))
    assert told.results == [(1, "done"), (2, "done"), (3, "done")]
    assert rules(daemon) == ["Block 1", "Block 2"]
    daemon.call("Stop")
    with pytest.raises(Refused, match="cannot be put back"):
        run("net start policyagent", ADD.format(3), options=("--confirm", "60s"))
    assert run("net start policyagent", ADD.format(3)).code == 0
    assert rules(daemon) == ["Block 1", "Block 2", "Block 3"]


def test_others_may_change_something_meanwhile(
    daemon: DirectDaemon, run: RunText, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the file is carried out anew on what there is, and reported once."""
    call, others = daemon.call, [3]

    def meddled(method: str, parameters: Any = None, *more: Any) -> Any:
        if method == "ChangeTogether" and others[0]:
            others[0] -= 1
            call("CreatePolicy", {"name": f"other {others[0]}", "description": None})
        return call(method, parameters, *more)

    monkeypatch.setattr(daemon, "call", meddled)
    told = run(ADD.format(80))
    assert (told.code, told.results) == (0, [(1, "done")])
    names = [each["name"] for each in daemon.state()["policies"]]
    assert names == ["Web", "other 0", "other 1", "other 2"]
    others[0] = ATTEMPTS
    monkeypatch.setattr(daemon, "call", lambda *given: _stale(call, *given))
    with pytest.raises(Changed):
        run(ADD.format(81))


def _stale(call: Any, method: str, parameters: Any = None) -> Any:
    if method == "ChangeTogether":
        parameters = {**parameters, "fingerprint": "stale"}
    return call(method, parameters)


def test_what_a_terminal_is_shown(run: RunText) -> None:
    """A line for each command; what a file prints cannot control the terminal."""
    told = run("echo \x1b[2J\x1b]0;x\x07 ok", ADD.format("80") + " -x", "netdiag /test:ipsec > nul",
               "netdiag /test:ipsec", options=())  # fmt: skip
    assert "\x1b" not in told.out + told.err
    assert "\x07" not in told.out + told.err
    assert "\\u001b[2J" in told.out
    lines = told.out.splitlines()
    assert lines[1].split() == ["2", "done", *(ADD.format(80) + " -x").split()]
    assert lines[2].split()[:4] == ["3", "no", "effect", "netdiag"]
    assert lines[4].strip().startswith("IP Security test")
    assert "assigned: 'Web'" in lines[-1]


def test_a_file_without_end_ends(
    daemon: DirectDaemon, run: RunText, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that would go on for ever, one in another, and output without end."""
    monkeypatch.setattr(interpreter, "MAX_COMMANDS", 500)
    for loop in (
        "for /l %%i in (1,0,2) do echo x",
        "for /l %%i in (1,1,999) do for /l %%j in (1,1,999) do ipseccmd -u",
        "for /l %%i in (1,1,999999999) do set X=1",
    ):
        with pytest.raises(LimitExceeded, match="more than 500 commands"):
            run(ADD.format(80), loop)
    monkeypatch.setattr(interpreter, "MAX_PRINTED", 1000)
    with pytest.raises(LimitExceeded, match="prints more"):
        run("for /l %%i in (1,1,99) do echo " + "x" * 90)
    growing = ["set X=" + "x" * 5000, "set X=%X%%X%"]
    assert run(*growing).code == 1
    assert daemon.state()["policies"] == []


def test_long_files_cost_their_length(
    daemon: DirectDaemon, run: RunText, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3,000 filters are one change and one list, and each is looked at a few times in all."""
    hashed = 0
    original = SharedFilter.__hash__

    def counted(given: SharedFilter) -> int:
        nonlocal hashed
        hashed += 1
        return original(given)

    monkeypatch.setattr(SharedFilter, "__hash__", counted)
    lines = [
        f"netsh ipsec static add filter filterlist=L srcaddr=10.0.{n // 256}.{n % 256} dstaddr=me"
        for n in range(3000)
    ]
    told = run(
        "netsh ipsec static add policy name=P assign=y",
        "netsh ipsec static add filteraction name=B action=block",
        *lines,
        "netsh ipsec static add rule name=R policy=P filterlist=L filteraction=B",
        options=(),
    )
    assert told.code == 0
    held = daemon.call("GetList", {"name": "netsh-L", "address": None, "counters": None})
    assert len(held["entries"]) == 3000
    assert rules(daemon) == ["R"]
    assert [name for name in daemon.calls if name in CHANGES] == ["ChangeTogether"]
    assert hashed < 15 * 3000


def test_standard_input_and_errors_for_programs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file can come through a pipe; what cannot be read is an error with its line."""
    stdin = io.TextIOWrapper(io.BytesIO(b"\xff\xfe" + "ver\ncopy a b > c".encode("utf-16-le")))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main.main(["ipsecctl", "run", "-", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["error"], told["source"], told["line"]) == ("InvalidInput", "<stdin>", 2)


PIECES = st.sampled_from(
    ["ipseccmd", "-w REG", "-p", "Web", "-r", '"A b"', "-f", "*=0:80:TCP", "-n BLOCK", "-x", "-y",
     "-o", "-u", "netsh", "ipsec static", "add", "policy", "name=P", "delete all", "echo", "@",
     "rem", "::", "if", "errorlevel 1", "not", "else", "for %%i in", "(1 2)", "do", "(", ")", "&",
     "&&", "||", "|", "find", "findstr", '"x"', ">", "nul", "2>nul", "^", "\n", "\r\n", "%", "%%",
     "%%i", "%X%", "set X=", "set", "exit", "goto :eof", "==", "equ", "net stop policyagent",
     "net start policyagent", "sc query policyagent", "gpupdate", "netdiag", "/l", "(1,1,3)", '"',
     "\x1b[31m", "\0", "\u202e", "\ud800", "!X!", "~", "1", " ", "\t", ":", ";", ",", "="]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@example(["for /l %%i in (1,1,3) do ", "ipseccmd -u"])
@given(st.lists(PIECES, max_size=25))
def test_any_text(any_daemon: DirectDaemon, pieces: list[str]) -> None:
    """It is carried out or refused; there is no other end, and no change where it is refused."""
    text = " ".join(pieces).encode("utf-8", "surrogatepass")
    before = any_daemon.state()
    try:
        statements = parse(decoded(text)[0], "file.cmd")
        unknown = interpreter.unknown_commands(statements)
        script = verb.carried_out(any_daemon, statements)
    except IpsecdError as error:
        assert isinstance(error, InvalidInput | Refused | LimitExceeded), error  # noqa: PT017
    else:
        assert all(line.result != "refused" or line.reason for line in script.lines)
        assert not unknown or script.refused or len(script.lines) < len(pieces)
    assert any_daemon.state() == before


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80), st.sampled_from([None, "cp936", "utf-16", "cp1252"]))
def test_any_bytes(content: bytes, code_page: str | None) -> None:
    """They are text in lines, or no text."""
    try:
        lines, _ = decoded(content, code_page)
    except InvalidInput as error:
        assert error.hint  # noqa: PT017
    else:
        assert not any("\0" in line or "\n" in line for line in lines)


@pytest.fixture(scope="module")
def any_daemon(tmp_path_factory: pytest.TempPathFactory) -> DirectDaemon:
    return DirectDaemon(tmp_path_factory.mktemp("daemon"))
