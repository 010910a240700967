"""Owns what is asked about a bundle of the domain, and what an answer says; must not ask itself.

The answer comes from a process that checks signatures. It is believed in these: what it says is of
the right form, the document and the lists have the digests that it names, and nothing is older than
what is here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from ipsecd.control.handed_over import lists_of, read_bundle
from ipsecd.errors import InvalidInput, Refused
from ipsecd.quoting import cut
from ipsecd.sources.domain import (
    LISTS,
    MAX_VERSION,
    Selection,
    Taken,
    digests_by_name,
    digests_of,
    texts_of,
    time_of,
)
from ipsecd.sources.domain_lists import DomainLists
from ipsecd.sources.reading import StoredPolicy
from ipsecd.sources.root import ROOT, Root, read_root
from ipsecd.sources.strict_json import decode, integer, members, number, text

MAX_WORDS = 2000
_AGAIN = "what is in force stays so; let the fetcher look again"


class Finding(Enum):
    """What a bundle comes to for this host."""

    POLICY = "policy"
    WITHDRAWN = "withdrawn"
    NOTHING = "nothing"
    """No policy is for this host, and none is withdrawn."""
    REFUSED = "refused"


@dataclass(frozen=True)
class Verdict:
    """The answer to a question, checked.

    ``digest`` is that of the policy's document, and ``document`` is None if this host has it.
    ``lists`` are those that the policy carries.
    """

    question: Question
    finding: Finding
    reason: str = ""
    hint: str = ""
    trusted: Mapping[str, str] = field(default_factory=dict)
    path: str = ""
    digest: str = ""
    document: bytes | None = None
    version: int = 0
    expires: str = ""
    interval_s: float | None = None
    why: str = ""
    lists: DomainLists = field(default_factory=dict)

    def taken(self, stored: StoredPolicy | None, now: float) -> Taken:
        """What is to be kept, with the policy `stored`; `now` is in seconds since the epoch."""
        before = self.question.taken
        was_withdrawn = before.withdrawn and stored is None
        is_withdrawn = self.finding is Finding.WITHDRAWN or (
            self.finding is Finding.NOTHING and was_withdrawn
        )
        lists = self._lists(stored)
        is_same = (
            stored is before.stored
            and is_withdrawn == before.withdrawn
            and digests_by_name(lists) == digests_by_name(before.lists)
        )
        return Taken(
            trusted=self.trusted,
            stored=stored,
            withdrawn=is_withdrawn,
            version=self.version,
            expires=self.expires,
            taken_at=before.taken_at if is_same else now,
            why=self.why,
            interval_s=self.interval_s,
            host=self.question.host,
            lists=lists,
        )

    def _lists(self, stored: StoredPolicy | None) -> DomainLists:
        """Those of the policy that is to be kept: they come and stay with it."""
        if self.finding is Finding.POLICY:
            return self.lists
        return self.question.taken.lists if stored else {}


@dataclass(frozen=True)
class Question:
    """A bundle, what this host trusts and has taken, and what it says of itself."""

    taken: Taken
    host: Selection
    bundle: bytes

    def text(self) -> bytes:
        """The question for the process that answers it; raises ``IpsecdError``."""
        if ROOT not in self.taken.trusted:
            raise Refused(
                "this host trusts no root of the domain yet",
                "run: ipsecctl domain trust REPO, where REPO is a copy that you trust",
            )
        asked = {
            "trusted": dict(self.taken.trusted),
            # Lists are not judged there: their digests are, and those are compared here.
            "bundle": {name: dict(texts) for name, texts in read_bundle(self.bundle).files.items()},
            "host": {
                "name": self.host.name,
                "groups": list(self.host.groups),
                "labels": dict(self.host.labels),
            },
        }
        return json.dumps(asked, ensure_ascii=False).encode()

    def verdict(self, answer: bytes) -> Verdict:
        """What `answer` says; raises ``Refused`` if it is none, or is not to be believed."""
        try:
            return self._verdict(answer)
        except (ValueError, InvalidInput) as error:
            raise Refused(f"what verifies the domain gave no verdict: {error}", _AGAIN) from error

    def _verdict(self, answer: bytes) -> Verdict:
        node = members(decode(answer), "the answer")
        finding = Finding(text(node.get("outcome"), "the outcome"))
        if finding is Finding.REFUSED:
            reason, hint = node.get("reason"), node.get("hint", "")
            return Verdict(self, finding, _words(reason, "the reason"), _words(hint, "the hint"))
        trusted = texts_of(node.get("trusted"), "the metadata")
        root = read_root(trusted.get(ROOT, ""))
        expires = text(node.get("expires"), "the end")
        time_of(expires)
        interval = node.get("interval_s")
        verdict = Verdict(
            self,
            finding,
            trusted=trusted,
            version=integer(node.get("version"), "the version", 1, MAX_VERSION),
            expires=expires,
            interval_s=None if interval is None else number(interval, "the interval"),
            why=_words(node.get("why"), "why"),
        )
        self._must_not_be_older(verdict, root)
        return self._with_document(verdict, node) if finding is Finding.POLICY else verdict

    def _with_document(self, verdict: Verdict, node: Mapping[str, object]) -> Verdict:
        path, digest = _words(node.get("path"), "the path"), text(node.get("sha256"), "the digest")
        handed_over = read_bundle(self.bundle)
        digests = digests_of(node.get(LISTS, {}))
        lists = lists_of(digests, handed_over, self.taken.lists, _AGAIN)
        verdict = replace(verdict, lists=lists)
        if digest == self.taken.digest and self.taken.stored and path == self.taken.stored.path:
            return replace(verdict, path=path, digest=digest)
        targets = handed_over.files["targets"]
        stored = self.taken.stored
        if path in targets:
            document = targets[path].encode()
        elif stored and digest == self.taken.digest:
            document = stored.text.encode()
        else:
            raise Refused(f"the policy {cut(path, 80)!r} was not handed over", _AGAIN)
        if hashlib.sha256(document).hexdigest() != digest:
            raise Refused(
                f"the policy {cut(path, 80)!r} has another digest than the one that is signed",
                _AGAIN,
            )
        return replace(verdict, path=path, digest=digest, document=document)

    def _must_not_be_older(self, verdict: Verdict, root: Root) -> None:
        """Raise ``Refused`` for versions before those that this host has taken already."""
        former = read_root(self.taken.trusted[ROOT])
        if root.version < former.version:
            raise Refused(
                f"the root has version {root.version}, and this host trusts {former.version}",
                _AGAIN,
            )
        # With other keys the versions begin anew: who stole the old ones may have used any.
        is_comparable = root.timestamp_keys == former.timestamp_keys
        if is_comparable and verdict.version < self.taken.version:
            raise Refused(
                f"the domain is at version {verdict.version}, and this host has taken "
                f"{self.taken.version}: somebody replays what was published before",
                "what is in force stays so; look at who serves the domain",
            )


def _words(node: object, what: str) -> str:
    """Words for people, which can be written and are not too many."""
    words = cut(text(node, what), MAX_WORDS)
    try:
        words.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} holds a character that no text has") from None
    return words
