"""Owns what ``netsh ipsec dynamic`` does: dynamic rules, which end with the daemon.

A rule is named by its filter, so that it is found again by the same filter. Must not know how the
commands are written.
"""

from __future__ import annotations

from dataclasses import replace

from ipsecctl.netsh.failing import EXISTS, Conflict, Failure, NotDoneHere
from ipsecctl.netsh.filters import Agreement, filter_of
from ipsecctl.netsh.places import NAMED, Places
from ipsecctl.netsh.rules import CONDITIONS
from ipsecctl.netsh.session import Session
from ipsecctl.netsh.showing import labelled
from ipsecctl.netsh.words import Given
from ipsecctl.workspace.dynamic_rules import DynamicRule
from ipsecd.language.filters import format_filter
from ipsecd.language.shared_filters import format_shared_filter
from ipsecd.model.addresses import Keyword
from ipsecd.model.exemptions import ESSENTIALS, NO_DEFAULT_EXEMPT
from ipsecd.model.shared_filters import SharedFilter
from ipsecd.quoting import quote

_IDLE_PROPERTIES = ("ipsecdiagnostics", "ikelogging", "strongcrlcheck", "ipsecloginterval",
                    "bootmode", "bootexemptions")  # fmt: skip


def add_rule(session: Session, given: Given) -> None:
    """``add rule``: one dynamic rule, or one for each direction if their actions differ."""
    flt = filter_of(given, session.note, session.find)
    actions = {way: _action(given, f"action{way}") for way in ("inbound", "outbound")}
    interface = CONDITIONS[given.get("conntype", "all")].interface_text
    on = f" on {interface}" if interface else ""
    name = f"{NAMED}{format_shared_filter(flt)}"
    if actions["inbound"] == actions["outbound"]:
        parts = [(f"{name}{on}", actions["inbound"], flt)]
    else:
        ways = _ways(flt)
        parts = [(f"{name} {way}{on}", actions[way], one) for way, one in ways.items()]
    rules = [
        DynamicRule.made(part, action, [format_filter(f) for f in one.filters()], interface)
        for part, action, one in parts
    ]
    workspace = session.workspace
    for rule in rules:
        before = workspace.dynamic.get(rule.name)
        if before is not None and before.action != rule.action:
            raise Failure(
                "this rule exists already, and does something else",
                f"rule {quote(rule.name)} is left as it is, which is to {before.action}; delete it "
                "first",
                EXISTS,
            )
    for rule in rules:
        workspace.put_dynamic(rule)
        if session.dynamic_places is not None:
            session.dynamic_places.add(rule)


def delete_rule(session: Session, given: Given) -> None:
    """``delete rule``: every dynamic rule whose filter agrees in all that is given."""
    agreement = Agreement(given, session.note, session.find)
    if session.dynamic_places is None:
        session.dynamic_places = Places(session.workspace.dynamic)
    places, conntype = session.dynamic_places, given.get("conntype")
    names = places.agreeing(agreement)
    if conntype:
        interface = CONDITIONS[conntype].interface_text
        rules = map(session.workspace.dynamic.get, names)
        names = [rule.name for rule in rules if rule and rule.interface == interface]
    if not names:
        raise Conflict("there is no such rule", "a rule is found by all that is given")
    for name in names:
        session.workspace.remove_dynamic(name)
        places.remove(agreement, name)


def delete_all(session: Session, _given: Given) -> None:
    """``delete all``: every dynamic rule, whoever made it."""
    session.workspace.clear_dynamic()
    session.dynamic_places = None


def set_config(session: Session, given: Given) -> None:
    """``set config``: only what is exempt means anything here, and that is a setting."""
    name, value = given["property"].lower(), given["value"]
    if name in _IDLE_PROPERTIES:
        session.note(f"property={name} has no effect here: rules are enforced from boot on")
        return
    if name != "ipsecexempt" or value not in map(str, NO_DEFAULT_EXEMPT):
        known = ", ".join(("ipsecexempt (0 to 3)", *_IDLE_PROPERTIES))
        raise NotDoneHere("this property is not known here, or its value", f"there are: {known}")
    wanted = {exemption.name for exemption in NO_DEFAULT_EXEMPT[int(value)]}
    essential = {exemption.name for exemption in ESSENTIALS}
    there = {each["name"] for each in session.client.call("ListExemptions")["exemptions"]}
    if there - essential != wanted - essential:
        raise NotDoneHere(
            "what passes every filter is a setting of the daemon",
            f"write default-exempt: {value} in ipsecd.yaml and restart the daemon",
        )


def show_filters(session: Session, _given: Given) -> None:
    """``show all``, ``show rule`` and ``show qmfilter``: the filters in force."""
    filters = session.client.call("ListFilters")["filters"]
    session.say("", labelled("No. of Filters", len(filters)))
    for entry in filters:
        session.say(
            "",
            labelled("Rule Name", entry["rule"]),
            labelled("Policy Name", entry["policy"] or "NONE"),
            labelled("Action", entry["action"].upper()),
            labelled("Connection Type", (entry["interface"] or "ALL").upper()),
            labelled("Filter", entry["filter"]),
        )
    session.say("", "There are no security associations: nothing is encrypted here.")


def show_config(session: Session, _given: Given) -> None:
    """``show config``: what passes every filter."""
    exemptions = session.client.call("ListExemptions")["exemptions"]
    names = ", ".join(each["name"] for each in exemptions)
    session.say("", labelled("Exempt", names or "NONE"), labelled("Boot Mode", "rules in force"))


def show_stats(session: Session, _given: Given) -> None:
    """``show stats``: what each rule has matched."""
    for rule in session.client.call("Stats")["rules"]:
        session.say(
            "",
            labelled("Rule Name", rule["rule"]),
            labelled("Policy Name", rule["policy"] or "NONE"),
            labelled("Packets", rule["packets"]),
            labelled("Bytes", rule["bytes"]),
        )


def show_none(session: Session, _given: Given) -> None:
    """What there is none of where nothing is encrypted."""
    session.say("There are none: nothing is encrypted here.")


def _action(given: Given, tag: str) -> str:
    action = given.get(tag, "negotiate")
    if action == "negotiate":
        raise NotDoneHere(
            f"{tag}=negotiate, which is meant where nothing is said, asks for encryption: this "
            "system blocks and permits and does not encrypt",
            f"write {tag}=block or {tag}=permit",
        )
    return action


def _ways(flt: SharedFilter) -> dict[str, SharedFilter]:
    """The filter as it is for each direction, as seen by this host, which is on one side of it."""
    from_me = flt.source.address is Keyword.ME
    if from_me is (flt.destination.address is Keyword.ME):
        raise NotDoneHere(
            "actions that differ need this host on one side", "write srcaddr=me or dstaddr=me"
        )
    there = replace(flt, mirrored=False)
    back = replace(there, source=flt.destination, destination=flt.source)
    ways = {"outbound": there} if from_me else {"inbound": there}
    if flt.mirrored:
        ways |= {"inbound": back} if from_me else {"outbound": back}
    return ways
