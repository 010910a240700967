"""Owns the ports of programs that hosts.allow and hosts.deny are about; must not know the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ipsecctl.importing.hosts_deny import PortOf
from ipsecctl.importing.source import InputFile
from ipsecd.errors import InvalidInput
from ipsecd.model.values import PortRange
from ipsecd.quoting import quote

NUMBER_OF = {"tcp": 6, "udp": 17}
_KNOWN = {
    "bacula-dir": "9101/tcp",
    "bacula-fd": "9102/tcp",
    "bacula-sd": "9103/tcp",
    "conserver": "782/tcp",
    "cvs": "2401/tcp",
    "dovecot": "110/tcp 143/tcp 993/tcp 995/tcp",
    "exim": "25/tcp 465/tcp 587/tcp",
    "exim4": "25/tcp 465/tcp 587/tcp",
    "imap-login": "143/tcp 993/tcp",
    "imapd": "143/tcp 993/tcp",
    "in.fingerd": "79/tcp",
    "in.ftpd": "21/tcp",
    "in.identd": "113/tcp",
    "in.rexecd": "512/tcp",
    "in.rlogind": "513/tcp",
    "in.rshd": "514/tcp",
    "in.talkd": "517/udp",
    "in.telnetd": "23/tcp",
    "in.tftpd": "69/udp",
    "ipop3d": "110/tcp",
    "mysqld": "3306/tcp",
    "nrpe": "5666/tcp",
    "pop3-login": "110/tcp 995/tcp",
    "portmap": "111/tcp 111/udp",
    "proftpd": "21/tcp",
    "pure-ftpd": "21/tcp",
    "rpcbind": "111/tcp 111/udp",
    "rsync": "873/tcp",
    "rsyncd": "873/tcp",
    "sendmail": "25/tcp 587/tcp",
    "slapd": "389/tcp 636/tcp",
    "snmpd": "161/udp 161/tcp",
    "snmptrapd": "162/udp 162/tcp",
    "sshd": "22/tcp",
    "sshdfwd-X11": "6010-6063/tcp",
    "swat": "901/tcp",
    "vsftpd": "21/tcp",
    "xrdp": "3389/tcp",
}

Services = Mapping[str, Sequence[PortOf]]


def read_services(file: InputFile) -> dict[str, list[PortOf]]:
    """The ports of each name in a file such as /etc/services, its other names included.

    Raises ``InvalidInput`` with file and line.
    """
    found: dict[str, list[PortOf]] = {}
    for number, text in enumerate(file.text.split("\n"), 1):
        words = text.partition("#")[0].split()
        if not words:
            continue
        port, slash, protocol = words[1].partition("/") if len(words) > 1 else ("", "", "")
        if not slash or not is_port(port):
            raise InvalidInput(
                f"{quote(text)} is no service",
                "write NAME PORT/PROTOCOL, as in /etc/services",
                source=file.path,
                line=number,
            )
        if protocol in NUMBER_OF:
            for name in (words[0], *words[2:]):
                one = PortOf(NUMBER_OF[protocol], PortRange(int(port), int(port)))
                found.setdefault(name, []).append(one)
    return found


def is_port(text: str) -> bool:
    """Whether a text is the number of a port."""
    return text.isascii() and text.isdecimal() and len(text) <= 5 and 1 <= int(text) <= 65535


def ports_of(daemon: str, services: Services) -> tuple[PortOf, ...]:
    """The ports that a program listens at; none if that is not known.

    A file of services comes first, by the program's own name; then what is known here; then that
    file by the name without ``in.`` before it or ``d`` behind it.
    """
    if daemon in services:
        return tuple(services[daemon])
    if daemon in _KNOWN:
        return tuple(map(_port, _KNOWN[daemon].split()))
    bare = daemon.removeprefix("in.").removeprefix("rpc.")
    for name in (bare, bare.removesuffix("d")):
        if name in services:
            return tuple(services[name])
    return ()


def _port(text: str) -> PortOf:
    ports, _, protocol = text.partition("/")
    first, _, last = ports.partition("-")
    return PortOf(NUMBER_OF[protocol], PortRange(int(first), int(last or first)))
