"""Owns the help texts."""

from __future__ import annotations

SYNOPSES = {
    "status": "ipsecctl status [--json]",
    "show": "ipsecctl show [filters|policies|policy NAME|dynamic|containers|"
    "interfaces|exemptions] [--json]",
    "stats": "ipsecctl stats [--json]",
    "block": "ipsecctl block FILTER… [--for 10m] [--name NAME] [--lan|--dialup] [--json]",
    "permit": "ipsecctl permit FILTER… [--for 10m] [--name NAME] [--lan|--dialup] [--json]",
    "unblock": "ipsecctl unblock NAME|FILTER|ADDRESS [--json]",
    "flush": "ipsecctl flush [--json]",
    "quarantine": "ipsecctl quarantine container:NAME|--host [--permit FILTER]… [--for 1h] "
    "[--json]",
    "release": "ipsecctl release container:NAME|--host [--json]",
    "apply": "ipsecctl apply FILE [--assign] [--dry-run] [--json]",
    "policy": "ipsecctl policy {list | show NAME | export NAME | assign NAME | unassign [NAME] | "
    "create NAME [--description TEXT] | delete NAME [--unassign]} [--json]",
    "rule": "ipsecctl rule {add POLICY RULE FILTER… --action block|permit [--lan|--dialup] "
    "[--create] [--assign] | remove POLICY RULE… [--delete-empty]} [--json]",
    "reload": "ipsecctl reload [--resolve] [--json]",
    "check": "ipsecctl check FILE… [--json]",
    "format": "ipsecctl format FILE [--write] [--json]",
    "diff": "ipsecctl diff FILE [FILE] [--json]",
    "doctor": "ipsecctl doctor [--json]",
    "explain": "ipsecctl explain {PACKET | --offline --policy FILE [--me ADDRESS]… PACKET|-} "
    "[--json]",
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
    return "\n".join([*lines, "", f"  {DIALECTS}", DETAILS])


DETAILS = """
FILTER   *=0:1434:UDP, or short: udp/1434 to this host, or an address that sends to this host
PACKET   udp 203.0.113.7:4000 > me:1434
--for    30s, 10m, 2h, 1d, or seconds
--socket where the daemon listens; else $IPSECD_SOCKET, else /run/ipsecd/ipsecd.sock
exit     0 done · 1 refused; 'status': failed or drifted; 'diff': different · 2 usage
         3 daemon not reachable"""


def help_on(verb: str | None) -> str:
    """The help on one verb, or on all."""
    return f"usage: {SYNOPSES[verb]}" if verb in SYNOPSES else overview()
