"""Owns the names of services that a rule can be given by, and their ports; must not know rules.

A table of its own, because the database of the host may be missing, and differs between hosts. The
numbers are those of IANA's registry, or of the program's own manual where that has none.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from collections.abc import Sequence

SERVICES: dict[str, tuple[str, ...]] = {
    "bgp": ("tcp/179",),
    "dhcp-server": ("udp/67,547",),
    "dns": ("udp/53", "tcp/53"),
    "etcd": ("tcp/2379-2380",),
    "ftp": ("tcp/21",),
    "git": ("tcp/9418",),
    "http": ("tcp/80",),
    "http3": ("udp/443",),
    "https": ("tcp/443",),
    "imap": ("tcp/143",),
    "imaps": ("tcp/993",),
    "ipp": ("tcp/631",),
    "ipsec": ("udp/500,4500", "*=0::ESP"),
    "kerberos": ("tcp/88", "udp/88"),
    "ldap": ("tcp/389",),
    "ldaps": ("tcp/636",),
    "mdns": ("udp/5353",),
    "mosh": ("udp/60000-61000",),
    "mqtt": ("tcp/1883",),
    "mqtts": ("tcp/8883",),
    "mysql": ("tcp/3306",),
    "nfs": ("tcp/2049",),
    "ntp": ("udp/123",),
    "openvpn": ("udp/1194", "tcp/1194"),
    "ping": ("icmp/echo-request",),
    "pop3s": ("tcp/995",),
    "postgresql": ("tcp/5432",),
    "rdp": ("tcp/3389", "udp/3389"),
    "redis": ("tcp/6379",),
    "rsync": ("tcp/873",),
    "smb": ("tcp/445",),
    "smtp": ("tcp/25",),
    "snmp": ("udp/161",),
    "ssh": ("tcp/22",),
    "submission": ("tcp/587,465",),
    "syslog": ("udp/514",),
    "syslog-tls": ("tcp/6514",),
    "telnet": ("tcp/23",),
    "tftp": ("udp/69",),
    "vnc": ("tcp/5900",),
    "wireguard": ("udp/51820",),
}
"""Each as filters to this host, in the short form where there is one."""
_JOINTS = frozenset("=+:[(")
"""What a word of a filter that is typed in several words ends with, or the next one begins with."""


def with_services(words: Sequence[str]) -> list[str]:
    """Words that are filters, with those that are a service's name as what that stands for.

    A name that is part of a filter is a host's.
    """
    filters: list[str] = []
    for before, word, after in zip(("", *words), words, (*words[1:], ""), strict=False):
        is_part = before[-1:] in _JOINTS or after[:1] in _JOINTS
        filters += (word,) if is_part else SERVICES.get(word.lower(), (word,))
    return filters
