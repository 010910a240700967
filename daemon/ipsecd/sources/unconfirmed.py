"""Owns the file about a change that nobody has confirmed yet, with what to put back if nobody does.

It is on disk before the change is made, and deleted when it is confirmed or put back. So whatever
happens in between, the next daemon knows what was before. It names the boot, because its deadline
is by a clock that starts anew with each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ipsecd.errors import IpsecdError, NotFound, StoreFailed
from ipsecd.sources.checked import CheckedFile, Form
from ipsecd.sources.files import MAX_OWN_FILE_BYTES, Disk
from ipsecd.sources.lists_before import ListFacts, ListsBefore, facts_from_json, lists_to_json
from ipsecd.sources.reading import (
    SHARED,
    BrokenFile,
    Loaded,
    StoredPolicy,
    path_of_link,
    stored_shared,
)
from ipsecd.sources.record_file import Record
from ipsecd.sources.remembered import PolicyReader
from ipsecd.sources.strict_json import decode, flag, integer, members, number, text

LoadLists = Callable[[Mapping[str, ListFacts]], ListsBefore]
NAME = "unconfirmed"
FORM = Form(
    NAME,
    1,
    MAX_OWN_FILE_BYTES,
    "what is in force stays; look at it with: ipsecctl show; then delete the file",
)
_TEXTS = ("boot", "login", "user", "by", "terminal", "method", "message")


@dataclass(frozen=True, slots=True)
class PoliciesBefore:
    """The files before a change: their texts by path, None for a file that was not there.

    They are those of policies, and the one of shared filters.

    ``link`` is where the assigned link led. Until it is known which files the change wrote, these
    are all files, and the change is not ``complete``: files that are not named here are new then.
    """

    texts: Mapping[str, str | None]
    link: str | None
    complete: bool = False

    @classmethod
    def of(cls, loaded: Loaded) -> PoliciesBefore:
        """All files of `loaded`."""
        return cls(loaded.texts, loaded.link)

    def narrowed(self, after: Loaded) -> PoliciesBefore:
        """Only those files that are others in what the store holds `after` the change."""
        now = after.texts
        paths = self.texts.keys() | now.keys()
        texts = {
            path: self.texts.get(path) for path in paths if self.texts.get(path) != now.get(path)
        }
        return PoliciesBefore(texts, self.link, complete=True)

    def over(self, loaded: Loaded, directory: Path, reader: PolicyReader) -> Loaded:
        """What the store holds once these files are in it again, in the place of `loaded`."""
        paths = self.paths_over(loaded.texts)
        policies = {
            name: stored for name, stored in loaded.policies.items() if stored.path not in paths
        }
        broken = []
        shared = None if SHARED in paths else loaded.shared
        for path in sorted(paths):
            content = self.texts.get(path)
            if content is None:
                continue
            if path == SHARED:
                stored = stored_shared(directory, content, reader)
                if isinstance(stored, BrokenFile):
                    broken.append(stored)
                else:
                    shared = stored
                continue
            try:
                policy = reader.read(content, str(directory / path))
            except IpsecdError as error:
                broken.append(BrokenFile(path, error))
            else:
                policies[policy.name] = StoredPolicy(policy, path, content)
        target = path_of_link(directory, self.link)
        assigned = next((n for n, stored in policies.items() if stored.path == target), None)
        after = loaded.mended(paths)
        reason = None
        if target is not None and assigned is None:
            of_target = (file.error for file in (*broken, *after.broken) if file.path == target)
            reason = next(of_target, loaded.assigned_error) or NotFound(
                f"policy file {str(directory / target)!r}, which was assigned, is not there",
                "put it there again, or run: ipsecctl policy assign NAME",
            )
        return replace(
            after,
            policies=dict(sorted(policies.items())),
            broken=tuple(sorted((*after.broken, *broken), key=lambda file: file.path)),
            link=self.link,
            assigned_path=target,
            assigned=assigned,
            assigned_error=reason,
            shared=shared,
        )

    def had_in_force(self, document: str | None, loaded: Loaded, directory: Path) -> bool:
        """Whether a policy with this document may have been in force before the change.

        `loaded` is what the store holds. If the change has touched neither which policy is assigned
        nor the file of that, the last good one is from before.
        """
        target = path_of_link(directory, self.link)
        if target is None or document is None:
            return False
        now = loaded.texts.get(target)
        if document == self.texts.get(target, now):
            return True
        is_written = target in self.texts and (self.complete or self.texts[target] != now)
        return self.link == loaded.link and not is_written

    def paths_over(self, present: Iterable[str]) -> frozenset[str]:
        """The files to put back, where the files `present` are there."""
        named = frozenset(self.texts)
        return named if self.complete else named | frozenset(present)


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """A change that nobody has confirmed: who made it, until when, and what was before.

    ``deadline`` is in seconds since ``boot``. ``login`` tells logins apart; it is empty where they
    cannot be told. ``uid`` owns the ``terminal``, unless root does. ``policies`` is None if no
    policy was to be changed; ``dynamic`` are the records of dynamic rules and quarantines before,
    likewise, and ``put`` those after the change, None as long as that is not known. ``lists`` is
    what it changes in lists, None if that is nothing.
    """

    boot: str
    deadline: float
    login: str
    uid: int
    user: str
    by: str
    terminal: str
    method: str
    message: str
    policies: PoliciesBefore | None = None
    dynamic: Mapping[str, Record] | None = None
    put: Mapping[str, Record] | None = None
    lists: ListsBefore | None = None


class UnconfirmedFile:
    """The file, replaced as a whole."""

    def __init__(self, state_dir: Path, load_lists: LoadLists, disk: Disk | None = None) -> None:
        """`load_lists` adds what was kept of lists to what the file says of them."""
        self._path = state_dir / NAME
        self._load_lists = load_lists
        self._disk = disk or Disk()
        self._file = CheckedFile(self._path, FORM, disk)

    def load(self) -> Unconfirmed | None:
        """The change that was not confirmed; None if there is none.

        Raises ``StoreFailed``.
        """
        return self._file.load(lambda content: _read(content, self._load_lists))

    def save(self, unconfirmed: Unconfirmed) -> None:
        """Keep a change; it is on disk when this returns. Raises ``StoreFailed``."""
        self._file.save(_content(unconfirmed))

    def delete(self) -> None:
        """Forget the change for good; raises ``StoreFailed``."""
        try:
            self._disk.unlink(self._path)
            self._disk.sync_directory(self._path.parent)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreFailed(
                f"{str(self._path)!r} cannot be deleted: {error.strerror}",
                "look at the mount options and the owner of the directory",
            ) from error


def _content(unconfirmed: Unconfirmed) -> bytes:
    policies = unconfirmed.policies
    return json.dumps(
        {
            **{key: getattr(unconfirmed, key) for key in _TEXTS},
            "deadline": unconfirmed.deadline,
            "uid": unconfirmed.uid,
            "policies": policies
            and {
                "texts": dict(policies.texts),
                "link": policies.link,
                "complete": policies.complete,
            },
            "dynamic": _records(unconfirmed.dynamic),
            "put": _records(unconfirmed.put),
            # An older daemon knows no such member, and can read all changes that do without it.
            **({"lists": lists_to_json(unconfirmed.lists)} if unconfirmed.lists else {}),
        },
        separators=(",", ":"),
    ).encode()


def _records(records: Mapping[str, Record] | None) -> object:
    return None if records is None else {key: dict(value) for key, value in records.items()}


def _read(content: bytes, load_lists: LoadLists) -> Unconfirmed:
    """The inverse of ``_content``; raises ``ValueError`` or ``IpsecdError``."""
    keys = (*_TEXTS, "deadline", "uid", "policies", "dynamic", "put", "lists")
    facts = members({"lists": None, **members(decode(content), "the change")}, "the change", keys)
    texts = {key: text(facts[key], key) for key in _TEXTS}
    return Unconfirmed(
        **texts,
        deadline=number(facts["deadline"], "the deadline"),
        uid=integer(facts["uid"], "the user", 0, (1 << 32) - 1),
        policies=_read_policies(facts["policies"]),
        dynamic=_read_records(facts["dynamic"]),
        put=_read_records(facts["put"]),
        lists=None if facts["lists"] is None else load_lists(facts_from_json(facts["lists"])),
    )


def _read_policies(given: object) -> PoliciesBefore | None:
    if given is None:
        return None
    facts = members(given, "the policies", ("texts", "link", "complete"))
    texts = {
        path: None if content is None else text(content, path)
        for path, content in members(facts["texts"], "the texts").items()
    }
    link = None if facts["link"] is None else text(facts["link"], "the link")
    return PoliciesBefore(texts, link, flag(facts["complete"], "whether it is complete"))


def _read_records(given: object) -> dict[str, Record] | None:
    if given is None:
        return None
    return {key: members(value, key) for key, value in members(given, "the rules").items()}
