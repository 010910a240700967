"""Owns what the well-known services of firewalld stand for; must not know zones.

A service that a directory describes itself comes first. Ports are those of IANA's registry and of
the programs' own documentation.
"""

from __future__ import annotations

from ipsecctl.importing.firewalld import PortOf, Service
from ipsecd.language.addresses import parse_address
from ipsecd.model.addresses import Network
from ipsecd.model.values import PortRange

_PORTS = {
    "amqp": "5672/tcp",
    "amqps": "5671/tcp",
    "apcupsd": "3551/tcp",
    "bacula": "9101-9103/tcp",
    "bacula-client": "9102/tcp",
    "bgp": "179/tcp",
    "cockpit": "9090/tcp",
    "dhcp": "67/udp",
    "dhcpv6": "547/udp",
    "dns": "53/tcp 53/udp",
    "dns-over-tls": "853/tcp",
    "docker-registry": "5000/tcp",
    "elasticsearch": "9200/tcp 9300/tcp",
    "etcd-client": "2379/tcp",
    "etcd-server": "2380/tcp",
    "finger": "79/tcp",
    "ftp": "21/tcp",
    "ftps": "990/tcp",
    "git": "9418/tcp",
    "grafana": "3000/tcp",
    "http": "80/tcp",
    "http3": "443/udp",
    "https": "443/tcp",
    "imap": "143/tcp",
    "imaps": "993/tcp",
    "ipp": "631/tcp 631/udp",
    "iscsi-target": "3260/tcp",
    "kerberos": "88/tcp 88/udp",
    "kpasswd": "464/tcp 464/udp",
    "kube-apiserver": "6443/tcp",
    "kubelet": "10250/tcp",
    "ldap": "389/tcp",
    "ldaps": "636/tcp",
    "memcache": "11211/tcp 11211/udp",
    "mongodb": "27017/tcp",
    "mosh": "60000-61000/udp",
    "mountd": "20048/tcp 20048/udp",
    "mqtt": "1883/tcp",
    "mqtt-tls": "8883/tcp",
    "ms-wbt": "3389/tcp",
    "mssql": "1433/tcp",
    "mysql": "3306/tcp",
    "nfs": "2049/tcp",
    "nfs3": "2049/tcp 2049/udp",
    "node-exporter": "9100/tcp",
    "nrpe": "5666/tcp",
    "ntp": "123/udp",
    "openvpn": "1194/udp",
    "pop3": "110/tcp",
    "pop3s": "995/tcp",
    "postgresql": "5432/tcp",
    "prometheus": "9090/tcp",
    "radius": "1812/tcp 1812/udp 1813/tcp 1813/udp",
    "redis": "6379/tcp",
    "rpc-bind": "111/tcp 111/udp",
    "rsyncd": "873/tcp 873/udp",
    "rtsp": "554/tcp 554/udp",
    "samba": "139/tcp 445/tcp 137/udp 138/udp",
    "samba-client": "137/udp 138/udp",
    "sip": "5060/tcp 5060/udp",
    "sips": "5061/tcp 5061/udp",
    "smtp": "25/tcp",
    "smtp-submission": "587/tcp",
    "smtps": "465/tcp",
    "snmp": "161/tcp 161/udp",
    "snmptrap": "162/tcp 162/udp",
    "squid": "3128/tcp",
    "ssh": "22/tcp",
    "svn": "3690/tcp",
    "syslog": "514/udp",
    "syslog-tls": "6514/tcp 6514/udp",
    "telnet": "23/tcp",
    "tftp": "69/udp",
    "tor-socks": "9050/tcp",
    "transmission-client": "51413/tcp 51413/udp",
    "vnc-server": "5900-5903/tcp",
    "wireguard": "51820/udp",
    "xmpp-client": "5222/tcp",
    "xmpp-server": "5269/tcp",
    "zabbix-agent": "10050/tcp",
    "zabbix-server": "10051/tcp",
}
_WITH_DESTINATIONS = {
    "dhcpv6-client": ("546/udp", ("[fe80::]/64",)),
    "mdns": ("5353/udp", ("224.0.0.251", "[ff02::fb]")),
    "ssdp": ("1900/udp", ("239.255.255.250", "[ff02::c]")),
}
_PROTOCOLS_OF = {"igmp": (2,), "gre": (47,), "vrrp": (112,)}
_NUMBER_OF = {"tcp": 6, "udp": 17}


def known_service(name: str) -> Service | None:
    """The service called `name`, as firewalld brings it; None if it is not known here."""
    if name in _PROTOCOLS_OF:
        return Service(name, protocols=_PROTOCOLS_OF[name])
    if name == "ipsec":
        return Service(name, ports=_ports("500/udp 4500/udp 4500/tcp"), protocols=(50, 51))
    if name in _WITH_DESTINATIONS:
        ports, addresses = _WITH_DESTINATIONS[name]
        return Service(name, _ports(ports), destinations=tuple(map(_network, addresses)))
    return Service(name, _ports(_PORTS[name])) if name in _PORTS else None


def _network(text: str) -> Network:
    address = parse_address(text)
    assert isinstance(address, Network)
    return address


def _ports(text: str) -> tuple[PortOf, ...]:
    return tuple(map(_port, text.split()))


def _port(text: str) -> PortOf:
    ports, _, protocol = text.partition("/")
    first, _, last = ports.partition("-")
    return PortOf(_NUMBER_OF[protocol], PortRange(int(first), int(last or first)))
