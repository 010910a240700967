"""Owns the rules of hosts.allow and hosts.deny as one ordered list; must not know evaluation.

Where it is not known whether a pattern fits, a line that allows is taken not to, and one that
denies is taken to. But what alone says who is denied, or where, and what nothing tells, is left out
and named: taken for everybody it would close the host.
"""

from __future__ import annotations

from collections.abc import Iterator

from ipsecctl.importing.hosts_deny import (
    OPEN_CONNECTIONS,
    AccessFiles,
    AccessRule,
    Answer,
    Client,
    Daemon,
    Patterns,
)
from ipsecctl.importing.regions import Dim, Spans, common, complement, full, spans, spans_of
from ipsecctl.importing.source import Clause, Hook, Kind, Line, Note, State
from ipsecd.model.addresses import Family
from ipsecd.model.kinds import Action
from ipsecd.quoting import few, quote

_NAME_PORTS = "give /etc/services of the host too, or a file of lines such as: NAME 873/tcp"
_PORTS = (1, 65535)
_TRANSPORTS = (6, 17)

Ports = dict[int, Spans]
"""The ports of TCP and UDP by the number of the protocol."""


def clauses_of(files: AccessFiles) -> Iterator[Clause]:
    """The ordered list of what arrives."""
    for family in Family:
        region = {Dim.STATE: ((State.ESTABLISHED, State.RELATED),)}
        yield Clause(Hook.IN, family, region, Action.PERMIT, OPEN_CONNECTIONS)
        for rule in files.rules:
            yield from _clauses(rule, family)


def _clauses(rule: AccessRule, family: Family) -> Iterator[Clause]:
    allows = rule.answer is Answer.ALLOW
    addresses = _clients(rule.clients, family, allows=allows)
    if not addresses:
        return
    everybody = addresses == (full(Dim.SOURCE, family),)
    for protocol, ports in _daemons(rule.daemons, allows=allows).items():
        region: dict[Dim, Spans] = {Dim.PROTOCOL: ((protocol, protocol),)}
        if ports != (_PORTS,):
            region[Dim.DESTINATION_PORT] = ports
        if not everybody:
            region[Dim.SOURCE] = addresses
        action = Action.PERMIT if allows else Action.BLOCK
        name = rule.clients.items[0].text
        yield Clause(Hook.IN, family, region, action, rule.line, name)


def _clients(patterns: Patterns[Client], family: Family, *, allows: bool) -> Spans:
    """Those that surely are allowed, or all that can be denied."""
    known = _of_clients(patterns.items, family)
    if patterns.exceptions is None:
        return known
    out = _bound(patterns.exceptions, family, upper=allows)
    return common(known, complement(out, full(Dim.SOURCE, family)))


def _bound(patterns: Patterns[Client], family: Family, *, upper: bool) -> Spans:
    """All that may fit, or all that surely does."""
    whole = full(Dim.SOURCE, family)
    if upper and any(one.unknown for one in patterns.items):
        fits: Spans = (whole,)
    else:
        fits = _of_clients(patterns.items, family)
    if patterns.exceptions is None:
        return fits
    out = _bound(patterns.exceptions, family, upper=not upper)
    return common(fits, complement(out, whole))


def _of_clients(items: tuple[Client, ...], family: Family) -> Spans:
    if any(one.everything for one in items):
        return (full(Dim.SOURCE, family),)
    networks = [one.network for one in items if one.network]
    return spans_of(one for one in networks if one.family is family)


def _daemons(patterns: Patterns[Daemon], *, allows: bool) -> Ports:
    """The ports that surely are allowed, or all that can be denied."""
    found = {}
    for protocol in _TRANSPORTS:
        ports = _of_daemons(patterns.items, protocol, upper=not allows)
        if patterns.exceptions:
            out = _ports(patterns.exceptions, protocol, upper=allows)
            ports = common(ports, complement(out, _PORTS))
        if ports:
            found[protocol] = ports
    return found


