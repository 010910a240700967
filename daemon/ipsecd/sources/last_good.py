"""Owns the last good policy on disk: all that boot needs to put in force again what was in force.

The file holds the policy as people wrote it, the addresses of its DNS names, and its classifier.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ipsecd.compiler.classifier import Classifier, Table
from ipsecd.compiler.stored import from_stored, to_stored
from ipsecd.language.filters import format_filter, parse_filter
from ipsecd.model.protected_filters import BY_SETTINGS, in_force, protected_filter
from ipsecd.model.values import Filter, InForce, Origin, Policy, Store
from ipsecd.sources.checked import CheckedFile, Form
from ipsecd.sources.files import MAX_OWN_FILE_BYTES, Disk
from ipsecd.sources.names import policy_with_addresses
from ipsecd.sources.names_file import Names, names_from_json, names_to_json
from ipsecd.sources.remembered import PolicyReader
from ipsecd.sources.strict_json import decode, items, members, text

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
    ``store`` is where the policy is from. ``protected`` are the filters that the settings protect,
    which the classifier has too.
    """

    key: str
    policy: Policy | None
    classifier: Classifier
    document: str | None = None
    store: Store = Store.STATIC
    protected: tuple[Filter, ...] = ()

    @property
    def protected_in_force(self) -> tuple[InForce, ...]:
        """The filters that the settings protect, as they are in force."""
        return in_force(self.protected)


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
    header: dict[str, object] = {
        "key": compiled.key,
        "document": compiled.document,
        "names": names_to_json(names).decode(),
        "store": compiled.store.value,
    }
    if compiled.protected:
        header["protected"] = [format_filter(each) for each in compiled.protected]
    return json.dumps(header, ensure_ascii=False).encode() + b"\n" + to_stored(compiled.classifier)


def decode_last_good(content: bytes, reader: PolicyReader) -> CompiledPolicy:
    """The inverse of ``encode_last_good``; raises ``ValueError`` or ``IpsecdError``."""
    line, _, classifier_bytes = content.partition(b"\n")
    # Before there were domains every policy was a static one. Most hosts protect no filters.
    header = {
        "store": Store.STATIC.value,
        "protected": [],
        **members(decode(line), "the header"),
    }
    header = members(header, "the header", ("key", "document", "names", "store", "protected"))
    store = Store(text(header["store"], "the store"))
    if store not in (Store.STATIC, Store.DOMAIN):
        raise ValueError(f"no policy is from the store {store.value}")
    names = names_from_json(text(header["names"], "names").encode())
    policy = document = None
    if header["document"] is not None:
        document = text(header["document"], "the document")
        policy = policy_with_addresses(reader.read(document, "<document>"), names)
    classifier = from_stored(classifier_bytes)
    rules = policy.facts.actions.items() if policy else ()
    name = policy.name if policy else ""
    origins = {Origin.of(store, name, rule, action) for rule, action in rules}
    protected = tuple(
        protected_filter(parse_filter(text(each, "a protected filter")))
        for each in items(header["protected"], "protected filters")
    )
    if protected:
        origins.add(BY_SETTINGS)
    if not classifier.origins <= origins or not all(map(_is_of_origins, classifier.tables)):
        raise ValueError("the compiled policy has rules that the document does not have")
    key = text(header["key"], "the key")
    return CompiledPolicy(key, policy, classifier, document, store, protected)


def _is_of_origins(table: Table) -> bool:
    """Whether a table is as policies, or protected filters, make it."""
    are_protected = {origin.protected for origin in table.origins}
    return not table.id.volatile and are_protected == {table.id.protected}
