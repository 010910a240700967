"""Owns the addresses that users write; must not know any syntax, nor what they are used for.

Every value is immutable and valid: constructors raise ``InvalidInput``. An address is an integer in
host order, with its family; a network has no host bits set.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, IntEnum

from ipsecd.errors import InvalidInput
from ipsecd.quoting import quote

MAX_DNS_NAME = 253


class Family(IntEnum):
    """An IP version."""

    # The hash of an Enum is a Python function, and takes half of the time that a filter's takes.
    __hash__ = int.__hash__

    IPV4 = 4
    IPV6 = 6

    @property
    def bits(self) -> int:
        """The length of an address in bits: 32 or 128."""
        return 32 if self is Family.IPV4 else 128


class Keyword(Enum):
    """The two addresses that are words: any address, and this host's own."""

    ANY = "*"
    ME = "0"

    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True)
class Network:
    """An address with a prefix length in bits; a host has the full length."""

    family: Family
    address: int
    length: int

    def __post_init__(self) -> None:
        bits = self.family.bits
        if not 0 <= self.length <= bits:
            raise InvalidInput(
                f"prefix length {self.length} is not between 0 and {bits}",
                f"an IPv{int(self.family)} prefix has at most {bits} bits",
            )
        if not 0 <= self.address < 1 << bits:
            raise InvalidInput(f"address {self.address} does not fit into {bits} bits")
        if self.address & ((1 << (bits - self.length)) - 1):
            raise InvalidInput(
                f"the network address has bits set beyond its prefix length {self.length}",
                "write the network's first address, or leave the mask out for one host",
            )

    def __contains__(self, address: int) -> bool:
        return (address ^ self.address) >> (self.family.bits - self.length) == 0


@dataclass(frozen=True, slots=True)
class HostName:
    """A DNS name with the addresses it had when it was last resolved.

    ``addresses`` are host networks, sorted; it is empty until the name is resolved.
    """

    name: str
    addresses: tuple[Network, ...] = ()

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > MAX_DNS_NAME:
            raise InvalidInput(f"{quote(self.name)} is not a DNS name")
        order = sorted(set(self.addresses), key=lambda network: (network.family, network.address))
        if any(network.length != network.family.bits for network in order):
            raise InvalidInput(f"DNS name {quote(self.name)} can only stand for hosts")
        object.__setattr__(self, "addresses", tuple(order))


class SelectorKind(Enum):
    """What a container engine knows by name: containers, networks, and labels of containers."""

    CONTAINER = "container"
    NETWORK = "network"
    LABEL = "label"


_SELECTOR_NAME = re.compile(r"[A-Za-z0-9_./-]+")
_LABEL = re.compile(rf"{_SELECTOR_NAME.pattern}={_SELECTOR_NAME.pattern}")
MAX_SELECTOR = MAX_DNS_NAME


@dataclass(frozen=True, slots=True)
class Selector:
    """Addresses that a container engine gives out, by a name that may not exist yet.

    ``name`` is that of a container or network, or KEY=VALUE for a label. ``network`` limits a
    container to its addresses in one network. ``addresses``, sorted, are what it stands for at the
    moment; if there are none, the filter matches nothing.
    """

    kind: SelectorKind
    name: str
    network: str = ""
    addresses: tuple[Network, ...] = ()

    def __post_init__(self) -> None:
        pattern = _LABEL if self.kind is SelectorKind.LABEL else _SELECTOR_NAME
        is_network_valid = not self.network or (
            self.kind is SelectorKind.CONTAINER and _SELECTOR_NAME.fullmatch(self.network)
        )
        if (
            not pattern.fullmatch(self.name)
            or not is_network_valid
            or len(self.name) > MAX_SELECTOR
        ):
            what = f"{self.name}@{self.network}" if self.network else self.name
            raise InvalidInput(
                f"{quote(what)} cannot name a {self.kind.value}",
                "write container:NAME, container:NAME@NETWORK, network:NAME or label:KEY=VALUE, "
                "of letters, digits, dots, hyphens, underscores and slashes",
            )
        order = sorted(
            set(self.addresses),
            key=lambda network: (network.family, network.address, network.length),
        )
        object.__setattr__(self, "addresses", tuple(order))


MAX_LIST_NAME = 64
_LIST_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_LIST_NAME - 1}}}")


def check_list_name(name: str) -> None:
    """Raise ``InvalidInput`` unless `name` can name a list."""
    if not _LIST_NAME.fullmatch(name):
        raise InvalidInput(
            f"{quote(f'@{name}')} cannot name a list",
            "write @NAME: letters, digits, dots, hyphens and underscores, beginning with a letter "
            f"or digit, at most {MAX_LIST_NAME} of them",
        )


JOINED = "+"
"""Stands between the names of lists that are put together; no filter can be written so."""


def check_list_names(names: str) -> None:
    """Raise ``InvalidInput`` unless `names` are one or more of lists, with ``JOINED`` between."""
    for name in names.split(JOINED):
        check_list_name(name)


@dataclass(frozen=True, slots=True)
class ListName:
    """The entries of a list, by its name; there may be no such list yet.

    ``lengths`` are the IP versions and prefix lengths of the entries that the list has at the
    moment, sorted; if there are none, the filter matches nothing. The entries themselves are part
    of what a host knows, as its own addresses are. Compiled rules may name several lists at once:
    then ``JOINED`` stands between their names.
    """

    name: str
    lengths: tuple[tuple[Family, int], ...] = ()

    def __post_init__(self) -> None:
        check_list_names(self.name)
        object.__setattr__(self, "lengths", tuple(sorted(set(self.lengths))))

    def __str__(self) -> str:
        return f"@{self.name}"


_PROCESS = {
    "service": re.compile(r"[A-Za-z0-9_.@\\-]+\.(service|scope|slice)"),
    "cgroup": re.compile(r"(/[A-Za-z0-9_.@\\-]+)+"),
}


@dataclass(frozen=True, slots=True)
class Process:
    """Local processes, as the source of what they send: those of a unit, or in a control group.

    ``kind`` is ``service`` (``name`` is a unit of the system's service manager) or ``cgroup``
    (``name`` is a path from the root of the hierarchy). It matches packets that this host sends
    under its own address, from a socket that was made in that control group or one below it.
    """

    kind: str
    name: str

    def __post_init__(self) -> None:
        if not _PROCESS[self.kind].fullmatch(self.name):
            raise InvalidInput(
                f"{quote(self.name)} cannot name a {self.kind}",
                "write service:NAME.service or cgroup:/PATH/OF/GROUP",
            )

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


Address = Keyword | Network | HostName | Selector | ListName | Process
