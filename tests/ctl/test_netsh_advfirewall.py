"""Rules of the Windows firewall are not obeyed; whoever types one is told what is near, and why."""

from __future__ import annotations

import shlex

import pytest

from ipsecctl.__main__ import main
from ipsecctl.options import find_action, parse_options
from ipsecctl.verbs import VERBS
from ipsecd.language.filters import parse_filter
from ipsecd.output import flush
from tests.ctl.conftest import Run

pytestmark = pytest.mark.usefixtures("no_daemon")

ADD = "netsh advfirewall firewall add rule name=N "


@pytest.mark.parametrize(
    ("line", "filters"),
    [
        (ADD + "dir=in action=block remoteip=203.0.113.9", ["203.0.113.9=0"]),
        (ADD + "dir=in action=block remoteip=203.0.113.9,198.51.100.0/24,10.0.0.2-10.0.0.4",
         ["203.0.113.9=0", "198.51.100.0/24=0", "10.0.0.2/31=0", "10.0.0.4=0"]),
        (ADD + "dir=out action=block remoteip=203.0.113.9", ["0=203.0.113.9"]),
        (ADD + "dir=in action=block protocol=TCP localport=445,135-139",
         ["*=0:135-139,445:TCP"]),
        (ADD + "dir=out action=block remoteport=443 protocol=UDP", ["0=*:443:UDP"]),
        (ADD + "dir=in action=block protocol=icmpv4:8,any profile=any", ["*=0::1/8"]),
        (ADD + "dir=in action=block protocol=icmpv6", ["*=0::ICMPv6"]),
        (ADD + "dir=in action=block localip=10.9.0.2 remoteip=2001:db8::/32 interfacetype=lan",
         None),
        (ADD + "dir=in action=block", ["*=0"]),
        (("new-netfirewallrule -DisplayName 'Block it' -Action Block -RemoteAddress 203.0.113.9, "
          "203.0.113.10"), ["203.0.113.9=0", "203.0.113.10=0"]),
        (("New-NetFirewallRule -DisplayName:x -Dir Outbound -Act Block -Protocol TCP "
          "-RemotePort 25,587"), ["0=*:25,587:TCP"]),
    ],
)  # fmt: skip
def test_a_block_is_told_as_a_command_of_ours(
    line: str, filters: list[str] | None, run: Run
) -> None:
    """The command that is printed is one that there is, with these filters; nothing is obeyed."""
    ran = run(*(["ipsecctl", *shlex.split(line)] if "netsh" not in line else shlex.split(line)))
    assert ran.code == 1
    assert ran.out.startswith("ERR IPsec[05001] : rules of the Windows firewall are not")
    near = next((text for text in ran.err.splitlines() if "this is near: " in text), None)
    if filters is None:
        assert near is None
        return
    assert near
    words = shlex.split(near.partition("this is near: ")[2])
    assert words[:2] == ["ipsecctl", "rule"]
    verb, following = find_action(VERBS["rule"], words[2:])
    options = parse_options(verb, following)
    assert list(map(parse_filter, options.arguments[2:])) == list(map(parse_filter, filters))
    assert options.value("--action") == "block"
    assert ran.err.count("it differs: ") == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (ADD + "dir=in action=allow protocol=TCP localport=80", "no such default"),
        (ADD + "dir=in protocol=TCP localport=80", "action='allow'"),
        (ADD + "dir=out action=block program=C:\\x.exe", "by the program that it is for"),
        (ADD + "dir=in action=block profile=public", "no profiles"),
        (ADD + "dir=in action=block interfacetype=wireless", "lan or dialup"),
        (ADD + "dir=in action=block security=authenticate", "nothing is authenticated"),
        (ADD + "dir=in action=block rmtusrgrp=x", "users are not known"),
        (ADD + "dir=in action=block remoteip=localsubnet", "remoteip='localsubnet'"),
        (ADD + "dir=in action=block protocol=TCP localport=RPC", "localport='rpc'"),
        (ADD + "dir=in action=block frob=1", "'frob=1'"),
        ("netsh advfirewall firewall delete rule name=N", "not obeyed"),
        ("netsh advfirewall set allprofiles state off", "not obeyed"),
        ("netsh firewall set opmode disable", "not obeyed"),
        ("New-NetFirewallRule -DisplayName x -LocalPort 80 -Protocol TCP", "no such default"),
        ("New-NetFirewallRule -DisplayName x -Action Block -Program y", "by the program"),
        ("New-NetFirewallRule -Frob \x1b[2J -Action Block", "'frob' is not known"),
    ],
)
def test_the_reason_is_named(line: str, said: str, run: Run) -> None:
    """Of what has nothing like it here; a condition is never left out."""
    words = shlex.split(line, posix=True) if "\\" not in line else line.split()
    ran = run(*(words if words[0] == "netsh" else ["ipsecctl", *words]))
    assert ran.code == 1
    assert ran.out.startswith("ERR IPsec[05001] : ")
    assert said in ran.out
    assert "this is near" not in ran.err
    assert all(text.isprintable() for text in (ran.out + ran.err).splitlines())


def test_a_long_command_is_whole(run: Run) -> None:
    """One that is cut would block less than was meant, if somebody typed it."""
    addresses = [f"203.0.113.{n}" for n in range(200)]
    ran = run(*f"{ADD}dir=in action=block remoteip={','.join(addresses)}".split())
    near = ran.err.partition("this is near: ")[2].splitlines()[0]
    assert [word for word in shlex.split(near) if "=" in word] == [f"{a}=0" for a in addresses]


def test_no_daemon(capsys: pytest.CaptureFixture[str]) -> None:
    """The store cannot be opened, as scripts know it."""
    code = main(["netsh", "ipsec", "static", "show", "all"])
    flush()
    out, err = capsys.readouterr()
    assert (code, out) == (1, "ERR IPsec[05073] : the policy store cannot be opened\n")
    assert "the daemon cannot be reached" in err
