"""Fuzz target: any bytes are files of firewalld, ipset, tcp_wrappers or Windows, or an error."""

from __future__ import annotations

from ipsecctl.importing.proving import prove
from ipsecctl.importing.source import Given, InputFile
from ipsecctl.importing.sources import source
from ipsecctl.importing.translating import translate
from ipsecd.errors import InvalidInput, LimitExceeded
from ipsecd.language.documents import format_policy, parse_policy
from tests.fuzz.running import fuzz

KINDS = (
    ("firewalld", "zones/public.xml"),
    ("firewalld", "services/ssh.xml"),
    ("firewalld", "ipsets/some.xml"),
    ("firewalld", "policies/some.xml"),
    ("firewalld", "direct.xml"),
    ("firewalld", "firewalld.conf"),
    ("ipset", "sets"),
    ("hosts.deny", "hosts.deny"),
    ("hosts.deny", "services"),
    ("windows-firewall", "rules"),
)
"""The first byte of what is read says which of these it is."""
_BESIDE = InputFile(
    "zones/public.xml",
    '<zone><service name="ssh"/><rule><source ipset="some"/><drop/></rule></zone>',
)
_ZONES = (
    b"""0<?xml version="1.0"?><zone target="DROP"><interface name="e+"/><service name="dns"/>
<port port="1-2" protocol="tcp"/><icmp-block name="redirect"/><forward/></zone>""",
    b"""0<zone><source address="10.0.0.0/8"/><rule family="ipv4" priority="-1">
<source address="10.1.0.0/16" invert="yes"/><port port="7" protocol="udp"/><log/>
<accept><limit value="1/s"/></accept></rule><source-port port="5" protocol="sctp"/></zone>""",
    b"""0<!DOCTYPE z [<!ENTITY a "b"><!ENTITY c "&a;&a;">]><zone target="&c;">&c;</zone>""",
)
_BESIDE_ZONES = (
    b"""1<service><port port="22" protocol="tcp"/><protocol value="gre"/>
<destination ipv4="224.0.0.251" ipv6="ff02::fb"/><include service="ssh"/></service>""",
    b"""2<ipset type="hash:net"><option name="family" value="inet6"/>
<entry>2001:db8::/32</entry></ipset>""",
    b"""3<policy target="REJECT" priority="5"><ingress-zone name="HOST"/>
<egress-zone name="ANY"/><protocol value='47'/></policy>""",
    b"4<direct><rule ipv='ipv4' table='filter' chain='INPUT'>-j DROP</rule></direct>",
    b"5DefaultZone=dmz\nIPv6_rpfilter=no\n# x\n",
)
_SETS = b"""6create a hash:net family inet6
add a 2001:db8::/32 nomatch timeout 5
create l list:set
add l a
create b hash:ip netmask 24
add b 10.1.2.3-10.1.2.9 comment "x y"
swap a b
"""
_ACCESS = b"""7sshd, ALL EXCEPT vsftpd: 10. EXCEPT 10.1.0.0/255.255.0.0 : spawn x\\: y : allow
# c
ALL: ALL \\
EXCEPT LOCAL [2001:db8::]/32
"""
_LISTING = b"""9Rule Name:  a
Enabled:  Yes
Direction:  In
Protocol:  ICMPv4
   Type    Code
   8       Any
RemoteIP:  10.0.0.1-10.0.0.9,LocalSubnet
Action:  Block
Ok.
"""
_COMMANDS = b"""9netsh advfirewall firewall add rule name="a b" dir=in action=block protocol=tcp ^
localport=1-5,RPC remoteip=any profile=public,domain program=x > nul
rem x
Set-NetFirewallProfile -All -DefaultOutboundAction Block
New-NetFirewallRule -DisplayName 'a' -Protocol UDP -LocalPort 5,@("6",7) -Action Allow `
-Enabled True -RemoteAddress $a
"""
SEEDS = (
    *(*_ZONES, *_BESIDE_ZONES, _SETS, _ACCESS),
    b"8ssh 22/tcp other # x\n",
    *(_LISTING, _LISTING.replace(b"\n", b"\r\n"), _COMMANDS, _COMMANDS.replace(b"\n", b"\r\n")),
    b"9Domain Profile Settings:\nState  ON\nFirewall Policy  BlockInboundAlways,BlockOutbound\n",
    b"",
)


def fuzz_one(data: bytes) -> None:
    """Read `data` as one file of a host, and do with it all that is done."""
    name, path = KINDS[data[0] % 48 % len(KINDS) if data else 0]
    text = data[1:].decode("utf-8", "replace")
    files = [InputFile(path, text)]
    if name == "firewalld" and path != _BESIDE.path:
        files.append(_BESIDE)
    given = Given(block=True)
    try:
        parsed = source(name).read(files, given)
        translation = translate(parsed, "P", given, name)
    except InvalidInput as error:
        check(error, path, text)
        return
    except LimitExceeded:
        return
    policy = translation.written.policy
    assert parse_policy(format_policy(policy).encode(), "fuzz") == policy
    for one in prove(parsed, translation, given, most=100, sample=20).differences:
        assert one.note, one
        assert one.note.weaker or not one.weaker, one


def check(error: InvalidInput, path: str, text: str) -> None:
    """An error says something, of the file and of a line that there is."""
    assert error.message
    assert error.source == path
    assert 1 <= error.line <= text.count("\n") + 1


if __name__ == "__main__":
    fuzz(fuzz_one)
