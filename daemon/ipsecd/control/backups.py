"""Owns the methods that make a backup of this host, and restore one."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from ipsecd.control.list_changes import lists_differences
from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.replies import of_this_host, outcome
from ipsecd.control.restored_rules import names_of_rules, restored_rules, texts_of
from ipsecd.control.stored_differences import policy_in, stored_differences
from ipsecd.control.what_if import add_verdicts
from ipsecd.engine import Engine
from ipsecd.engine.confirmation import Part
from ipsecd.engine.lists import ListChanges
from ipsecd.errors import InvalidInput, Refused
from ipsecd.language.expectations import must_be_met
from ipsecd.quoting import count, quote
from ipsecd.sources.backups import MAX_BYTES, Backup, ListParts, check_member, pack, unpack
from ipsecd.sources.names import dns_names_of
from ipsecd.sources.reading import SHARED, Loaded
from ipsecd.sources.unconfirmed import PoliciesBefore

MAX_BACKUP_BYTES = MAX_BYTES
"""How long the document of a restore may be."""


def _get_backup(engine: Engine, _: Request) -> dict[str, Any]:
    loaded, store = engine.loaded, engine.kept_lists.store
    if loaded.assigned_error:
        raise Refused(
            f"the policy that is assigned cannot be used: {loaded.assigned_error.message}",
            "mend it first: what is restored is in force at once",
        )
    for name, stored in loaded.policies.items():
        _check_path(stored.path)
        if not engine.is_on_disk(name):
            raise Refused(
                f"{engine.path_of(name)!r} was edited since it was loaded",
                "look at it, and run: ipsecctl reload",
            )
    if loaded.shared and not engine.holds_on_disk(SHARED, loaded.shared.text):
        raise Refused(
            f"{str(engine.policy_directory / SHARED)!r} was edited since it was loaded",
            "look at it, and run: ipsecctl reload",
        )
    lists = {
        name: ListParts(
            store.parts_of(name).current_file(each),
            each.feed,
            each.added,
            name in engine.kept_lists.counted,
        )
        for name, each in store.lists.items()
    }
    policies = {stored.path: stored.text for stored in loaded.policies.values()}
    dynamic, shared = texts_of(engine), loaded.shared.text if loaded.shared else None
    archive = pack(Backup(policies, loaded.assigned_path, lists, dynamic, shared))
    broken = [f"it is not in the backup: {file.error.message}" for file in loaded.broken]
    problems = [
        f"list {quote(name)}: {problem}"
        for name, each in store.lists.items()
        for problem in each.problems
    ]
    return {
        "archive": b64encode(archive).decode("ascii"),
        "policies": len(policies),
        "lists": len(lists),
        "dynamic_rules": len(dynamic),
        "warnings": [*broken, *problems],
    }


def _check_path(path: str) -> None:
    try:
        check_member(path)
    except ValueError as error:
        raise Refused(f"the policy file {quote(path)} cannot be in it: {error}", "rename it") from (
            error
        )


def _restore(engine: Engine, request: Request) -> dict[str, Any]:
    backup = _backup(request)
    before = engine.loaded
    earlier, content = _policies(engine, backup)
    lists = engine.restoring.lists(backup.lists)
    changes = lists.change.changes if lists else {}
    dynamic = restored_rules(engine, backup, request)
    counted = frozenset(name for name, each in backup.lists.items() if each.counted)
    counts = counted != engine.kept_lists.counted
    lines = [
        *stored_differences(before, content),
        *lists_differences(engine, changes),
        *_of_counting(engine, backup, counted),
        *dynamic.lines,
    ]
    lasts = earlier.texts or earlier.link != before.link or lists or engine.assigned_is_not_in_force
    if not lasts and not dynamic.rules and not counts:
        message = "all is as it is in the backup, and nothing has changed"
        reply = outcome(engine, message, changed=False)
        reply["outcome"]["warnings"] += dynamic.warnings
        return of_this_host(engine, reply)
    if dynamic.rules and request.caller.options.confirm_s is not None:
        raise Refused(
            "policies and dynamic rules together cannot be put back as they were",
            "restore it without --confirm, or without --dynamic",
        )
    if request["dry_run"]:
        reply = _would_be(engine, request, content, changes, lines)
        reply["outcome"]["warnings"] += dynamic.warnings
        return reply
    # What cannot be counted is found out before anything lasts.
    with engine.kept_lists.counting_also(counted):
        if lasts:
            engine.restore(earlier, request.names, request.tell, lists)
    for name in changes:
        engine.kept_lists.feeds.forget(name)
    engine.kept_lists.count(counted)
    # What lasts is in force: what of the rest cannot be is told, and is no reason to go back.
    changed = dynamic.put_in_force(engine) or bool(lasts or counts)
    message = f"the backup is restored: {_sizes(backup)}"
    reply = outcome(engine, message, changed=changed, changes=lines, warns=True)
    reply["outcome"]["warnings"] += dynamic.warnings
    return of_this_host(engine, reply)


def _would_be(
    engine: Engine, request: Request, content: Loaded, changes: ListChanges, lines: list[str]
) -> dict[str, Any]:
    """What a dry run says."""
    assigned = policy_in(content, content.assigned) if content.assigned else None
    if assigned:
        must_be_met(assigned)
    reply = outcome(engine, "the backup would be restored", changes=lines)
    if changes:
        reply["outcome"]["warnings"].append(
            "which packets are decided differently is not said, because lists change too"
        )
    else:
        add_verdicts(engine, assigned, request.names, reply["outcome"])
    return of_this_host(engine, reply)


def _backup(request: Request) -> Backup:
    return unpack(request.text, request["source"] or "<document>")


def _policies(engine: Engine, backup: Backup) -> tuple[PoliciesBefore, Loaded]:
    """The policy files that are others than those of now, and all that the store would hold.

    Raises ``InvalidInput`` if they could not all be used.
    """
    loaded = engine.loaded
    now, then = loaded.texts, backup.texts
    paths = sorted(now.keys() | then.keys())
    texts = {path: then.get(path) for path in paths if then.get(path) != now.get(path)}
    # A link may lead to the same file in other words.
    link = loaded.link if loaded.assigned_path == backup.assigned else backup.assigned
    earlier = PoliciesBefore(texts, link, complete=True)
    content = engine.content_with(earlier)
    broken = [file.error for file in content.broken if file.path in texts]
    if error := next(iter(broken), content.assigned_error):
        raise InvalidInput(
            f"a file in the backup cannot be used: {error.message}", "nothing has changed"
        )
    if len(content.policies) < len(backup.policies):
        raise InvalidInput(
            "two policy files in the backup hold policies of one name", "nothing has changed"
        )
    return earlier, content


def _of_counting(engine: Engine, backup: Backup, counted: frozenset[str]) -> list[str]:
    """Which lists count from then on, and which do so no more, a line each."""
    before = engine.kept_lists.counted
    lines = [f"~ list {quote(name)}: counts what each entry matches" for name in counted - before]
    no_more = (before - counted) & backup.lists.keys()
    lines += [f"~ list {quote(name)}: counts no more, and forgets its counts" for name in no_more]
    return sorted(lines)


def _sizes(backup: Backup) -> str:
    policies, lists = count(len(backup.policies), "policy"), count(len(backup.lists), "list")
    return f"{policies}, {lists}"


def _names_of_backup(engine: Engine, request: Request) -> frozenset[str]:
    backup = _backup(request)
    earlier, content = _policies(engine, backup)
    changed = [
        stored.policy
        for name, stored in content.policies.items()
        if stored.path in earlier.texts or name == content.assigned
    ]
    return names_of_rules(backup, request).union(*map(dns_names_of, changed))


METHODS = (
    # In the line of changes, so that policies and lists are those of one moment.
    Method("GetBackup", Role.SAVE, Work.CHANGE, _get_backup),
    Method(
        "Restore",
        Role.CHANGE,
        Work.CHANGE,
        _restore,
        names=_names_of_backup,
        keeps_names=True,
        takes_document=True,
        takes_backup=True,
        tells_progress=True,
        part=Part.POLICIES | Part.LISTS,
    ),
)
