"""Owns the table of all ``netsh ipsec`` commands; must not know what they do.

The tags of a command stand in the order in which words without a tag fill them. A handler is
called with the session and what was given.
"""

from __future__ import annotations

from ipsecctl.netsh.words import YES_OR_NO, Command

_KEYS = ("kerberos", "psk", "rootca")
_MAIN_MODE = ("mmpfs", "qmpermm", "mmlifetime")
_ON_POLICY = (*_MAIN_MODE, "activatedefaultrule", "pollinginterval", "assign")
_IDLE = frozenset({*_MAIN_MODE, "mmsecmethods", "qmpfs", "inpass", "soft", "qmsecmethods"})
_POLICY_IDLE = _IDLE | {"activatedefaultrule", "pollinginterval"}
_CONNTYPE = ("all", "lan", "dialup")
_ACTIONS = ("permit", "block", "negotiate")
_YES_NO_TAGS = ("mmpfs", "activatedefaultrule", "assign", "qmpfs", "inpass", "soft", "activate")
_CHOICES = dict.fromkeys((*_YES_NO_TAGS, "mirrored"), YES_OR_NO) | {
    "action": _ACTIONS,
    "conntype": _CONNTYPE,
    "level": ("normal", "verbose"),
    "format": ("list", "table"),
    "wide": YES_OR_NO,
    "resolvedns": YES_OR_NO,
    "type": ("transport", "tunnel"),
    "location": ("local", "domain", "persistent"),
    "mode": ("enable", "disable"),
    "actioninbound": _ACTIONS,
    "actionoutbound": _ACTIONS,
}
_NO_TUNNEL = "asks for a tunnel: this system blocks and permits and does not encrypt"
_NO_DIRECTORY = "is about policies of a directory; see 'ipsecctl domain' for those of a fleet"
_SHOWN = ("level", "format", "wide")
_ENDS = ("srcmask", "dstmask", "srcport", "dstport")
_RULE_OF_LISTS = ("filterlist", "filteraction", "tunnel", "conntype", "activate")


def _command(
    words: str, handler: str, *tags: str, required: str = "", idle: frozenset[str] = _IDLE
) -> Command:
    refused = {"tunnel": _NO_TUNNEL, "tunneldstaddress": _NO_TUNNEL, "gponame": _NO_DIRECTORY}
    refused |= {"guid": "names by number what has a name here: write name="}
    refused |= {"id": "names by number what has a name here: write name="}
    return Command(
        words,
        handler,
        tags,
        tuple(required.split()),
        {tag: _CHOICES[tag] for tag in tags if tag in _CHOICES},
        {tag: refused[tag] for tag in tags if tag in refused},
        idle & set(tags),
    )


STATIC = (
    _command("add policy", "policies:add", "name", "description", *_ON_POLICY, "mmsecmethods",
             required="name", idle=_POLICY_IDLE),
    _command("add filterlist", "lists:add_list", "name", "description", required="name"),
    _command("add filter", "lists:add_filter", "filterlist", "srcaddr", "dstaddr", "description",
             "protocol", "mirrored", *_ENDS, required="filterlist srcaddr dstaddr"),
    _command("add filteraction", "lists:add_action", "name", "description", "qmpfs", "inpass",
             "soft", "action", "qmsecmethods", required="name"),
    _command("add rule", "rules:add", "name", "policy", *_RULE_OF_LISTS, "description", *_KEYS,
             required="name policy filterlist filteraction", idle=frozenset(_KEYS)),
    _command("set policy", "policies:change", "name", "guid", "newname", "description",
             *_ON_POLICY, "gponame", "mmsecmethods", required="name", idle=_POLICY_IDLE),
    _command("set rule", "rules:change", "name", "id", "policy", "newname", "description",
             *_RULE_OF_LISTS, *_KEYS, required="name policy", idle=frozenset(_KEYS)),
    _command("set filterlist", "lists:change_list", "name", "guid", "newname", "description",
             required="name"),
    _command("set filteraction", "lists:change_action", "name", "guid", "newname", "description",
             "qmpfs", "inpass", "soft", "action", "qmsecmethods", required="name"),
    _command("set defaultrule", "rules:change_default", "policy", "qmpfs", "activate",
             "qmsecmethods", *_KEYS, required="policy"),
    _command("set store", "policies:set_store", "location", "domain", required="location"),
    _command("set batch", "policies:accept", "mode", required="mode"),
    _command("delete all", "policies:delete_all"),
    _command("delete policy", "policies:delete", "name", required="name"),
    _command("delete rule", "rules:delete", "name", "id", "policy", required="name policy"),
    _command("delete filterlist", "lists:delete_list", "name", required="name"),
    _command("delete filteraction", "lists:delete_action", "name", required="name"),
    _command("delete filter", "lists:delete_filter", "filterlist", "srcaddr", "dstaddr",
             "protocol", *_ENDS, "mirrored", required="filterlist srcaddr dstaddr"),
    _command("show all", "showing:everything", "format", "wide"),
    _command("show policy", "showing:policies", "name", *_SHOWN, required="name"),
    _command("show rule", "showing:rules", "name", "id", "policy", "type", *_SHOWN,
             required="name"),
    _command("show filterlist", "showing:filter_lists", "name", "level", "format", "resolvedns",
             "wide", required="name"),
    _command("show filteraction", "showing:filter_actions", "name", *_SHOWN, required="name"),
    _command("show store", "showing:store"),
    _command("show gpoassignedpolicy", "showing:domain_policy", "name"),
    _command("exportpolicy", "policy_files:export_policies", "file", required="file"),
    _command("importpolicy", "policy_files:import_policies", "file", required="file"),
)  # fmt: skip

