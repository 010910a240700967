"""Owns the export for nft(8): which filters can be in it, and what is said about it in comments."""

from __future__ import annotations

from ipsecctl.exporting.gathered import (
    Decided,
    Exported,
    LeftOut,
    rule_name,
    without_fixed_addresses,
    written,
)
from ipsecctl.exporting.nft_ruleset import TABLE, ruleset
from ipsecd.language.resolved import addresses_of
from ipsecd.model.addresses import written_name
from ipsecd.model.host_names import host_names_in
from ipsecd.quoting import count


def export(decided: Decided) -> Exported:
    """A file for ``nft -f``, with what is not in it in comments."""
    left_out, kept = [], []
    for one in decided.filters:
        why = without_fixed_addresses(one.filter)
        if why:
            left_out.append(LeftOut(rule_name(one), written(one.filter), why))
        else:
            kept.append(one)
    text = ruleset(kept, decided.exemptions, decided.lists, drop_unparsable=decided.drop_unparsable)
    comments = [
        "#!/usr/sbin/nft -f",
        f"# {decided.title}: {count(len(kept), 'filter')}, as a table that needs no daemon.",
        f"# In force with 'nft -f FILE', gone with 'nft delete table inet {TABLE}'.",
        "# Of the rules for a packet the first decides. What no rule matches passes.",
    ]
    for name, entries in decided.lists.items():
        size = count(len(entries), "entry")
        comments.append(f"# List @{written_name(name)} had {size}; it is not followed.")
    comments += [
        f"# {host.name} was {', '.join(addresses_of(host))}; it is not followed."
        for host in host_names_in(one.filter for one in kept)
    ]
    comments += [f"# Left out: {each}" for each in left_out]
    return Exported("\n".join([*comments, "", text]), left_out)
