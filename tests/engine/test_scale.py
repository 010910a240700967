"""What a long policy costs: work and memory grow with its length and not faster."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from ipsecd.control import Control
from ipsecd.errors import InvalidInput
from ipsecd.language import filters, reading
from ipsecd.language.documents import parse_policy
from ipsecd.model.values import Filter
from tests.engine.site import Site


def document(rules: int, filters_each: int = 1) -> bytes:
    """A policy of `rules` rules, no two of which look at one address or one port."""
    lines = ["policy: P", "rules:"]
    for number in range(rules):
        lines += [f"- rule: rule {number}", "  action: block", "  filters:"]
        lines += [
            f'  - "10.{number >> 8 & 255}.{number & 255}.{last}=0:{number % 500 + 1}:TCP"'
            for last in range(filters_each)
        ]
    return "\n".join(lines).encode()


def calls_of(function: Callable[[], object]) -> int:
    """How many functions are called, those in C too, while `function` runs."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return calls


def apply(control: Control, content: bytes) -> dict[str, Any]:
    parameters = {"source": None, "assign": True, "dry_run": False}
    names = dict.fromkeys(control.names_needed("ApplyPolicy", parameters, content), ())
    return control.call("ApplyPolicy", parameters, "test", names, content)


@pytest.mark.parametrize("filters_each", [1, 3])
def test_work_grows_with_the_number_of_rules(site: Site, filters_each: int) -> None:
    """Eight times the rules are eight times the work, also in the place of others."""
    control = Control(site.engine)
    few, many = 100, 800
    work = {}
    for rules in (few, many):
        content = document(rules, filters_each)
        first = calls_of(lambda content=content: apply(control, content))  # type: ignore[misc]
        changed = content.replace(b"rule 7\n", b"rule seven\n")
        again = calls_of(lambda content=changed: apply(control, content))  # type: ignore[misc]
        work[rules] = first, again
        assert len(site.engine.classifier.origins) == rules
        control.call("DeletePolicy", {"name": "P", "unassign": True}, "test", {}, None)
    for little, much in zip(work[few], work[many], strict=True):
        assert much < 10 * little, work


def test_a_document_is_read_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question for DNS names and the call it is asked for share one reading."""
    read: list[str] = []

    def parse_short(text: str) -> Filter:
        read.append(text)
        return filters.parse_short(text)

    monkeypatch.setattr(reading, "parse_short", parse_short)
    apply(Control(site.engine), document(10))
    assert len(read) == 10


def test_a_document_that_was_read_for_another_call_is_not_taken(site: Site) -> None:
    """Each call has its own document, whatever was asked before."""
    control = Control(site.engine)
    parameters = {"source": None, "assign": True, "dry_run": False}
    control.names_needed("ApplyPolicy", parameters, document(1))
    control.call("ApplyPolicy", parameters, "test", {}, document(2))
    assert site.engine.policy is not None
    assert len(site.engine.policy.rules) == 2


GARBAGE = {
    "lists": b"policy: P\nrules: [" + b"[]," * 200_000 + b"]",
    "words": b"policy: P\nrules:\n" + b"- a\n" * 200_000,
    "keys": b"policy: P\n" + b"".join(b"%d: 1\n" % number for number in range(100_000)),
    "list for text": b"policy: [" + b"a," * 400_000 + b"]",
    "filters": b"policy: P\nrules:\n- rule: R\n  filters: [" + b"[a]," * 200_000 + b"]",
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_what_is_no_policy_costs_no_more_than_its_text(kind: str) -> None:
    """However long a wrong document is, nothing is made of it before it is known to be wrong."""
    content = GARBAGE[kind]
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput):
            parse_policy(content)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 3 * len(content) + (1 << 19)


@pytest.mark.parametrize("end", [b'\n  - "*=0:http"', b"\n  - \x07", b"\n  - ]"])
def test_an_error_that_is_kept_keeps_nothing_of_the_document(end: bytes) -> None:
    """The error of a file that cannot be used is kept; what had been read of the file is not."""
    content = document(3000) + end
    # What a process imports and caches when it reads such a document first is not of the document.
    with pytest.raises(InvalidInput):
        parse_policy(content)
    tracemalloc.start()
    try:
        kept: InvalidInput | None = None
        try:
            parse_policy(content)
        except InvalidInput as error:
            kept = error
        remaining, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept is not None
    assert remaining < len(content) // 2
