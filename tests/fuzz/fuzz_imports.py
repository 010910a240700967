"""Fuzz target: any bytes are rules of another firewall, or an error with file and line."""

from __future__ import annotations

from ipsecctl.importing.address_sets import read_sets
from ipsecctl.importing.proving import prove
from ipsecctl.importing.source import Given, InputFile
from ipsecctl.importing.sources import source
from ipsecctl.importing.translating import translate
from ipsecd.errors import InvalidInput, LimitExceeded
from ipsecd.language.documents import format_policy, parse_policy
from tests.fuzz.running import fuzz

_V4 = b"""iptables-save
*filter
:INPUT DROP [0:0]
:X - [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -j X
[1:2] -A X ! -s 10.0.0.0/8 -p tcp -m multiport --dports 22,80:90 -j RETURN
-A X -j DROP
COMMIT
"""
_V6 = b"""ip6tables-save
*filter
:INPUT ACCEPT [0:0]
-I INPUT 1 -s fe80::/10 -p icmpv6 --icmpv6-type echo-request -m comment --comment "a b" -j DROP
-A INPUT -m limit --limit 1/s -j ACCEPT
"""
_NFT = b"""nft
table inet f {
 set s { type ipv4_addr; elements = { 1.2.3.4, 10.0.0.0/8 } }
 chain x { iifname != "eth*" ip saddr . tcp dport { 1.2.3.4 . 5 } return
 }
 chain i {
  type filter hook input priority filter - 1; policy drop;
  ct state vmap { new : jump x, established : accept }
  ip saddr @s tcp dport { 22, 80-90 } counter packets 0 bytes 0 drop comment "x"
  fib saddr . iif oif missing meta mark set ct mark | 0x1 udp dport 53 queue num 0 bypass
  add @s { ip saddr } meta mark vmap { 0x1 : drop }
 }
}
"""
SEEDS = (
    _V4,
    _V6,
    _NFT,
    b"nft\ntable ip n {\n}\n\xff",
    b"ufw\n*filter\n:ufw-before-input - [0:0]\n-A ufw-before-input -j ACCEPT\nCOMMIT\n",
    b"sets\ncreate a hash:net family inet\nadd a 10.0.0.0/8\nadd a 1.2.3.4-1.2.3.9 timeout 5\n",
    b"",
)
_NAMES = {"ufw": "before.rules"}


def fuzz_one(data: bytes) -> None:
    """Read `data` by the source that its first line names, and do with it all that is done."""
    head, _, rest = data.partition(b"\n")
    kind = head.decode("latin-1")
    if kind not in ("iptables-save", "ip6tables-save", "nft", "ufw", "sets"):
        kind = "nft"
    text = rest.decode("utf-8", "replace")
    file = InputFile(_NAMES.get(kind, "rules"), text)
    try:
        if kind == "sets":
            read_sets([file])
            return
        parsed = source(kind).read([file], Given())
        translation = translate(parsed, "P", Given(), kind)
    except InvalidInput as error:
        check(error, text)
        return
    except LimitExceeded:
        return
    policy = translation.written.policy
    assert parse_policy(format_policy(policy).encode(), "fuzz") == policy
    assert not prove(parsed, translation, Given(), most=100, sample=20).unknown


def check(error: InvalidInput, text: str) -> None:
    """An error says something, of a line that there is."""
    assert error.message
    assert error.line <= text.count("\n") + 1


if __name__ == "__main__":
    fuzz(fuzz_one)
