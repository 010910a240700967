"""Owns what the commands on rules do; must not know how they are written."""

from __future__ import annotations

from dataclasses import replace

from ipsecctl.netsh.draft_values import RuleDraft
from ipsecctl.netsh.failing import EXISTS, AsWanted, NotDoneHere
from ipsecctl.netsh.session import Session
from ipsecctl.netsh.words import Given
from ipsecd.model.kinds import ALWAYS, Conditions, InterfaceType
from ipsecd.quoting import quote

CONDITIONS = {
    "all": ALWAYS,
    "lan": Conditions(InterfaceType.LAN),
    "dialup": Conditions(InterfaceType.DIALUP),
}
"""What ``conntype=`` says."""


def add(session: Session, given: Given) -> None:
    """``add rule``: of a policy, a filter list and a filter action that are there."""
    drafts = session.drafts
    policy = drafts.policy(given["policy"])
    filter_list = drafts.list_of(given["filterlist"])
    action = drafts.action(given["filteraction"])
    rule = RuleDraft(
        given["name"],
        filter_list.name,
        action.name,
        CONDITIONS[given.get("conntype", "all")],
        given.get("description", ""),
        given.says("activate", "yes"),
    )
    there = policy.rules.get(rule.name)
    if there is not None and replace(rule, rule=there.rule, description=there.description) == there:
        raise AsWanted("this rule exists already", f"rule {quote(rule.name)} is so", EXISTS)
    drafts.put_rule(policy, rule)


def change(session: Session, given: Given) -> None:
    """``set rule``: whatever is given of it."""
    drafts = session.drafts
    policy = drafts.policy(given["policy"])
    before = drafts.rule(policy, given["name"])
    rule = replace(before, name=given.get("newname", before.name))
    if "filterlist" in given:
        rule.filter_list = drafts.list_of(given["filterlist"]).name
    if "filteraction" in given:
        rule.filter_action = drafts.action(given["filteraction"]).name
    if "conntype" in given:
        rule.conditions = replace(
            before.conditions, interface=CONDITIONS[given["conntype"]].interface
        )
    rule.description = given.get("description", before.description)
    if "activate" in given:
        rule.active = given.says("activate", "yes")
    drafts.put_rule(policy, rule, instead_of=before.name)


def change_default(session: Session, given: Given) -> None:
    """``set defaultrule``, which negotiates and so is always off here."""
    session.drafts.policy(given["policy"])
    if given.says("activate", "no"):
        raise NotDoneHere(
            "activate=yes of the default rule asks for encryption: this system blocks and permits "
            "and does not encrypt",
            "leave the line out: what no rule matches passes",
        )


def delete(session: Session, given: Given) -> None:
    """``delete rule``."""
    drafts = session.drafts
    policy = drafts.policy(given["policy"])
    for name in list(policy.rules) if given.is_all("name") else [given["name"]]:
        drafts.delete_rule(policy, name)
