"""A domain for tests of what an engine takes of it: what a process that verifies would say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ipsecd.config import Config
from ipsecd.config.domain import DomainSettings
from ipsecd.control import Control
from ipsecd.control.verdict import Question
from ipsecd.engine import Engine
from ipsecd.language.documents import format_policy
from ipsecd.language.filters import parse_filter
from ipsecd.model.lists import AddressList
from ipsecd.model.nearness import NO_LISTS
from ipsecd.model.packed_form import pack
from ipsecd.model.values import Action, Policy, Rule
from tests.engine.site import Site

PATH = "all/web.yaml"
LATER = "2100-01-01T00:00:00Z"


def policy(name: str, *texts: str) -> Policy:
    filters = tuple(parse_filter(text) for text in texts)
    return Policy(name, (Rule("R", filters, Action.BLOCK),))


def root(version: int = 1, *timestamp_keys: str) -> str:
    roles = {
        "root": {"keyids": ["a", "b", "c"], "threshold": 2},
        "timestamp": {"keyids": list(timestamp_keys or ("t",)), "threshold": 1},
    }
    return json.dumps({"signed": {"_type": "root", "version": version, "roles": roles}})


def configured(site: Site, **settings: Any) -> Engine:
    """The site's engine anew, with a domain."""
    domain = DomainSettings("file:///srv/fleet", host="web1", **settings)
    site.config = Config(limits=site.config.limits, domain=domain)
    return site.again()


def answer(outcome: str = "policy", **changes: Any) -> dict[str, Any]:
    """What a process that verifies says of a bundle."""
    said = {
        "outcome": outcome,
        "reason": "",
        "hint": "",
        "path": "",
        "sha256": "",
        "version": 1,
        "expires": LATER,
        "interval_s": None,
        "why": "it is for all hosts",
        "lists": {},
        "trusted": {"root.json": root(), "timestamp.json": "{}"},
    }
    return said | changes


def bundle(
    document: str | None = None, path: str = PATH, lists: Mapping[str, AddressList] = NO_LISTS
) -> bytes:
    targets = {} if document is None else {path: document}
    files: dict[str, Any] = {"metadata": {}, "targets": targets}
    contents = {digest_of(addresses): pack(addresses) for addresses in lists.values()}
    if contents:
        files["lists"] = {digest: len(content) for digest, content in contents.items()}
    line = json.dumps(files).encode()
    return b"\n".join([line, b"".join(contents.values())]) if contents else line


def digest_of(addresses: AddressList) -> str:
    """The digest that a list is signed by."""
    return hashlib.sha256(pack(addresses)).hexdigest()


def digests(lists: Mapping[str, AddressList]) -> dict[str, str]:
    """What a process that verifies says of lists."""
    return {name: digest_of(addresses) for name, addresses in lists.items()}


def call(engine: Engine, method: str, **parameters: Any) -> dict[str, Any]:
    return Control(engine).call(method, parameters, "uid 0", {}, None)


def take(engine: Engine, files: bytes, said: dict[str, Any], **parameters: Any) -> dict[str, Any]:
    """Have the engine take a bundle, as the service does with what the process said."""
    control = Control(engine)
    question = control.question_about(files)
    question.text()
    verdict = question.verdict(json.dumps(said).encode())
    given = {"refresh": 0, **parameters, "source": verdict.path, "verdict": verdict}
    control.names_needed("TakeDomain", given, verdict.document)
    names = given.pop("names", {})
    outcome: dict[str, Any] = control.call("TakeDomain", given, "uid 0", names, verdict.document)[
        "outcome"
    ]
    return outcome


def publish(
    engine: Engine,
    what: Policy | str,
    version: int = 1,
    lists: Mapping[str, AddressList] = NO_LISTS,
    **parameters: Any,
) -> dict[str, Any]:
    """Have the engine take a policy with the lists that it carries, trusting the domain."""
    trust(engine)
    document = what if isinstance(what, str) else format_policy(what)
    sha256 = hashlib.sha256(document.encode()).hexdigest()
    said = answer(path=PATH, sha256=sha256, version=version, lists=digests(lists))
    return take(engine, bundle(document, lists=lists), said, **parameters)


def withdraw(engine: Engine, version: int = 9) -> dict[str, Any]:
    return take(engine, bundle(), answer("withdrawn", version=version))


def trust(engine: Engine) -> None:
    if not engine.domain.trusted:
        call(engine, "TrustDomain", root=root())


def question(engine: Engine, files: bytes) -> Question:
    return Control(engine).question_about(files)
