"""Nobody locks himself out by mistake: a real server of SSH, real commands typed in a login."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from ipsecd.backend.nftables import cgroups
from tests.netns import site
from tests.netns.neighbours import BOX, BOX4, PUBLISHED, WEB, box, load, sshd
from tests.netns.scans import program
from tests.netns.shells import Shell, shell
from tests.netns.site import HERE4, HERE6, HOST, PEER4, PEER6, Daemon, inside, run

pytestmark = pytest.mark.netns


class Attempt(NamedTuple):
    """A way in which people have locked themselves out.

    `before` is typed at the console beforehand, `typed` in the login; ``by`` is a filter that
    decides. A policy file that is called NAME has what POLICIES says.
    """

    typed: str
    by: str
    before: tuple[str, ...] = ()


def document(*filters: str, more: str = "", action: str = "block", permits: str = "") -> str:
    listed = ", ".join(f'"{each}"' for each in filters)
    text = f"policy: P\nrules:\n  - rule: R\n    action: {action}\n    filters: [{listed}]\n{more}"
    if permits:
        text += f'  - rule: Office\n    action: permit\n    filters: ["{permits}"]\n'
    return text


SSH_OF_OFFICE = f"{PEER4}=0:22:TCP"
POLICIES = {
    "all": document("*=0"),
    "ssh": document("*=0:22:TCP"),
    "tcp": document("*=0::TCP"),
    "both-ways": document("*+0"),
    "out": document("0=*"),
    "out-tcp": document("0=*::TCP"),
    "answers": document("0:22=*::TCP"),
    "low-ports": document("*=0:1-1023:TCP"),
    "high-ports-out": document("0=*:1024-65535:TCP"),
    "net": document("192.168.1.0/24=0"),
    "peer": document(f"{PEER4}=*"),
    "private": document("10.0.0.0/8=0", "172.16.0.0/12=0", "192.168.0.0/16=0"),
    "list": document("@bans=0"),
    "list-out": document("0=@bans"),
    "link": document("*=0", more="    interface: wire0\n"),
    "links": document("*=0", more='    interface: "wire*"\n'),
    "lan": document("*=0", more="    interface: lan\n"),
    "opening": document("*+0", more="    when: opening\n"),
    "opening-in": document("*=0", more="    when: opening\n"),
    "office": document("*=0", permits=SSH_OF_OFFICE),
    "office-list": document("*=0:22:TCP", permits="@office=0:22:TCP"),
    "wrong-office": document("*=0:22:TCP", permits="192.168.1.67=0:22:TCP"),
    "wrong-port": document("*=0", permits=f"{PEER4}=0:2222:TCP"),
    "wrong-protocol": document("*=0", permits=f"{PEER4}=0:22:UDP"),
    "in-only": document("*+0", permits=f"{PEER4}=0:22:TCP"),
}
PUT = "apply {} --assign"
OFFICE = ("list create office --from addresses", PUT.format("office-list"))
BLOCKED = "block *=0:22:TCP --name telnet"

ATTEMPTS = [
    *(
        Attempt(PUT.format(name), by)
        for name, by in (
            ("all", "*=0"),
            ("ssh", "*=0:22:TCP"),
            ("tcp", "*=0::TCP"),
            ("both-ways", "*+0"),
            ("out", "0=*"),
            ("out-tcp", "0=*::TCP"),
            ("answers", "0:22=*::TCP"),
            ("low-ports", "*=0:1-1023:TCP"),
            ("high-ports-out", "0=*:1024-65535:TCP"),
            ("net", "192.168.1.0/24=0"),
            ("peer", f"{PEER4}=*"),
            ("private", "192.168.0.0/16=0"),
            ("link", "*=0"),
            ("links", "*=0"),
            ("lan", "*=0"),
            ("wrong-office", "*=0:22:TCP"),
            ("wrong-port", "*=0"),
            ("wrong-protocol", "*=0"),
            ("in-only", "*+0"),
        )
    ),
    Attempt(PUT.format("list"), "@bans=0", ("list create bans --from addresses",)),
    Attempt(PUT.format("list-out"), "0=@bans", ("list create bans --from addresses",)),
    Attempt(
        f"list add bans {PEER4} --accept",
        "@bans=0",
        ("list create bans", PUT.format("list")),
    ),
    Attempt(
        "list replace bans addresses --accept",
        "@bans=0",
        ("list create bans", PUT.format("list")),
    ),
    Attempt(f"list remove office {PEER4}", "*=0:22:TCP", OFFICE),
    Attempt("list delete office", "*=0:22:TCP", OFFICE),
    Attempt("block *=0", "*=0"),
    Attempt("block tcp/22", "*=0:22:TCP"),
    Attempt(f"block {PEER4}", f"{PEER4}=0"),
    Attempt("block 0=*:*:TCP", "0=*::TCP"),
    Attempt("block 192.168.1.0/24 --for 1h", "192.168.1.0/24=0"),
    Attempt("quarantine --host", "0+*"),
    Attempt("unblock telnet-permit", "*=0:22:TCP", (
        f"permit {SSH_OF_OFFICE} --name telnet-permit", BLOCKED,
    )),
    Attempt("flush", "*=0", (f"permit {SSH_OF_OFFICE}", PUT.format("all"))),
    Attempt("policy unassign", "*=0:22:TCP", (PUT.format("office"), BLOCKED)),
    Attempt("policy delete P --unassign", "*=0:22:TCP", (PUT.format("office"), BLOCKED)),
    Attempt("rule remove P Office", "*=0", (PUT.format("office"),)),
    Attempt("rule add P More tcp/22 --action block", "*=0:22:TCP", (PUT.format("high"),)),
    Attempt("policy assign P", "*=0", ("apply all",)),
]  # fmt: skip
POLICIES["high"] = document("*=0:8080:TCP")
FORCED = {
    *("apply both-ways --assign", "apply out --assign", "apply answers --assign"),
    *("apply link --assign", "apply lan --assign", "apply in-only --assign"),
    *("apply list --assign", "list remove office 192.168.1.66", "block tcp/22"),
    *("quarantine --host", "flush", "policy unassign"),
}
"""Attempts that are made with --force as well: one of each kind."""


@pytest.fixture(scope="module", params=site.BACKENDS)
def daemon(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    path = program("sshd")
    directory = tmp_path_factory.mktemp("guard")
    (directory / "files").mkdir()
    for name, text in POLICIES.items():
        (directory / "files" / name).write_text(text)
    (directory / "files/addresses").write_text(f"{PEER4}\n")
    with (
        site.daemon(directory, request.param) as running,
        sshd(HOST, path, directory / "ssh", HERE4),
    ):
        yield running


@pytest.fixture(scope="module")
def login(daemon: Daemon) -> Iterator[Shell]:
    """The login from which everything is tried."""
    with shell(daemon, daemon.directory / "ssh", HERE4) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _undone(daemon: Daemon) -> Iterator[None]:
    """What was tried is undone, at the console."""
    yield
    console(daemon, "flush", "policy unassign")
    for each in json.loads(daemon.ctl("list", "show", "--json")):
        console(daemon, f"list delete {each['name']}")


def words(daemon: Daemon, line: str) -> list[str]:
    """A command line, with the paths of the files that it names."""
    files = {*POLICIES, "addresses"}
    split = shlex.split(line)
    for at, word in enumerate(split[1:], 1):
        if word in files and split[at - 1] in ("apply", "--from", "bans"):
            split[at] = str(daemon.directory / "files" / word)
    return split


def console(daemon: Daemon, *lines: str) -> None:
    """Type commands where no connection is in danger, whatever they do."""
    for line in lines:
        daemon.ctl(*words(daemon, line), "--force")


def refused(daemon: Daemon, login: Shell, attempt: Attempt) -> None:
    """It is refused with the filter that decides, and nothing changes."""
    console(daemon, *attempt.before)
    code, said = login.ctl(*words(daemon, attempt.typed))
    assert code == 1, said
    assert "would cut the connection that it is made through (192.168.1.66:" in said
    assert f"because {attempt.by!r} in rule " in said
    assert "--force" in said
    assert login.answers()


@pytest.mark.parametrize("daemon", ["nftables"], indirect=True)
@pytest.mark.parametrize(
    "attempt", [each for each in ATTEMPTS if each.typed not in FORCED], ids=lambda each: each.typed
)
def test_nobody_locks_himself_out(daemon: Daemon, login: Shell, attempt: Attempt) -> None:
    """What is refused does not depend on the backend."""
    refused(daemon, login, attempt)


@pytest.mark.parametrize(
    "attempt", [each for each in ATTEMPTS if each.typed in FORCED], ids=lambda each: each.typed
)
def test_who_insists_locks_himself_out(daemon: Daemon, login: Shell, attempt: Attempt) -> None:
    """What is refused does cut, on both backends, when it is done all the same."""
    refused(daemon, login, attempt)
    assert login.is_cut_by(*words(daemon, attempt.typed), "--force")
    console(daemon, "flush", "policy unassign")
    assert login.recovers()


def test_other_addresses_of_the_other_end(daemon: Daemon) -> None:
    """A login by IPv6 is spared, and one by IPv4 does not keep a block of IPv6 from being made."""
    here = daemon.directory / "ssh"
    with shell(daemon, here, HERE6) as by_ipv6, shell(daemon, here, HERE4) as by_ipv4:
        code, said = by_ipv6.ctl("block", PEER6)
        assert (code, f"([{PEER6}]:" in said) == (1, True), said
        assert by_ipv4.ctl("block", "2001:db8::/32")[0] == 0
        code, said = by_ipv4.ctl("block", PEER6)
        assert (code, "an administrative connection ([" in said) == (1, True), said


def test_what_does_not_cut_is_done(daemon: Daemon, login: Shell) -> None:
    """Other ports, other addresses, and the host that only answers: the login goes on."""
    for line in (
        "block tcp/8080",
        "block 192.168.1.67",
        "apply office --assign",
        "apply opening-in --assign",
        "policy unassign",
        "quarantine --host --permit 192.168.1.66=0:22:TCP --permit 0:22=192.168.1.66::TCP",
    ):
        code, said = login.ctl(*words(daemon, line))
        assert code == 0, (line, said)
        assert login.recovers()


def test_the_filter_that_decides_is_told_to_programs(login: Shell) -> None:
    """As fields, beside the words."""
    code, said = login.ctl(
        "block", "tcp/22", "--name", "Away", "--json", before="exec 2>/dev/null;"
    )
    (cut,) = json.loads(said[said.index("{") : said.rindex("}") + 1])["cuts"]
    assert code == 1
    assert (cut["filter"], cut["rule"], cut["store"]) == ("*=0:22:TCP", "Away", "dynamic")
    assert cut["packet"].endswith("> 192.168.1.1:22 established")


def test_old_commands_and_reload(daemon: Daemon, login: Shell) -> None:
    """They are refused, too, and a variable has them done."""
    rule = ("ipseccmd", "-w", "REG", "-p", "Old", "-r", "R", "-f", "*+0:*:TCP", "-n", "BLOCK", "-x")
    code, said = login.ctl(*rule)
    assert (code, "IPSECD_FORCE=1" in said) == (1, True), said
    assert "Old" not in daemon.ctl("policy", "list")
    console(daemon, "apply high --assign")
    (path,) = (path for path in daemon.policies.iterdir() if "policy: P" in path.read_text())
    text = path.read_text()
    path.write_text(POLICIES["all"])
    code, said = login.ctl("reload")
    assert (code, "would cut" in said) == (1, True), said
    # Whoever reads the files again without a login to spare has those of others spared.
    assert "an administrative connection (192.168.1.66:" in daemon.ctl("reload", code=1)
    path.write_text(text)
    assert daemon.ctl("reload")
    assert login.answers()


def test_what_takes_the_variable_away_does_not_take_the_guard_away(
    daemon: Daemon, login: Shell
) -> None:
    """As sudo does: the connection is known from a parent. One that was closed spares no other."""
    for before in ("env -u SSH_CONNECTION", "SSH_CONNECTION='192.168.1.66 1 192.168.1.1 22'"):
        code, said = login.ctl("block", PEER4, before=before)
        assert code == 1, said
    assert "an administrative connection (192.168.1.66:" in said
    assert daemon.ctl("block", PEER4)
    assert not login.answers()
    daemon.ctl("flush")
    assert login.recovers()


def test_a_connection_that_is_cut_already_is_no_reason(daemon: Daemon, login: Shell) -> None:
    """Changes from elsewhere are not refused for what they do not make worse."""
    console(daemon, "block tcp/22")
    daemon.ctl(*words(daemon, "apply all --assign"))
    console(daemon, "flush", "policy unassign")
    assert login.recovers()


def test_a_connection_to_a_translated_port(daemon: Daemon) -> None:
    """It is judged by the port that its packets arrive for, which the server does not see."""
    load(
        "table ip nat_of_others {\nchain pre { type nat hook prerouting priority dstnat;\n"
        "tcp dport 2222 redirect to :22\n}\n}\n"
    )
    try:
        with shell(daemon, daemon.directory / "ssh", HERE4, 2222) as opened:
            code, said = opened.ctl("block", "tcp/2222")
            assert (code, "192.168.1.1:2222)" in said) == (1, True), said
            console(daemon, "block tcp/2222")
            assert not opened.answers()
            console(daemon, "flush")
            assert opened.recovers()
    finally:
        run("nft", "delete", "table", "ip", "nat_of_others")


def test_what_has_to_be_confirmed_may_cut(daemon: Daemon, login: Shell) -> None:
    """Because it is put back unless somebody logs in anew."""
    assert login.is_cut_by(*words(daemon, "apply all --assign --confirm 1h"))
    daemon.ctl("revert")
    assert login.recovers()


def test_a_connection_that_is_not_tracked_opens_anew(daemon: Daemon) -> None:
    """A rule for what opens a connection, both ways, may cut one that began before all was tracked.

    It does, unless a packet on its way is tracked in the moment before the rule is there.
    """
    with shell(daemon, daemon.directory / "ssh", HERE4) as opened:
        code, said = opened.ctl(*words(daemon, "apply opening --assign"))
        assert (code, "because '*+0' in rule 'R'" in said) == (1, True), said
        assert "the connection that it is made through" in said
        opened.is_cut_by(*words(daemon, "apply opening --assign"), "--force")
        console(daemon, "policy unassign")
        assert opened.recovers()


def test_a_connection_to_a_container(daemon: Daemon) -> None:
    """Where the server runs in one, by its published port: what this host forwards is spared."""
    directory = daemon.directory / "ssh-in-box"
    with ExitStack() as stack:
        stack.enter_context(box())
        run("ip", "-n", BOX, "link", "set", "lo", "up")
        stack.enter_context(sshd(inside(BOX), program("sshd"), directory, BOX4, WEB))
        opened = stack.enter_context(shell(daemon, directory, HERE4, PUBLISHED))
        for filters, by in (
            ((f"tcp/{PUBLISHED}",), f"*=0:{PUBLISHED}:TCP"),
            ((f"{BOX4}=*",), f"{BOX4}=*"),
            (("0=*::TCP",), "0=*::TCP"),
        ):
            code, said = opened.ctl("block", *filters)
            assert (code, f"because {by!r} in rule" in said) == (1, True), said
            assert f"to {HERE4}:{PUBLISHED})" in said
            assert opened.is_cut_by("block", *filters, "--force")
            console(daemon, "flush")
            assert opened.recovers()
        code, said = opened.ctl("block", f"*=0:{WEB}:TCP")
        assert code == 0, said
        assert opened.recovers()


def test_what_the_server_may_not_send(daemon: Daemon) -> None:
    """A filter for what its control group sends cuts its connections, and one for another not."""
    top = cgroups.root()
    assert top is not None
    group, other = (top / site.own_name(name) for name in ("guarded", "other"))
    for path in (group, other):
        site.make_group(path)
    joined = ("sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh")
    directory = daemon.directory / "ssh-in-group"
    try:
        with (
            sshd(joined, program("sshd"), directory, HERE4, 2200),
            shell(daemon, directory, HERE4, 2200) as opened,
        ):
            code, said = opened.ctl("block", f"cgroup:/{group.name}=*")
            assert (code, f"because 'cgroup:/{group.name}=*' in rule" in said) == (1, True), said
            code, said = opened.ctl("block", f"cgroup:/{other.name}=*")
            assert code == 0, said
            assert opened.is_cut_by("block", f"cgroup:/{group.name}=*", "--force")
            console(daemon, "flush")
            assert opened.recovers()
    finally:
        for path in (group, other):
            assert site.eventually(partial(removed, path), 30)


def removed(group: Path) -> bool:
    """Whether a control group could be removed: what is in it ends first."""
    with suppress(OSError):
        group.rmdir()
    return not group.exists()