_WHERE = ("srcaddr", "dstaddr")
DYNAMIC = (
    _command("add rule", "dynamic:add_rule", *_WHERE, "mmpolicy", "qmpolicy", "protocol",
             "srcport", "dstport", "mirrored", "conntype", "actioninbound", "actionoutbound",
             "srcmask", "dstmask", "tunneldstaddress", *_KEYS,
             required="srcaddr dstaddr mmpolicy", idle=frozenset(_KEYS)),
    _command("add mmpolicy", "policies:accept", "name", "qmpermm", "mmlifetime", "softsaexpirytime",
             "mmsecmethods", required="name"),
    _command("add qmpolicy", "policies:accept", "name", "soft", "pfsgroup", "qmsecmethods",
             required="name"),
    _command("set mmpolicy", "policies:accept", "name", "qmpermm", "mmlifetime", "softsaexpirytime",
             "mmsecmethods", required="name"),
    _command("set qmpolicy", "policies:accept", "name", "soft", "pfsgroup", "qmsecmethods",
             required="name"),
    _command("set config", "dynamic:set_config", "property", "value", required="property value"),
    _command("delete rule", "dynamic:delete_rule", *_WHERE, "protocol", "srcport", "dstport",
             "mirrored", "conntype", "srcmask", "dstmask", "tunneldstaddress",
             required="srcaddr dstaddr"),
    _command("delete all", "dynamic:delete_all"),
    _command("delete mmpolicy", "policies:accept", "name", required="name"),
    _command("delete qmpolicy", "policies:accept", "name", required="name"),
    _command("delete sa", "policies:accept"),
    _command("show all", "dynamic:show_filters", "resolvedns"),
    _command("show config", "dynamic:show_config"),
    _command("show stats", "dynamic:show_stats", "type"),
    _command("show qmfilter", "dynamic:show_filters", "name", "type", "srcaddr", "dstaddr",
             "srcmask", "dstmask", "protocol", "srcport", "dstport", "actioninbound",
             "actionoutbound", "resolvedns"),
    _command("show rule", "dynamic:show_filters", "type", "srcaddr", "dstaddr", "srcmask",
             "dstmask", "protocol", "srcport", "dstport", "actioninbound", "actionoutbound",
             "resolvedns"),
    _command("show mmsas", "dynamic:show_none", "format", "resolvedns"),
    _command("show qmsas", "dynamic:show_none", "format", "resolvedns"),
    _command("show mmpolicy", "dynamic:show_none", "name"),
    _command("show qmpolicy", "dynamic:show_none", "name"),
    _command("show mmfilter", "dynamic:show_none", "name"),
)  # fmt: skip

BY_CONTEXT = {
    context: {command.words: command for command in commands}
    for context, commands in (("static", STATIC), ("dynamic", DYNAMIC))
}
