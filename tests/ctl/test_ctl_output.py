"""Tests of ``ipsecctl`` with names that were made to deceive, and with nowhere to write to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ipsecctl.verbs import VERBS
from ipsecd.errors import InvalidInput, IpsecdError, Refused
from tests.ctl.conftest import Run
from tests.ctl.fake_daemon import REPLIES, FakeDaemon

EVIL = "\x1b]0;owned\x07\x9b2J\u202eevil\x7f\u2066\ud800\nFORGED"
TYPED = EVIL.replace("\ud800", "\udc9b")
"""As an argument it can hold any byte, but no other half of a surrogate pair."""
LONG = "a" * 14_000_000
WORDS = {
    "state",
    "action",
    "store",
    "decision",
    "type",
    "when",
    "remaining_s",
    "document",
    "archive",
}
"""Members that hold a word of the interface, or text with its own lines."""
DYNAMIC = {
    "name": "web",
    "action": "block",
    "filters": ["*=0:80:TCP"],
    "interface": None,
    "remaining_s": None,
    "by": "uid 0 (root)",
    "created": 1.0,
}
READING: dict[str, list[str]] = {
    "status": ["status"],
    "show": ["show"],
    "show state": ["show", "@2"],
    "history": ["history"],
    "diff of states": ["diff", "@2"],
    "show policies": ["show", "policies"],
    "show dynamic": ["show", "dynamic"],
    "show interfaces": ["show", "interfaces"],
    "show names": ["show", "names"],
    "show exemptions": ["show", "exemptions"],
    "show containers": ["show", "containers"],
    "policy list": ["policy", "list"],
    "stats": ["stats"],
    "explain": ["explain", "tcp 203.0.113.7:4000 > me:80"],
    "explain --at": ["explain", "--at", "1h", "tcp 203.0.113.7:4000 > me:80"],
    "drops": ["drops", "--samples"],
    "doctor": ["doctor"],
    "domain": ["domain"],
    "domain explain": ["domain", "explain"],
    "check": ["check", "FILE"],
    "format": ["format", "FILE"],
    "apply --dry-run": ["apply", "FILE", "--dry-run"],
    "list": ["list", "show"],
    "list of entries": ["list", "show", "bans"],
    "backup": ["backup", "-"],
    "export nft": ["export", "nft"],
    "export netsh": ["export", "netsh", "Web"],
    "learn": ["learn", "Web"],
    "help": ["help"],
    "version": ["--version"],
    "netdiag": ["netdiag", "/test:ipsec"],
}
CHANGING: dict[str, list[str]] = {
    "block": ["block", "udp/1434"],
    "permit": ["permit", "udp/1434"],
    "block --json": ["block", "udp/1434", "--json"],
    "backend": ["backend", "xdp"],
    "unblock": ["unblock", "web"],
    "flush": ["flush"],
    "confirm": ["confirm"],
    "revert": ["revert"],
    "rollback": ["rollback"],
    "quarantine": ["quarantine", "container:web"],
    "release": ["release", "container:web"],
    "apply": ["apply", "FILE"],
    "policy": ["policy", "assign", "Web"],
    "list": ["list", "add", "bans", "192.0.2.7"],
    "rule": ["rule", "add", "P", "R", "tcp/80", "--action", "block"],
    "reload": ["reload"],
    "learn --write": ["learn", "Web", "--write"],
    "backup to a file": ["backup", "FILE"],
    "restore": ["restore", "FILE"],
    "run": ["run", "SCRIPT"],
    "domain refresh": ["domain", "refresh"],
    "format --write": ["format", "FILE", "--write"],
    "net stop": ["net", "stop", "policyagent"],
    "ipseccmd": ["ipseccmd", "-f", "[*=0:80:TCP]"],
}


def hostile(value: Any, name: str = "") -> Any:
    """`value` with an attack in every text in it."""
    if isinstance(value, dict):
        return {key: hostile(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item, name) for item in value]
    return value + EVIL if isinstance(value, str) and name not in WORDS else value


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "web.yaml"
    path.write_text("rules: [{rule: R, action: block, filters: ['*=0:80:TCP']}]\npolicy: Web\n")
    path.with_suffix(".cmd").write_text("ipseccmd -w REG -p Web -o -x\n")
    return path


@pytest.mark.parametrize("verb", READING)
def test_nothing_read_drives_the_terminal(
    daemon: FakeDaemon, run: Run, document: Path, verb: str
) -> None:
    """Whatever the daemon knows by name, whoever named it, is printed escaped and on its line."""
    daemon.replies |= {name: hostile(reply) for name, reply in REPLIES.items()}
    daemon.replies["ListDynamic"] = {"rules": [hostile(DYNAMIC)]}
    ran = run("ipsecctl", *(str(document) if word == "FILE" else word for word in READING[verb]))
    said = ran.out + ran.err
    assert said
    assert said.replace("\n", "").isprintable()
    assert not any(line.startswith("FORGED") for line in said.splitlines())


def test_failures_are_whole_and_forge_nothing(daemon: FakeDaemon, run: Run) -> None:
    """A failure has its hint below it; what is quoted in it begins no line of its own."""
    failure = f"web.yaml:3: no action{EVIL}\n  hint: add one"
    daemon.status(state="failed", failures=[failure], drift=[EVIL])
    for argv in (["status"], ["netdiag", "/test:ipsec"], ["gpupdate"]):
        ran = run("ipsecctl", *argv)
        assert ran.code == 1
        said = ran.out + ran.err
        assert said.replace("\n", "").isprintable()
        assert "hint: add one" in said
        assert not any(line.startswith("FORGED") for line in said.splitlines())


@pytest.mark.parametrize(
    "verb", ["status", "show policies", "show containers", "stats", "doctor", "domain"]
)
def test_json_holds_the_same_in_ascii(daemon: FakeDaemon, run: Run, verb: str) -> None:
    """With --json such names are printed whole, with every special character escaped."""
    daemon.replies |= {name: hostile(reply) for name, reply in REPLIES.items()}
    ran = run("ipsecctl", *READING[verb], "--json")
    assert ran.out.isascii()
    assert ran.out.replace("\n", "").isprintable()
    assert EVIL in json.dumps(json.loads(ran.out), ensure_ascii=False).encode(
        "utf-8", "surrogatepass"
    ).decode("utf-8", "surrogatepass").replace("\\u001b", "\x1b").replace(
        "\\u0007", "\x07"
    ).replace("\\n", "\n")


@pytest.mark.parametrize(
    "error",
    [
        Refused(f"no {EVIL}", f"do {EVIL}"),
        InvalidInput(f"no {EVIL}", source=EVIL, line=3),
        InvalidInput("no", source=EVIL, position=2),
        IpsecdError(EVIL),
    ],
)
def test_errors_drive_no_terminal(daemon: FakeDaemon, run: Run, error: IpsecdError) -> None:
    """What a refusal quotes is printed escaped."""
    daemon.replies["Reload"] = error
    ran = run("ipsecctl", "reload")
    assert ran.code == 1
    assert ran.err.replace("\n", "").isprintable()


def test_arguments_drive_no_terminal(daemon: FakeDaemon, run: Run) -> None:
    """What was typed drives no terminal either, wherever it is repeated."""
    for argv in (
        [TYPED],
        ["show", TYPED],
        ["status", "--" + TYPED],
        ["block", TYPED],
        ["check", TYPED],
        ["net", TYPED],
        ["secedit", TYPED],
        ["policy", TYPED],
        ["--socket", "/nowhere/" + TYPED, "status"],
        ["ipseccmd", "-" + TYPED],
        ["ipseccmd", "-f", "*=0", "-n", TYPED],
        ["ipseccmd", "\\\\" + TYPED],
    ):
        ran = run("ipsecctl", *argv)
        assert ran.code in (1, 2, 3), argv
        assert ran.err.replace("\n", "").isprintable(), argv
        assert not any(line.startswith("FORGED") for line in ran.err.splitlines()), argv
    assert daemon.calls == []


@pytest.mark.parametrize(
    "argv",
    [
        [LONG],
        ["show", LONG],
        ["status", LONG],
        ["status", "--" + LONG],
        ["block", LONG],
        ["block", f"{LONG}=0:80:TCP"],
        ["block", f"*=0:80:{LONG}"],
        ["block", f"*=0:{LONG}:TCP"],
        ["block", f"10.0.0.0/{LONG}=0"],
        ["block", f"container:{LONG}=0"],
        ["block", f"cgroup:{LONG}=*"],
        ["block", "udp/1", "--for", LONG],
        ["quarantine", LONG],
        ["policy", LONG],
        ["list", LONG],
        ["list", "check", LONG],
        ["list", "check", "FILE", "--format", LONG],
        ["explain", "--offline", "--policy", "FILE", LONG],
        ["explain", "--offline", "--policy", "FILE", f"tcp {LONG} > me:80"],
        ["check", LONG],
        ["--socket", "/" + LONG, "status"],
        ["net", LONG],
        ["netdiag", LONG],
        ["secedit", LONG],
        ["gpupdate", LONG],
        ["ipseccmd", LONG],
        ["ipseccmd", "-" + LONG],
        ["ipseccmd", "\\\\" + LONG],
        ["ipseccmd", "-f", "*=0", "-n", LONG],
        ["ipseccmd", "-f", "*=0", "-n", "ESP" + LONG],
        ["ipseccmd", "show", LONG],
    ],
    ids=lambda argv: " ".join(argv).replace("a" * 99, "")[:40],
)
def test_errors_echo_no_more_than_one_can_read(
    daemon: FakeDaemon, run: Run, document: Path, argv: list[str]
) -> None:
    """Fourteen million characters of nonsense are answered with a screen at the most."""
    ran = run("ipsecctl", *(str(document) if word == "FILE" else word for word in argv))
    assert ran.code in (1, 2, 3)
    assert len(ran.err) < 3000
    assert daemon.calls == []


@pytest.mark.parametrize("place", ["policy", "rule", "action", "filters", "tag", "key"])
def test_documents_are_not_echoed_whole(run: Run, tmp_path: Path, place: str) -> None:
    """An error about a long file is a screen at the most, too."""
    long = LONG[:200_000]
    texts = {
        "policy": f"policy: {long}\nrules: []\n",
        "rule": f"policy: P\nrules: [{{rule: {long}, action: block, filters: ['*=0']}}]\n",
        "action": f"policy: P\nrules: [{{rule: R, action: {long}, filters: ['*=0']}}]\n",
        "filters": f"policy: P\nrules: [{{rule: R, action: block, filters: ['{long}=0']}}]\n",
        "tag": f"policy: !{long} P\nrules: []\n",
        "key": f"policy: P\n? {long}\n: x\n",
    }
    path = tmp_path / "long.yaml"
    path.write_text(texts[place])
    ran = run("ipsecctl", "check", str(path))
    assert ran.code == 1
    assert len(ran.err) < 1500


class Outcome:
    """The exit code and the outputs of a process with a broken output."""

    def __init__(self, redirection: str, argv: list[str]) -> None:
        command = [sys.executable, "-m", "ipsecctl", *argv]
        script = f'exec "$@" {redirection}'
        done = subprocess.run(
            ["bash", "-c", script, "bash", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        self.code = done.returncode
        self.said = (done.stdout + done.stderr).decode()


def command_line(argv: list[str], document: Path) -> list[str]:
    files = {"FILE": str(document), "SCRIPT": str(document.with_suffix(".cmd"))}
    return [files.get(word, word) for word in argv]


def test_every_verb_is_tried() -> None:
    """The tables above hold all verbs but those whose exit code is the answer.

    And but those that go on until somebody ends them, which tests of their own try.
    """
    assert {argv[0] for argv in (*READING.values(), *CHANGING.values())} >= VERBS.keys() - {
        "diff",
        "import",
        "lint",
        "monitor",
        "top",
        "web",
    }


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", "1</dev/null"])
@pytest.mark.parametrize("verb", CHANGING)
def test_a_change_in_force_is_no_failure(
    daemon: FakeDaemon, document: Path, verb: str, redirection: str
) -> None:
    """The exit code tells about the change; standard error that nobody was told."""
    came = Outcome(redirection, command_line(CHANGING[verb], document))
    assert came.code == 0, came.said
    assert "what was asked for is done, but the output could not be written: " in came.said
    assert len(came.said.splitlines()) == 1
    assert daemon.calls or verb.startswith("format")


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
@pytest.mark.parametrize("verb", READING)
def test_an_answer_that_nobody_gets_is_a_failure(
    daemon: FakeDaemon, document: Path, verb: str, redirection: str
) -> None:
    """What only reads has done nothing when its output is lost."""
    came = Outcome(redirection, command_line(READING[verb], document))
    assert came.code == 1, came.said
    program = "netdiag" if verb == "netdiag" else "ipsecctl"
    assert came.said.startswith(("ipsecctl: the output could not", f"{program}: the output"))
    assert len(came.said.splitlines()) == 1
    assert daemon.broken == []


@pytest.mark.parametrize("verb", [*READING, *CHANGING])
def test_a_reader_that_has_seen_enough_is_no_failure(
    daemon: FakeDaemon, document: Path, verb: str
) -> None:
    """A pipe whose reader is gone ends all verbs in silence, with the code they would have."""
    end, start = os.pipe()
    os.close(end)
    argv = command_line({**READING, **CHANGING}[verb], document)
    command = [sys.executable, "-m", "ipsecctl", *argv]
    done = subprocess.run(command, stdout=start, stderr=subprocess.PIPE, check=False)
    os.close(start)
    assert (done.returncode, done.stderr) == (0, b"")
    assert daemon.broken == []


@pytest.mark.parametrize(
    "redirection", ["2>&-", "2>/dev/full", ">&- 2>&-", ">/dev/full 2>/dev/full"]
)
def test_standard_error_need_not_be_there(daemon: FakeDaemon, redirection: str) -> None:
    """Errors keep their exit codes, and changes theirs, when nobody can be told why."""
    assert Outcome(redirection, ["block", "nonsense"]).code == 1
    assert Outcome(redirection, ["nonsense"]).code == 2
    assert Outcome(redirection, ["--socket", "/nowhere", "status"]).code == 3
    assert Outcome(redirection, ["block", "udp/1434"]).code == 0
    assert [name for name, _ in daemon.calls] == ["AddDynamicRules"]


def test_what_cannot_be_asked_is_not_confirmed(daemon: FakeDaemon) -> None:
    """With ``-confirm`` nothing happens that nobody could read the question about."""
    command = f"echo y | {sys.executable} -m ipsecctl ipseccmd -f '*=0' -n BLOCK -confirm"
    for redirection in (">/dev/full", ">&-"):
        done = subprocess.run(
            ["sh", "-c", f"{command} {redirection}"], capture_output=True, check=False
        )
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr
    assert daemon.calls == []


def test_standard_input_need_not_be_there(daemon: FakeDaemon) -> None:
    """A closed standard input is a file that cannot be read."""
    came = Outcome("<&-", ["check", "-"])
    assert came.code == 1
    assert came.said.startswith("ipsecctl: cannot read '-'")
    assert daemon.calls == []


def test_explaining_ends_with_its_reader(document: Path) -> None:
    """Whoever sends packets for ever is read no more once the answers cannot be written."""
    command = (
        f"yes 'tcp 203.0.113.7:4000 > me:80' | {sys.executable} -m ipsecctl explain --offline "
        f"--policy {document} --me 192.0.2.1 - | head -1"
    )
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, check=False, timeout=30
    )
    assert b"Traceback" not in done.stderr
    assert done.stdout


def test_a_policy_is_shown_with_what_it_is_worth(daemon: FakeDaemon, run: Run) -> None:
    """Where the domain has one in force, that is said first, whatever its name is."""
    for given, lines in (
        ({"assigned": True}, ["# assigned, stored in /p/web.yaml"]),
        (
            {"assigned": True, "overriding": "Fleet"},
            [
                "# assigned, stored in /p/web.yaml",
                "# without effect: the domain's is in force, 'Fleet'",
            ],
        ),
        (
            {"overriding": "Web"},
            [
                "# not assigned, stored in /p/web.yaml",
                "# without effect: the domain's is in force, another policy of this name",
            ],
        ),
        (
            {"store": "domain", "assigned": True, "overriding": "Web", "path": "https://x: all/w"},
            ["# in force, from the domain: https://x: all/w"],
        ),
    ):
        daemon.replies["GetPolicy"] = {**REPLIES["GetPolicy"], **given}
        said = run("ipsecctl", "policy", "show", "Web").out.splitlines()
        assert [line for line in said if line.startswith("#")] == lines
