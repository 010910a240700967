"""Packets in a few words, and what a source and its translation make of them."""

from __future__ import annotations

from ipsecctl.importing.proving import Proof
from ipsecctl.importing.source import Given, Hook, InputFile, SourcePacket, State
from ipsecctl.importing.sources import source
from ipsecd.language.addresses import parse_address
from ipsecd.model.addresses import Network
from ipsecd.model.kinds import Action
from tests.ctl.importing.expected import imported

ME = {4: "198.51.100.5", 6: "2001:db8::5"}
PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmp6": 58}


def packet(text: str) -> SourcePacket:
    """The packet that a text describes: ``PROTOCOL [in|out|through] ADDRESS [PORT] [on LINK]``.

    ``out`` has the destination, others the source. A port is the one that it goes to; of ICMP, the
    type. ``known`` is part of an open connection.
    """
    words = text.split()
    protocol, way, address, *rest = words
    other = parse_address(f"[{address}]" if ":" in address else address)
    assert isinstance(other, Network)
    hook = {"in": Hook.IN, "out": Hook.OUT, "through": Hook.FORWARD}[way]
    me = parse_address(f"[{ME[6]}]" if ":" in address else ME[4])
    assert isinstance(me, Network)
    here = me.address + 1 if hook is Hook.FORWARD else me.address
    source_, destination = (here, other.address) if way == "out" else (other.address, here)
    number = int(rest.pop(0)) if rest and rest[0].isdecimal() else None
    link = rest[rest.index("on") + 1] if "on" in rest else "eth0"
    has_ports = protocol in {"tcp", "udp"}
    return SourcePacket(
        hook,
        other.family,
        source_,
        destination,
        PROTOCOLS[protocol] if protocol in PROTOCOLS else int(protocol),
        40000 if has_ports else None,
        number if has_ports else None,
        None if has_ports or number is None else number << 8,
        link=link,
        state=State.ESTABLISHED if "known" in rest else State.NEW,
    )


def verdicts(name: str, files: list[InputFile], text: str, given: Given | None = None) -> set[str]:
    """What the source may do with a packet: ``permit``, ``block`` or both."""
    parsed = source(name).read(files, given or Given())
    return {action.value for action in parsed.evaluator().judge(packet(text)).actions}


def is_as_said(proof: Proof) -> bool:
    """Whether each difference was told of, and as one that lets more pass if it does."""
    return all(one.note and (one.note.weaker or not one.weaker) for one in proof.differences)


def passes(name: str, files: list[InputFile], text: str, given: Given | None = None) -> bool:
    """Whether a packet passes. The source has to be sure, and the comparison without surprise.

    So the policy does the same, or a note says why not.
    """
    given = given or Given()
    _, proof = imported(name, files, given, 300)
    assert is_as_said(proof), proof.differences
    (verdict,) = verdicts(name, files, text, given)
    return verdict == Action.PERMIT.value


def notes(name: str, files: list[InputFile], given: Given | None = None) -> dict[str, bool]:
    """What is said of an import, each with whether it makes the policy weaker."""
    translation, proof = imported(name, files, given or Given(), 300)
    assert is_as_said(proof), proof.differences
    return {f"{note.line.where}: {note.reason}": note.weaker for note in translation.notes}
