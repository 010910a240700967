"""Owns what the commands on filter lists, filters and filter actions do.

Must not know how they are written.
"""

from __future__ import annotations

from dataclasses import replace

from ipsecctl.netsh.failing import Conflict, NotDoneHere
from ipsecctl.netsh.filters import Agreement, filter_of
from ipsecctl.netsh.session import Session
from ipsecctl.netsh.words import Given
from ipsecd.model.kinds import Action
from ipsecd.model.shared_filters import FilterAction, FilterList


def add_list(session: Session, given: Given) -> None:
    """``add filterlist``, which is empty."""
    session.drafts.add_list(given["name"], given.get("description", ""))


def add_filter(session: Session, given: Given) -> None:
    """``add filter``; the list is created if there is none."""
    flt = filter_of(given, session.note, session.find)
    name, drafts = given["filterlist"], session.drafts
    (drafts.list_of(name) if drafts.has_list(name) else drafts.add_list(name)).add(flt)


def add_action(session: Session, given: Given) -> None:
    """``add filteraction``, which must say what it does."""
    action = FilterAction(given["name"], _action(given), given.get("description", ""))
    session.drafts.add_action(action)


def change_list(session: Session, given: Given) -> None:
    """``set filterlist``: another name or description."""
    drafts = session.drafts
    draft = drafts.list_of(given["name"])
    described = FilterList(draft.name, given.get("description", draft.description))
    drafts.rename_list(draft, given.get("newname", draft.name))
    draft.description = described.description


def change_action(session: Session, given: Given) -> None:
    """``set filteraction``: another name, description or action."""
    drafts = session.drafts
    before = drafts.action(given["name"])
    now = FilterAction(
        before.name,
        _action(given) if "action" in given else before.action,
        given.get("description", before.description),
    )
    name = given.get("newname", before.name)
    if name != before.name:
        drafts.rename_action(now, replace(now, name=name).name)
    else:
        drafts.put_action(now)


def delete_list(session: Session, given: Given) -> None:
    """``delete filterlist``, of which no rule is made."""
    drafts = session.drafts
    drafts.delete_lists(drafts.list_names() if given.is_all("name") else [given["name"]])


def delete_action(session: Session, given: Given) -> None:
    """``delete filteraction``, of which no rule is made."""
    drafts = session.drafts
    drafts.delete_actions(drafts.action_names() if given.is_all("name") else [given["name"]])


def delete_filter(session: Session, given: Given) -> None:
    """``delete filter``: every filter that agrees in all that is given."""
    draft = session.drafts.list_of(given["filterlist"])
    if not draft.remove(Agreement(given, session.note, session.find)):
        raise Conflict(
            "no such filter is in the list",
            "a filter is found by all that is given, so its mask must be that of the list",
        )


def _action(given: Given) -> Action:
    asked = given.get("action", "negotiate")
    if asked == "negotiate":
        said = "action=negotiate asks" if "action" in given else "without action= it asks"
        raise NotDoneHere(
            f"{said} for encryption: this system blocks and permits and does not encrypt",
            "write action=block or action=permit",
        )
    return Action(asked)
