"""Owns the options of one rule of iptables, as ``iptables-save`` writes them.

Must not know tables or chains. What is not understood becomes a condition that is not known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ipsecctl.importing.address_sets import addresses_in
from ipsecctl.importing.icmp_names import icmp_spans
from ipsecctl.importing.netfilter import Condition
from ipsecctl.importing.regions import Dim, Span, Spans, can_be_said, span_of, spans
from ipsecctl.importing.source import Cast, Given, State
from ipsecd.errors import InvalidInput
from ipsecd.language.protocols import parse_protocol
from ipsecd.model.addresses import Family
from ipsecd.model.values import IcmpOfFamily
from ipsecd.quoting import quote

_PLAIN_MODULES = frozenset(
    {"tcp", "udp", "icmp", "icmp6", "icmpv6", "sctp", "dccp", "udplite", "comment", "conntrack",
     "state", "multiport", "iprange", "set", "addrtype"}
)  # fmt: skip
"""Modules that ask for nothing by themselves."""
_WHY = {
    "limit": "how many packets there were is not asked by a policy",
    "hashlimit": "how many packets there were is not asked by a policy",
    "connlimit": "how many connections there are is not asked by a policy",
    "recent": "what came before is not asked by a policy",
    "string": "a policy does not look into what packets carry",
    "owner": "a policy knows senders by service:NAME or cgroup:/PATH, not by user",
    "rt": "a policy does not ask for routing headers; Linux itself obeys none of type 0",
    "mark": "a policy does not know marks",
    "connmark": "a policy does not know marks",
    "hl": "a policy does not ask for hop limits; neighbour discovery with hop limit 255 always "
    "passes",
    "ttl": "a policy does not ask for the time to live",
    "physdev": "a policy does not ask for the port of a bridge",
    "time": "a policy knows no times of day",
    "tcpflags": "a policy does not ask for flags of TCP",
}
_FLAGS = ("--syn", "--tcp-flags")
_SYN_MASK = frozenset({"FIN", "SYN", "RST", "ACK"})
"""Which flags ``--syn`` looks at: of these SYN alone is set (ipt_tcp, XT_TCP_INV_FLAGS)."""
NOT_BY_SYN = "a packet of TCP without SYN that is of no connection counts as one that opens one"
_WITH_STATE = (
    "ask for new connections in the same rule, with -m conntrack --ctstate NEW, and import again; "
    "or write a rule by hand with 'when: opening'"
)
_WITH_SET = "import again with --set FILE, where FILE is what 'ipset save' prints"
_ADDRESS = {
    "-s": Dim.SOURCE,
    "--source": Dim.SOURCE,
    "--src": Dim.SOURCE,
    "-d": Dim.DESTINATION,
    "--destination": Dim.DESTINATION,
    "--dst": Dim.DESTINATION,
    "--src-range": Dim.SOURCE,
    "--dst-range": Dim.DESTINATION,
}
_LINK = {
    "-i": Dim.LINK,
    "--in-interface": Dim.LINK,
    "-o": Dim.OUT_LINK,
    "--out-interface": Dim.OUT_LINK,
}
_PORT = {
    "--sport": Dim.SOURCE_PORT,
    "--source-port": Dim.SOURCE_PORT,
    "--sports": Dim.SOURCE_PORT,
    "--source-ports": Dim.SOURCE_PORT,
    "--dport": Dim.DESTINATION_PORT,
    "--destination-port": Dim.DESTINATION_PORT,
    "--dports": Dim.DESTINATION_PORT,
    "--destination-ports": Dim.DESTINATION_PORT,
}
_CASTS = {"LOCAL": Cast.LOCAL, "BROADCAST": Cast.BROADCAST, "MULTICAST": Cast.MULTICAST,
          "UNICAST": Cast.OTHER}  # fmt: skip
_PROTOCOLS = {"icmpv6": "58", "ipv6-icmp": "58", "icmp6": "58", "icmp": "1", "mh": "135",
              "ipv6-opts": "60", "ipv6-frag": "44", "ipv6-route": "43"}  # fmt: skip
"""What iptables calls protocols in other words than filters do."""
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')


@dataclass(slots=True)
class Options:
    """What one rule says: its conditions, its target and, for ``--ports``, those of either side."""

    conditions: list[Condition] = field(default_factory=list)
    either_ports: Condition | None = None
    jump: str = ""
    goto: str = ""
    rest: list[str] = field(default_factory=list)


def words_of(line: str) -> list[str]:
    """The words of a line; quotes keep one together, and a backslash takes the next as it is."""
    return [
        re.sub(r"\\(.)", r"\1", quoted) if bare == "" else bare
        for quoted, bare in _WORD.findall(line)
    ]


def read_options(words: Sequence[str], family: Family, given: Given) -> Options:
    """What the words behind ``-A CHAIN`` say; raises ``InvalidInput`` without a place."""
    return _Reading(words, family, given).run()


class _Reading:
    def __init__(self, words: Sequence[str], family: Family, given: Given) -> None:
        self._words = words
        self._at = 0
        self._family = family
        self._given = given
        self._found = Options()
        self._unknown: dict[str, str] = {}
        """Why something is not known, and what to do; "" if there is nothing special."""
        self._asks_for_syn = False

    def run(self) -> Options:
        """Read all words."""
        while self._at < len(self._words):
            negated = self._take_not()
            name = self._take("an option")
            if not name.startswith("-"):
                raise InvalidInput(f"{quote(name)} is no option", "give what iptables-save prints")
            negated = self._take_not() or negated
            self._option(name, negated=negated)
        if self._asks_for_syn:
            self._syn()
        self._found.conditions += [
            Condition(unknown=why, hint=hint) for why, hint in self._unknown.items()
        ]
        return self._found

    def _syn(self) -> None:
        """Of new connections a SYN is the first packet, so the state alone says it."""
        new = Condition(Dim.STATE, ((State.NEW, State.NEW),))
        if new in self._found.conditions:
            self._found.conditions.append(Condition(widened=NOT_BY_SYN))
        else:
            self._ask(_WHY["tcpflags"], _WITH_STATE)

    def _take_not(self) -> bool:
        if self._at < len(self._words) and self._words[self._at] == "!":
            self._at += 1
            return True
        return False

    def _take(self, what: str) -> str:
        if self._at >= len(self._words):
            raise InvalidInput(f"the rule ends where {what} should be", "give the whole rule")
        self._at += 1
        return self._words[self._at - 1]

    def _option(self, name: str, *, negated: bool) -> None:
        if name in ("-j", "--jump"):
            self._found.jump = self._take("a target")
            self._found.rest = list(self._words[self._at :])
            self._at = len(self._words)
        elif name in ("-g", "--goto"):
            self._found.goto = self._take("a chain")
        elif name in ("-m", "--match"):
            module = self._take("a match")
            if module not in _PLAIN_MODULES:
                self._ask(_WHY.get(module, f"a policy has nothing like the match {quote(module)}"))
        elif name == "--comment":
            self._take("a comment")
        elif name == "-c":
            self._take("a number")
            self._take("a number")
        elif not self._known(name, negated=negated):
            if name in _FLAGS:
                self._ask(_WHY["tcpflags"])
            elif not self._unknown:
                self._ask(f"a policy has nothing like {quote(name)}")
            while self._at < len(self._words) and not self._words[self._at].startswith("-"):
                if self._words[self._at] == "!":
                    break
                self._at += 1

    def _ask(self, why: str, hint: str = "") -> None:
        self._unknown[why] = hint

    def _add(self, dim: Dim, values: Spans, *, negated: bool, set_name: str = "") -> None:
        family = self._family if dim in (Dim.SOURCE, Dim.DESTINATION) else None
        self._found.conditions.append(Condition(dim, values, negated, family, set_name=set_name))

    def _known(self, name: str, *, negated: bool) -> bool:
        """Read an option that a packet alone can answer; False for any other."""
        if name in _ADDRESS:
            self._addresses(_ADDRESS[name], negated=negated)
        elif name in _LINK:
            pattern = self._take("the name of a link").replace("+", "*")
            if can_be_said(pattern):
                self._found.conditions.append(
                    Condition(_LINK[name], negated=negated, links=(pattern,))
                )
            else:
                self._ask(f"a policy cannot name links as {quote(pattern)} does")
        elif name in _PORT or name == "--ports":
            values = self._ports()
            if values is None:
                return True
            if name == "--ports":
                self._found.either_ports = Condition(Dim.SOURCE_PORT, values, negated)
            else:
                self._add(_PORT[name], values, negated=negated)
        elif name in ("-p", "--protocol"):
            self._protocol(negated=negated)
        elif name in ("--icmp-type", "--icmpv6-type"):
            values = icmp_spans(self._take("a type of ICMP"), self._family)
            self._add(Dim.MESSAGE, values, negated=negated)
        elif name in ("--ctstate", "--state"):
            self._states(negated=negated)
        elif name == "--match-set":
            self._set(negated=negated)
        elif name == "--dst-type":
            self._cast(negated=negated)
        elif name in _FLAGS and not negated and self._is_syn(name):
            self._asks_for_syn = True
        else:
            return False
        return True

    def _is_syn(self, name: str) -> bool:
        """Whether flags are those of ``--syn``, whose words are then taken."""
        if name == "--syn":
            return True
        words = self._words[self._at : self._at + 2]
        if len(words) < 2 or set(words[0].split(",")) != _SYN_MASK or words[1] != "SYN":
            return False
        self._at += 2
        return True

    def _addresses(self, dim: Dim, *, negated: bool) -> None:
        text = self._take("an address")
        found: list[Span] = []
        for part in text.split(","):
            try:
                entries = addresses_in(part)
            except ValueError:
                if re.fullmatch(r"[0-9A-Fa-f.:]+(/[0-9A-Fa-f.:]*)?(-\S*)?", part):
                    self._ask(f"{quote(part)} is no prefix, nor a range of addresses")
                else:
                    self._ask(f"{quote(part)} is a name, and which addresses it has is not known")
                return
            if any(family is not self._family for family, _, _ in entries):
                raise InvalidInput(
                    f"{quote(part)} is no address of IPv{int(self._family)}",
                    "give the rules of IPv4 to iptables-save, those of IPv6 to ip6tables-save",
                )
            found += [span_of(value, length, family) for family, value, length in entries]
        self._add(dim, spans(found), negated=negated)

    def _protocol(self, *, negated: bool) -> None:
        text = self._take("a protocol").lower()
        if text in ("all", "0", "any"):
            return
        name = _PROTOCOLS.get(text, text)
        number = parse_protocol(name)
        if isinstance(number, IcmpOfFamily) or number is None:
            number = 1
        self._add(Dim.PROTOCOL, ((number, number),), negated=negated)

    def _ports(self) -> Spans | None:
        """Ports and ranges; None if one is a name, which is noted."""
        found: list[Span] = []
        for part in self._take("a port").split(","):
            first, colon, last = part.partition(":")
            ends = (first or "0", (last or "65535") if colon else first)
            if not all(re.fullmatch(r"[0-9]{1,5}", end) for end in ends):
                self._ask(f"{quote(part)} is a name, and which port it is is not known here")
                return None
            low, high = map(int, ends)
            if not low <= high <= 65535:
                raise InvalidInput(f"{quote(part)} is no port or range", "write 80 or 8000:8080")
            found.append((low, high))
        return spans(found)

    def _states(self, *, negated: bool) -> None:
        found: list[Span] = []
        for word in self._take("a state").split(","):
            if word.upper() not in State.__members__:
                self._ask(f"a policy does not ask for the state {quote(word)}")
                return
            number = int(State[word.upper()])
            found.append((number, number))
        self._add(Dim.STATE, spans(found), negated=negated)

    def _cast(self, *, negated: bool) -> None:
        found: list[Span] = []
        for word in self._take("a type of address").split(","):
            if word.upper() not in _CASTS:
                self._ask(f"a policy does not ask for addresses of the type {quote(word)}")
                return
            number = int(_CASTS[word.upper()])
            found.append((number, number))
        self._add(Dim.CAST, spans(found), negated=negated)

    def _set(self, *, negated: bool) -> None:
        name, which = self._take("the name of a set"), self._take("src or dst")
        dim = {"src": Dim.SOURCE, "dst": Dim.DESTINATION}.get(which)
        entries = self._given.sets.get(name)
        if entries is None or dim is None:
            self._ask(
                f"the entries of the set {quote(name)} are not given, as a set of addresses alone",
                # A set of more than addresses is of no use here, whatever is given.
                "" if dim is None else _WITH_SET,
            )
            return
        mine = spans(
            span_of(value, length, family)
            for family, value, length in entries
            if family is self._family
        )
        self._add(dim, mine, negated=negated, set_name=name)
