"""Owns the last good policy on disk: all that boot needs to put in force again what was in force.

The file holds the policy as people wrote it, the addresses of its DNS names, and its classifier.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.stored import from_stored, to_stored
from ipsecd.model.values import Origin, Policy, Store
from ipsecd.sources.checked import CheckedFile, Form
from ipsecd.sources.files import MAX_OWN_FILE_BYTES, Disk
from ipsecd.sources.names import policy_with_addresses
from ipsecd.sources.names_file import Names, names_from_json, names_to_json
from ipsecd.sources.remembered import PolicyReader
from ipsecd.sources.strict_json import decode, members, text

FORM = Form(
    "last-good",
    1,
    MAX_OWN_FILE_BYTES,
    "nothing need be done if the assigned policy is in force: it is written again then",
)


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """A policy with its document and classifier.

    ``key`` differs if it was compiled from another document, or with other settings or addresses.
    ``store`` is where the policy is from.
    """

    key: str
    policy: Policy | None
    classifier: Classifier
    document: str | None = None
    store: Store = Store.STATIC


class LastGood:
    """The file, which is always replaced as a whole."""

    def __init__(self, state_dir: Path, disk: Disk | None = None) -> None:
        self._path = state_dir / "last-good"
        self._file = CheckedFile(self._path, FORM, disk)

    def is_there(self) -> bool:
        """Whether the file exists."""
        return self._path.exists()

    def check(self, content: bytes) -> None:
        """Raise ``LimitExceeded`` if `content` is too large to be read again."""
        self._file.check(content)

    def save(self, content: bytes) -> None:
        """Save what ``encode_last_good`` made; raises ``StoreFailed``, or ``LimitExceeded``."""
        self._file.save(content)

    def load(self, reader: PolicyReader) -> CompiledPolicy | None:
        """What was saved last, None if nothing was; raises ``StoreFailed`` if it cannot be used."""
        return self._file.load(lambda content: decode_last_good(content, reader))


def encode_last_good(compiled: CompiledPolicy, names: Names) -> bytes:
    """A compiled policy as bytes, with the addresses of the DNS names that it uses."""
    header = {
        "key": compiled.key,
        "document": compiled.document,
        "names": names_to_json(names).decode(),
        "store": compiled.store.value,
    }
    return json.dumps(header, ensure_ascii=False).encode() + b"\n" + to_stored(compiled.classifier)


def decode_last_good(content: bytes, reader: PolicyReader) -> CompiledPolicy:
    """The inverse of ``encode_last_good``; raises ``ValueError`` or ``IpsecdError``."""
    line, _, classifier_bytes = content.partition(b"\n")
    # Before there were domains every policy was a static one.
    header = {"store": Store.STATIC.value, **members(decode(line), "the header")}
    header = members(header, "the header", ("key", "document", "names", "store"))
    store = Store(text(header["store"], "the store"))
    names = names_from_json(text(header["names"], "names").encode())
    policy = document = None
    if header["document"] is not None:
        document = text(header["document"], "the document")
        policy = policy_with_addresses(reader.read(document, "<document>"), names)
    classifier = from_stored(classifier_bytes)
    name, rules = (policy.name, policy.facts.actions) if policy else ("", ())
    origins = {Origin(store.value, name, rule) for rule in rules}
    if not classifier.origins <= origins or any(table.id.volatile for table in classifier.tables):
        raise ValueError("the compiled policy has rules that the document does not have")
    return CompiledPolicy(text(header["key"], "the key"), policy, classifier, document, store)
