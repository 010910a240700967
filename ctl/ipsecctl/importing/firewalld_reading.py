"""Owns reading the files of firewalld into its values; must not know what becomes of packets.

What cannot be understood is kept by name and line where leaving it out can be told to a person,
and is an error where the rest would then mean something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import PurePath

from ipsecctl.importing.firewalld import (
    ACCEPT,
    ANY_ZONE,
    CONTINUE,
    DEFAULT,
    DROP,
    HOST_ZONE,
    REJECT,
    Configuration,
    Named,
    Policy,
    Service,
    Zone,
)
from ipsecctl.importing.firewalld_services import known_service
from ipsecctl.importing.firewalld_sets import read_ipset
from ipsecctl.importing.firewalld_stock import STOCK_POLICIES, stock_zone
from ipsecctl.importing.firewalld_traffic import (
    integer_of,
    network_of,
    port_of,
    protocol_of,
    side_of,
    traffic_of,
    wrong,
)
from ipsecctl.importing.firewalld_xml import Element, read_xml
from ipsecctl.importing.source import InputFile, Line
from ipsecd.errors import InvalidInput
from ipsecd.model.addresses import Network
from ipsecd.quoting import few, quote, quote_path

_REJECTS = dict.fromkeys(("REJECT", "%%REJECT%%"), REJECT)
_TARGETS = {"": DEFAULT, "default": DEFAULT, "ACCEPT": ACCEPT, "DROP": DROP} | _REJECTS
_POLICY_TARGETS = {"": CONTINUE, "CONTINUE": CONTINUE, "ACCEPT": ACCEPT, "DROP": DROP} | _REJECTS
_DIRECTORIES = ("zones", "policies", "services", "ipsets")
_SETTINGS, _DIRECT = "firewalld.conf", "direct.xml"


def read_configuration(files: Sequence[InputFile]) -> Configuration:
    """The configuration in the files of directories such as /etc/firewalld.

    Of two files of one kind and name the first counts, so /etc/firewalld comes before
    /usr/lib/firewalld. Raises ``InvalidInput`` with file and line.
    """
    here = _Files(files)
    settings = _settings(here.settings) if here.settings else {}
    zones = {name: _zone(name, file) for name, file in here.of("zones")}
    policies = {name: _policy(name, file) for name, file in here.of("policies")}
    if not zones and not settings:
        raise InvalidInput(
            f"no zone and no firewalld.conf in {few([quote_path(one.path) for one in files], 3)}",
            "name the directory that has firewalld.conf and zones/, as /etc/firewalld is",
            source=files[0].path if files else "",
            line=1,
        )
    wanted = settings.get("DefaultZone")
    default = (wanted.name if wanted else "") or "public"
    _add_stock_zones(zones, policies.values(), default)
    if default not in zones:
        raise InvalidInput(
            f"the default zone {quote(default)} is not described",
            "give the directory that has it too, such as /usr/lib/firewalld",
            source=wanted.line.file if wanted else files[0].path,
            line=wanted.line.number if wanted else 1,
        )
    for name, policy in STOCK_POLICIES.items():
        policies.setdefault(name, policy)
    services = {name: _service(name, file) for name, file in here.of("services")}
    from_table = _add_known_services(services, zones.values(), policies.values())
    return Configuration(
        zones=dict(sorted(zones.items())),
        policies=tuple(sorted(policies.values(), key=lambda one: (one.priority, one.name))),
        services=services,
        ipsets={name: read_ipset(name, file) for name, file in here.of("ipsets")},
        default_zone=default,
        direct=_direct(here.direct) if here.direct else (),
        settings=settings,
        from_table=from_table,
    )


class _Files:
    """The files by what they are, which their names and directories say."""

    def __init__(self, files: Iterable[InputFile]) -> None:
        self.settings: InputFile | None = None
        self.direct: InputFile | None = None
        self._of: dict[str, dict[str, InputFile]] = {kind: {} for kind in _DIRECTORIES}
        for file in files:
            parts = PurePath(file.path).parts
            name = parts[-1] if parts else ""
            if name == _SETTINGS:
                self.settings = self.settings or file
            elif name == _DIRECT:
                self.direct = self.direct or file
            elif name.endswith(".xml") and len(parts) > 1 and parts[-2] in _DIRECTORIES:
                self._of[parts[-2]].setdefault(name.removesuffix(".xml"), file)
            elif name.endswith(".xml") and len(parts) > 2 and parts[-3] in _DIRECTORIES:
                raise wrong(
                    Line(file.path, 1, ""),
                    f"{quote(parts[-2])} is put together of several files",
                    "put them into one file, as firewall-cmd --permanent writes it",
                )

    def of(self, kind: str) -> Iterator[tuple[str, InputFile]]:
        """Those of a directory, by their names without ``.xml``."""
        yield from sorted(self._of[kind].items())


def _settings(file: InputFile) -> dict[str, Named]:
    """The ``KEY=VALUE`` lines of firewalld.conf."""
    settings = {}
    for number, text in enumerate(map(str.strip, file.text.split("\n")), 1):
        if not text or text[0] in "#;":
            continue
        key, sign, value = text.partition("=")
        line = Line(file.path, number, text)
        if not sign:
            raise wrong(line, f"{quote(text)} is not a setting", "write KEY=VALUE")
        settings[key.strip()] = Named(value.strip(), line)
    return settings


def _zone(name: str, file: InputFile) -> Zone:
    root = read_xml(file, "zone", f"zone {name}")
    own = {"interface", "source", "forward"}
    both = root.get("priority") or "0"
    target = _word(root, "target", _TARGETS)
    return Zone(
        name,
        replace(root.line, text=f"zone {name}: target {target}"),
        target,
        tuple(
            Named(_needed(one, "name"), one.line) for one in root.children if one.tag == "interface"
        ),
        tuple((side_of(one), one.line) for one in root.children if one.tag == "source"),
        traffic_of(one for one in root.children if one.tag not in own),
        forward=next((one.line for one in root.children if one.tag == "forward"), None),
        ingress_priority=integer_of(root, "ingress-priority", both),
        egress_priority=integer_of(root, "egress-priority", both),
    )


def _policy(name: str, file: InputFile) -> Policy:
    root = read_xml(file, "policy", f"policy {name}")
    ends = {
        tag: tuple(_needed(one, "name") for one in root.children if one.tag == tag)
        for tag in ("ingress-zone", "egress-zone")
    }
    priority = integer_of(root, "priority", "-1")
    if not priority:
        raise wrong(
            root.line, "the priority of a policy cannot be 0", "give one from -32768 to 32767"
        )
    target = _word(root, "target", _POLICY_TARGETS)
    return Policy(
        name,
        replace(root.line, text=f"policy {name}: target {target}"),
        target,
        priority,
        ends["ingress-zone"],
        ends["egress-zone"],
        traffic_of(one for one in root.children if one.tag not in ends),
    )


def _word(root: Element, name: str, words: Mapping[str, str]) -> str:
    text = root.get(name)
    if text not in words:
        known = ", ".join(word for word in words if word)
        raise wrong(root.line, f"{quote(text)} is not a {name}", f"it is one of {known}")
    return words[text]


def _needed(element: Element, name: str) -> str:
    if not element.get(name):
        raise wrong(
            element.line,
            f"<{element.tag}> has no {name}",
            f'write <{element.tag} {name}="…"/>, or take the element out',
        )
    return element.get(name)


def _service(name: str, file: InputFile) -> Service:
    root = read_xml(file, "service", f"service {name}")
    ports, protocols, source_ports, includes = [], [], [], []
    destinations: list[Network] = []
    for one in root.children:
        if one.tag == "port" and not one.get("port"):
            protocols.append(protocol_of(one, "protocol"))
        elif one.tag == "port":
            ports.append(port_of(one))
        elif one.tag == "source-port":
            source_ports.append(port_of(one))
        elif one.tag == "protocol":
            protocols.append(protocol_of(one, "value"))
        elif one.tag == "include":
            includes.append(_needed(one, "service"))
        elif one.tag == "destination":
            given = filter(None, map(one.get, ("ipv4", "ipv6")))
            destinations += [network_of(text, one.line) for text in given]
        elif one.tag not in {"short", "description", "module", "helper"}:
            raise wrong(
                one.line,
                f"<{one.tag}> is not known in a service",
                "name the ports of the service in the zone instead",
            )
    return Service(
        name,
        tuple(ports),
        tuple(protocols),
        tuple(source_ports),
        tuple(destinations),
        tuple(includes),
    )


def _direct(file: InputFile) -> tuple[Named, ...]:
    """The rules of direct.xml, each in words of its own."""
    said = []
    for one in read_xml(file, "direct", "direct").children:
        where = " ".join(filter(None, (one.get("ipv"), one.get("table"), one.get("chain"))))
        arguments = " ".join(one.text.split())
        said.append(Named(f"{one.tag} {where} {arguments}".strip(), one.line))
    return tuple(said)


def _add_stock_zones(zones: dict[str, Zone], policies: Iterable[Policy], default: str) -> None:
    """Add those that firewalld brings, as far as they are named and no file describes them."""
    named = set(chain.from_iterable(one.ingress + one.egress for one in policies))
    for name in (named | {default}) - set(zones) - {ANY_ZONE, HOST_ZONE}:
        zone = stock_zone(name)
        if zone:
            zones[name] = zone


def _add_known_services(
    services: dict[str, Service], zones: Iterable[Zone], policies: Iterable[Policy]
) -> frozenset[str]:
    """Add the well-known ones that are named and not described; returns their names."""
    waiting = list(chain.from_iterable(one.includes for one in services.values()))
    for traffic in chain((one.traffic for one in zones), (one.traffic for one in policies)):
        waiting += [one.name for one in traffic.services]
        waiting += [one.element.service for one in traffic.rich if one.element.service]
    known = {name: known_service(name) for name in waiting if name not in services}
    added = {name: service for name, service in known.items() if service}
    services.update(added)
    return frozenset(added)