def _ports(patterns: Patterns[Daemon], protocol: int, *, upper: bool) -> Spans:
    """The ports that may be meant, or those that surely are."""
    if upper and any(map(is_idle, patterns.items)):
        fits: Spans = (_PORTS,)
    else:
        fits = _of_daemons(patterns.items, protocol, upper=upper)
    if patterns.exceptions is None:
        return fits
    return common(fits, complement(_ports(patterns.exceptions, protocol, upper=not upper), _PORTS))


def _of_daemons(items: tuple[Daemon, ...], protocol: int, *, upper: bool) -> Spans:
    sure = [one for one in items if upper or not one.endpoint]
    if any(one.everything for one in sure):
        return (_PORTS,)
    ports = [port for one in sure for port in one.ports if port.protocol == protocol]
    return spans((port.ports.first, port.ports.last) for port in ports)


def is_idle(daemon: Daemon) -> bool:
    """Whether it is not known which ports a program listens at."""
    return not daemon.everything and not daemon.ports


def notes_of(files: AccessFiles) -> Iterator[Note]:
    """What is not in the list, or is there in another way."""
    for line in files.ignored:
        yield Note(
            line,
            Kind.NO_BLOCKING,
            "it has no list of programs and list of machines, so programs pass over it",
            "write PROGRAMS : MACHINES, if it was meant to say something",
        )
    for rule in files.rules:
        yield from _notes(rule)
    everything = [rule for rule in files.rules if any(one.everything for one in rule.daemons.items)]
    if any(rule.answer is not Answer.ALLOW for rule in everything):
        yield Note(
            Line("tcp_wrappers", 0, "ALL programs"),
            Kind.ASSUMED,
            "every port is taken for that of a program which asks these files",
            "permit what else is served here, such as a web server: *=0:443:TCP",
        )


def _notes(rule: AccessRule) -> Iterator[Note]:
    allows = rule.answer is Answer.ALLOW
    idle = [one.text for one in rule.daemons.items if is_idle(one)]
    if idle:
        yield Note(
            rule.line,
            Kind.LEFT_OUT,
            f"which ports {few(idle)} listens at is not known",
            _NAME_PORTS,
            weaker=not allows,
        )
    apart = rule.daemons.exceptions.all() if rule.daemons.exceptions else ()
    idle = [one.text for one in apart if is_idle(one)]
    if idle:
        yield Note(
            rule.line,
            Kind.CHANGED,
            f"which ports {few(idle)} listens at is not known, so "
            + ("nothing is let in by this line" if allows else "the line is for it too"),
            _NAME_PORTS,
        )
    for one in rule.clients.items:
        if one.unknown:
            yield Note(
                rule.line,
                Kind.LEFT_OUT,
                f"{quote(one.text)} is left out: {one.unknown}",
                "write the addresses of these machines, or make a list of them",
                weaker=not allows,
            )
    behind = rule.clients.exceptions.all() if rule.clients.exceptions else ()
    for one in behind:
        if one.unknown:
            yield Note(
                rule.line,
                Kind.CHANGED,
                f"whom {quote(one.text)} excepts is not known ({one.unknown}), so "
                + ("nobody is let in by this line" if allows else "the line is for them too"),
                "write the addresses of these machines, or make a list of them",
            )
    if any(one.endpoint for one in rule.daemons.all()):
        yield Note(
            rule.line,
            Kind.CHANGED,
            "a program at one of this host's addresses is not told from it at the others, so "
            + ("nothing is let in by this line" if allows else "it is denied at all of them"),
            "write a rule that names the address",
        )
    for name in rule.other:
        yield _note_option(rule, name)


def _note_option(rule: AccessRule, name: str) -> Note:
    if name == "twist":
        return Note(
            rule.line,
            Kind.CHANGED,
            "another program answers these connections, and here they are blocked",
            "take the line out of the file before, if that program has to answer",
        )
    if name == "aclexec":
        return Note(
            rule.line,
            Kind.CHANGED,
            "a command says whether a connection is let in, and here it is blocked",
            "have the command keep a list: ipsecctl list add NAME ADDRESS",
        )
    return Note(
        rule.line,
        Kind.NO_BLOCKING,
        f"option {quote(name)} decides nothing",
        "ipsecctl monitor shows what is dropped; run commands from there",
    )
