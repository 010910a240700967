"""The rule sets in ``tests/data/import``, how each is imported, and what is expected of that.

Run it to write the expectations anew, and read what changed: ``python -m tests.importing.corpus``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ipsecctl.importing.address_sets import addresses_in, read_sets
from ipsecctl.importing.proving import Proof, prove
from ipsecctl.importing.source import Given, InputFile, Kind, Parsed
from ipsecctl.importing.sources import source
from ipsecctl.importing.translating import Translation, translate

DIRECTORY = Path(__file__).parents[1] / "data" / "import"
EXPECTED = DIRECTORY / "expected.json"
CASES: dict[str, tuple[str, ...]] = {
    "workstation": ("iptables-save", "workstation.v4"),
    "server": ("iptables-save", "server.v4", "server.v6"),
    "server-v6": ("ip6tables-save", "server.v6"),
    "router": ("iptables-save", "router.v4"),
    "fail2ban": ("iptables-save", "fail2ban.v4"),
    "docker-host": ("iptables-save", "docker-host.v4"),
    "docker-host-network": ("iptables-save", "docker-host.v4", "docker0=172.17.0.0/16"),
    "kubernetes-node": ("iptables-save", "kubernetes-node.v4"),
    "libvirt": ("iptables-save", "libvirt.v4"),
    "libvirt-network": ("iptables-save", "libvirt.v4", "virbr0=192.168.122.0/24"),
    "sets": ("iptables-save", "sets.v4", "sets.ipset"),
    "nft-workstation": ("nft", "workstation.nft"),
    "nft-server": ("nft", "server.nft"),
    "nft-two-tables": ("nft", "two-tables.nft"),
    "ufw-server": ("ufw", "ufw-server"),
}
"""The source, then files, sets, and networks of links."""


def load(name: str) -> tuple[Parsed, Given]:
    """A rule set as its reader reads it."""
    kind, *rest = CASES[name]
    reader = source(kind)
    networks: dict[str, Sequence[tuple[Any, int, int]]] = {}
    files: list[InputFile] = []
    sets: list[InputFile] = []
    for word in rest:
        link, equals, prefix = word.partition("=")
        if equals:
            networks[link] = addresses_in(prefix)
            continue
        for path in reader.paths(str(DIRECTORY / word)):
            text = Path(path).read_text(encoding="utf-8")
            shown = str(Path(path).relative_to(DIRECTORY))
            (sets if path.endswith(".ipset") else files).append(InputFile(shown, text))
    given = Given(sets=read_sets(sets), networks=networks)
    return reader.read(files, given), given


def imported(name: str) -> tuple[Translation, Proof]:
    """A rule set, translated and compared."""
    parsed, given = load(name)
    translation = translate(parsed, name, given, CASES[name][0])
    return translation, prove(parsed, translation, given)


def summary(translation: Translation, proof: Proof) -> dict[str, Any]:
    """What is expected of an import, in few words."""
    places = {
        kind: sorted(note.line.where for note in translation.notes if note.kind is kind)
        for kind in (Kind.LEFT_OUT, Kind.CHANGED)
    }
    policy = translation.written.policy
    return {
        "rules": translation.rules,
        "policy rules": len(policy.rules),
        "filters": sum(len(rule.filters) for rule in policy.rules),
        "lists": sorted(translation.written.lists),
        "left out": places[Kind.LEFT_OUT],
        "changed": places[Kind.CHANGED],
        "weaker": sorted({note.line.where for note in translation.weaker}),
        "proven": proof.complete,
        "differences": sorted(
            f"{one.packet} ({one.state}): {one.note.reason if one.note else 'NOT FORESEEN'}"
            for one in proof.differences
        ),
    }


def main() -> None:
    """Write what is found as what is expected."""
    found = {name: summary(*imported(name)) for name in CASES}
    EXPECTED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
