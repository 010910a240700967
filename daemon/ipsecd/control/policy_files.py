"""Owns the methods about the file of one policy: what it holds, an edit, and taking that back."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.policies import document_of, names_of_document
from ipsecd.control.replies import of_this_host, outcome
from ipsecd.control.summary import summary
from ipsecd.engine import Engine
from ipsecd.engine.confirmation import Part
from ipsecd.engine.names import found
from ipsecd.errors import NotFound, Refused
from ipsecd.language.differences import Difference
from ipsecd.language.documents import parse_policy
from ipsecd.quoting import quote
from ipsecd.sources.history_rows import Manifest
from ipsecd.sources.names import dns_names_of
from ipsecd.sources.planning import Over, Written
from ipsecd.sources.reading import SHARED, SUFFIX


class _File(NamedTuple):
    """The file of a policy; ``policy`` is the name of that, None if it is not known."""

    path: str
    policy: str | None
    error: str | None


def _get_policy_file(engine: Engine, request: Request) -> dict[str, Any]:
    file = _file_of(engine, request["name"])
    content = engine.content_of(file.path)
    text = _text_of(file.path, content)
    stored = engine.loaded.policies.get(file.policy or "")
    if content is None and stored:
        text = stored.text
    return {
        "policy": file.policy,
        "path": str(engine.policy_directory / file.path),
        "text": text,
        "digest": _digest(content),
        "error": file.error,
    }


def _edit_policy(engine: Engine, request: Request) -> dict[str, Any]:
    file = _file_of(engine, request["name"])
    policy, text = document_of(request)
    if file.policy not in (None, policy.name):
        raise Refused(
            f"the document is policy {quote(policy.name)}, and the file is that of "
            f"{quote(file.policy or '')}",
            "leave the name as it is; to store a policy of another name: ipsecctl apply FILE",
        )
    stored = engine.loaded.policies.get(policy.name)
    if stored and stored.path != file.path:
        raise Refused(
            f"policy {quote(policy.name)} is in {stored.path!r} already", "choose another name"
        )
    content = engine.content_of(file.path)
    if _digest(content) != request["digest"]:
        raise Refused(
            f"{str(engine.policy_directory / file.path)!r} was changed while it was edited",
            "look at what it holds now, with: ipsecctl policy edit",
        )
    over = Over.UNUSABLE if content is None else Over.NOTHING
    base = None if content is None else _text_of(file.path, content)
    difference = Difference(stored.policy if stored else None, policy)
    written = [Written(policy, text, file.path, base, over)]
    engine.change(written=written, names=request.names, tell=request.tell)
    message = f"policy {policy.name!r} is stored{summary(difference)}"
    reply = outcome(engine, message, changes=difference.lines(), warns=True, stored=policy)
    return of_this_host(engine, reply)


class _Earlier(NamedTuple):
    """A document that a policy has had; ``words`` say when, and ``path`` is its file then."""

    text: str
    words: str
    path: str | None = None


def _restore_policy(engine: Engine, request: Request) -> dict[str, Any]:
    name = request["name"]
    earlier = _earlier(engine, name, request["state"])
    stored = engine.loaded.policies.get(name)
    policy = parse_policy(earlier.text)
    if stored and stored.text == earlier.text and engine.is_on_disk(name):
        message = f"the file of policy {name!r} holds {earlier.words}, and nothing has changed"
        return of_this_host(engine, outcome(engine, message, changed=False))
    difference = Difference(stored.policy if stored else None, policy)
    over = Over.ANYTHING
    written = [Written(policy, earlier.text, _path_to_restore(engine, name, earlier), None, over)]
    kept = engine.change(written=written, names=found(request.names), tell=request.tell)
    copies = "".join(f"\nwhat the file held is kept as {copy!r}" for copy in kept.copies)
    message = f"policy {name!r} is again {earlier.words}{copies}"
    reply = outcome(engine, message, changes=difference.lines(), warns=True, stored=policy)
    return of_this_host(engine, reply)


def _file_of(engine: Engine, name: str) -> _File:
    """The file of a policy, by the name of the policy, or of a file that cannot be used.

    Raises ``NotFound``, or ``Refused`` for a copy of another file.
    """
    stored = engine.loaded.policies.get(name)
    for file in engine.broken:
        policy = engine.loaded.owner_of(file, engine.state.stand_in)
        is_called_so = file.path.rpartition("/")[2] in (name, name + SUFFIX)
        if stored:
            is_it = file.path == stored.path
        elif file.is_copy and is_called_so:
            raise Refused(file.error.message, file.error.hint)
        else:
            is_it = is_called_so or (name == policy and not file.is_copy)
        if is_it:
            return _File(file.path, name if stored else policy, str(file.error))
    if stored is None:
        engine.stored(name)
    return _File(engine.loaded.policies[name].path, name, None)


def _path_to_restore(engine: Engine, name: str, earlier: _Earlier) -> str | None:
    """The file that is to hold the document; None for a new one."""
    try:
        return _file_of(engine, name).path
    except NotFound:
        paths = {stored.path for stored in engine.loaded.policies.values()}
        return None if earlier.path in paths else earlier.path


def _earlier(engine: Engine, name: str, state: int | None) -> _Earlier:
    """What a policy was: at a state of the history, or else when it was last loaded, or in force.

    Raises ``NotFound``.
    """
    if state is not None:
        earlier = _at(engine, name, state)
        if earlier is None:
            raise NotFound(f"there was no policy {quote(name)} at @{state}", "see ipsecctl history")
        return earlier
    if name in engine.loaded.policies:
        stored = engine.loaded.policies[name]
        return _Earlier(stored.text, "what was loaded last", stored.path)
    compiled = engine.state.compiled
    if name == engine.state.stand_in and compiled.document is not None:
        return _Earlier(compiled.document, "what was in force last")
    for states_ago in range(engine.history.states):
        if earlier := _at(engine, name, states_ago):
            return earlier
    raise NotFound(
        f"no document of policy {quote(name)} is kept",
        "ipsecctl policy list shows those there are; names are case-sensitive",
    )


def _at(engine: Engine, name: str, states_ago: int) -> _Earlier | None:
    files = engine.history.manifest(states_ago).files
    for path, (policy, digest) in files.items():
        if policy == name and path != SHARED:
            manifest = Manifest({path: (policy, digest)})
            (text,) = engine.history.documents(manifest, engine.moment).values()
            return _Earlier(text, f"what it was at @{states_ago}", path)
    return None


def _text_of(path: str, content: bytes | None) -> str:
    try:
        return (content or b"").decode()
    except UnicodeDecodeError as error:
        raise Refused(
            f"{Path(path).name!r} is not UTF-8 text, so it cannot be edited",
            "replace it, which keeps it beside, with: ipsecctl policy restore POLICY, or "
            "ipsecctl apply FILE",
        ) from error


def _digest(content: bytes | None) -> str:
    return "" if content is None else hashlib.sha256(content).hexdigest()


def _names_of_earlier(engine: Engine, request: Request) -> frozenset[str]:
    return dns_names_of(parse_policy(_earlier(engine, request["name"], request["state"]).text))


METHODS = (
    Method("GetPolicyFile", Role.VIEW, Work.LONG, _get_policy_file),
    Method(
        "EditPolicy",
        Role.CHANGE,
        Work.CHANGE,
        _edit_policy,
        names=names_of_document,
        takes_document=True,
        part=Part.POLICIES,
    ),
    Method(
        "RestorePolicy",
        Role.CHANGE,
        Work.CHANGE,
        _restore_policy,
        names=_names_of_earlier,
        keeps_names=True,
        part=Part.POLICIES,
    ),
)
