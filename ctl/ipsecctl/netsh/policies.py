"""Owns what the commands on policies and on the store do; must not know how they are written."""

from __future__ import annotations

from ipsecctl.netsh.failing import NotDoneHere
from ipsecctl.netsh.session import Session
from ipsecctl.netsh.words import Given
from ipsecd.model.values import Policy


def add(session: Session, given: Given) -> None:
    """``add policy``, which may assign it."""
    policy = Policy(given["name"], (), given.get("description", ""))
    session.drafts.add_policy(policy)
    if given.says("assign", "no"):
        session.drafts.assign(policy.name)


def change(session: Session, given: Given) -> None:
    """``set policy``: another name, another description, and whether it is assigned."""
    drafts = session.drafts
    policy = drafts.policy(given["name"])
    changed = Policy(given.get("newname", policy.name), (), given.get("description", ""))
    drafts.rename_policy(policy, changed.name)
    if "description" in given:
        policy.description, policy.changed = changed.description, True
    if "assign" not in given:
        return
    if given.says("assign", "no"):
        drafts.assign(policy.name)
    elif drafts.assigned == policy.name:
        drafts.assign(None)


def delete(session: Session, given: Given) -> None:
    """``delete policy``: with its rules; filter lists and filter actions stay."""
    drafts = session.drafts
    for name in drafts.policy_names() if given.is_all("name") else [given["name"]]:
        drafts.delete_policy(name)


def delete_all(session: Session, _given: Given) -> None:
    """``delete all``: policies, filter lists and filter actions."""
    session.drafts.delete_everything()


def set_store(_session: Session, given: Given) -> None:
    """``set store``, of which there is one."""
    if given["location"] != "local":
        raise NotDoneHere(
            f"location={given['location']} is not done here: policies are kept on this host",
            "the policy of a fleet comes from its repository, see 'ipsecctl domain'",
        )


def accept(_session: Session, _given: Given) -> None:
    """What needs nothing to be done here."""
