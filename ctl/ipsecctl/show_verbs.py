"""Owns the part of the table of verbs that shows what there is; as the table, it only names."""

from __future__ import annotations

from ipsecctl.grammar import Argument, Option, Verb

POLICY = Argument("POLICY", "the name of a stored policy", offers="policies")
STATE = Argument("@N", "the policies before N changes of policies; @0 are those of now")

SHOW = (
    Verb("filters", "every filter in force, and where it comes from", "show:filters", (),
         (Option("--by-rank", "the one that decides before others first"),),
         example="ipsecctl show filters", also=("rules", "ruleset", "all")),
    Verb("policies", "the policies that are stored", "show:run",
         example="ipsecctl show policies"),
    Verb("policy", "one stored policy", "show:policy", (POLICY,),
         example='ipsecctl show policy "Block UDP 1434 Filter"'),
    Verb("dynamic", "the dynamic rules, and how long each has left", "show:run",
         example="ipsecctl show dynamic", also=("bans", "blocks", "banned", "blocked")),
    Verb("lists", "the lists of addresses, and what names them", "lists:show_all",
         example="ipsecctl show lists"),
    Verb("names", "the DNS names in force, and the addresses they stand for", "show:run",
         example="ipsecctl show names"),
    Verb("containers", "the containers that a filter can name", "show:containers",
         example="ipsecctl show containers"),
    Verb("interfaces", "the interfaces of this host, with their types", "show:run",
         example="ipsecctl show interfaces"),
    Verb("exemptions", "what passes every filter, and why", "show:run",
         example="ipsecctl show exemptions"),
    Verb("state", "the policies before the last N changes of policies; for short: show @N",
         "history:show_state", (STATE,), example="ipsecctl show @2"),
)  # fmt: skip
