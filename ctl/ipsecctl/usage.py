"""Owns the help texts."""

from __future__ import annotations

SYNOPSES = {
    "status": "ipsecctl status [--json]",
    "show": "ipsecctl show [filters|policies|policy NAME|dynamic|interfaces|exemptions] [--json]",
    "stats": "ipsecctl stats [--json]",
    "block": "ipsecctl block FILTER… [--for 10m] [--name NAME] [--lan|--dialup] [--json]",
    "permit": "ipsecctl permit FILTER… [--for 10m] [--name NAME] [--lan|--dialup] [--json]",
    "unblock": "ipsecctl unblock NAME|FILTER|ADDRESS [--json]",
    "flush": "ipsecctl flush [--json]",
    "apply": "ipsecctl apply FILE [--assign] [--dry-run] [--json]",
    "policy": "ipsecctl policy {list|show|create|delete|assign|unassign|export} …",
    "rule": "ipsecctl rule {add|remove} …",
    "reload": "ipsecctl reload [--resolve] [--json]",
    "check": "ipsecctl check FILE [--json]",
    "format": "ipsecctl format FILE [--write]",
    "diff": "ipsecctl diff FILE [FILE]",
    "explain": "ipsecctl explain PACKET | --offline --policy FILE [--me ADDRESS]… (PACKET|-)",
}
DIALECTS = (
    "ipseccmd, ipsecpol, netdiag, net {start|stop} policyagent, secedit, gpupdate: as they were"
)


def synopsis(verb: str) -> str:
    """How `verb` is written."""
    return SYNOPSES[verb]


def overview() -> str:
    """All verbs, a line each."""
    lines = ["usage: ipsecctl [--socket PATH] COMMAND …", ""]
    lines += [f"  {text.removeprefix('ipsecctl ')}" for text in SYNOPSES.values()]
    return "\n".join([*lines, "", f"  {DIALECTS}"])


def help_on(verb: str | None) -> str:
    """The help on one verb, or on all."""
    return f"usage: {SYNOPSES[verb]}" if verb in SYNOPSES else overview()
