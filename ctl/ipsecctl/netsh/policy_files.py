"""Owns ``exportpolicy`` and ``importpolicy``: all policies with their lists and actions, as text.

The file is YAML documents one after the other: the filter lists and filter actions, then each
policy. Must not know how the commands are written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ipsecctl.netsh.draft_values import ListDraft
from ipsecctl.netsh.failing import NOT_UNDERSTOOD, Conflict, Failure, NotDoneHere
from ipsecctl.netsh.reading import content_of
from ipsecctl.netsh.session import Session
from ipsecctl.netsh.words import Given
from ipsecctl.workspace.workspace import Workspace
from ipsecd.errors import InvalidInput
from ipsecd.language.documents import MAX_BYTES, format_policy, parse_policy
from ipsecd.language.shared_filters import expanded, format_shared_filters, parse_shared_filters
from ipsecd.model.shared_filters import FilterList, SharedFilters
from ipsecd.model.values import Filter, Policy
from ipsecd.quoting import quote_path

_HEAD = "# What 'netsh ipsec static exportpolicy' writes, and importpolicy reads.\n"
_BETWEEN = "---\n"


def export_policies(session: Session, given: Given) -> None:
    """``exportpolicy``: what there is now, written once everything is in force."""
    session.settle()
    workspace = session.workspace
    shared = _without_address_lists(workspace)
    filters = {name: expanded(each) for name, each in shared.lists.items()}
    documents = [format_shared_filters(shared)]
    documents += [
        format_policy(_with_filters(workspace.policy(name), filters)) for name in workspace.names()
    ]
    text = _HEAD + _BETWEEN.join(documents)
    path = Path(given["file"])
    if not path.parent.is_dir():
        raise Conflict(
            "the directory of the file does not exist", f"create {quote_path(str(path.parent))}"
        )
    session.afterwards.append(lambda: _write(path, text))


def _without_address_lists(workspace: Workspace) -> SharedFilters:
    """The filter lists with every filter of their own, also those that lists of addresses hold."""
    drafts = (ListDraft.of(each, workspace.lists) for each in workspace.shared.lists.values())
    lists = (FilterList(each.name, each.description, (*each.all_filters(),)) for each in drafts)
    return SharedFilters.of(lists, workspace.shared.actions.values())


def _with_filters(policy: Policy, filters: Mapping[str, tuple[Filter, ...]]) -> Policy:
    """The policy whose rules have the filters of their filter lists."""
    rules, resting = (
        tuple(replace(rule, filters=filters.get(rule.filter_list, rule.filters)) for rule in each)
        for each in (policy.rules, policy.resting)
    )
    return policy.with_rules(rules, resting)


def import_policies(session: Session, given: Given) -> None:
    """``importpolicy``: policies, lists and actions take the place of those of the same names."""
    path = Path(given["file"])
    shared, policies = _read(path)
    drafts = session.drafts
    assigned = drafts.assigned
    for filter_list in shared.lists.values():
        drafts.put_list(filter_list)
    for action in shared.actions.values():
        drafts.put_action(action)
    for policy in policies:
        if policy.name in drafts.policy_names():
            drafts.delete_policy(policy.name)
        drafts.add_policy(policy)
    drafts.assigned = assigned


def _read(path: Path) -> tuple[SharedFilters, list[Policy]]:
    content = content_of(path, str(path), MAX_BYTES, Conflict)
    if b"\0" in content:
        raise NotDoneHere(
            "the file is binary, as exportpolicy of Windows writes it",
            "run here what made them there; 'netsh ipsec static show all' tells what they are",
        )
    name = str(path)
    try:
        text = content.decode("utf-8-sig")
        first, *others = text.removeprefix(_HEAD).split("\n" + _BETWEEN)
        shared = parse_shared_filters(first, name)
        return shared, [parse_policy(document, name) for document in others]
    except UnicodeDecodeError as error:
        raise Failure("the file is not UTF-8 text", "export it anew", NOT_UNDERSTOOD) from error
    except InvalidInput as error:
        raise Failure(
            f"the file is not one of exportpolicy: {error.message}",
            error.hint or "a single policy is stored with 'ipsecctl apply FILE'",
            NOT_UNDERSTOOD,
        ) from error


def _write(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise Failure(
            f"the file cannot be written: {error.strerror}",
            f"everything else was done; {quote_path(str(path))} was not written",
        ) from error
