"""Tests of the process that verifies for the daemon: any input gives one answer, and soon."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipsecd_domain.bundle import MAX_FILES, Bundle, read_bundle, write_bundle
from ipsecd_domain.verify import MAX_INPUT, answer
from tests.domain.fleets import WEB, Fleet, Member

ANSWERS = {
    *("outcome", "reason", "hint", "path", "sha256", "version", "expires", "interval_s", "why"),
    *("lists", "trusted"),
}
HOST: dict[str, Any] = {"name": "web1", "groups": ["web"], "labels": {}}


def asked(given: bytes) -> dict[str, Any]:
    """What the process answers; it must end well, with one line and no other word."""
    words = [sys.executable, "-m", "ipsecd_domain.verify"]
    done = subprocess.run(words, input=given, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b"\n") == 1
    said: dict[str, Any] = json.loads(done.stdout)
    assert set(said) == ANSWERS
    return said


@pytest.fixture
def question(fleet: Fleet) -> dict[str, Any]:
    """What a daemon asks that trusts a root and was handed a bundle."""
    fleet.publish(WEB, "web", interval_s=600.0)
    host = Member.of(fleet, "web1", "web")
    trusted = dict(host.trusted)
    seen = host.look(fleet.repository)
    bundle = json.loads(b"".join(write_bundle(seen.bundle)))
    return {"trusted": trusted, "bundle": bundle, "host": HOST}


def test_what_is_right_is_answered(question: dict[str, Any]) -> None:
    """All that the daemon stores, and nothing of the document itself."""
    said = asked(json.dumps(question).encode())
    assert (said["outcome"], said["reason"], said["hint"]) == ("policy", "", "")
    assert (said["path"], said["interval_s"], said["version"]) == ("group/web/web.yaml", 600.0, 2)
    assert set(said["trusted"]) == {
        *("root.json", "timestamp.json", "snapshot.json", "targets.json", "group-web.json")
    }
    again = asked(json.dumps({**question, "trusted": said["trusted"]}).encode())
    assert again == said


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\x00\xff" * 1000,
        b"[" * 1_000_000,
        b'{"a":' * 1_000_000,
        b'{"trusted": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"host": ' + b"9" * 100_000 + b"}",
        b'{"trusted": {"root.json": "\\ud800"}, "bundle": {}, "host": %s}'
        % json.dumps(HOST).encode(),
        b'{"trusted": {"root.json": "%s"}, "bundle": {}, "host": %s}'
        % (b"[" * 100_000, json.dumps(HOST).encode()),
        b'"' + b"a" * (MAX_INPUT + 1),
    ],
    ids=lambda given: f"{given[:20].decode(errors='replace')} {len(given)}",
)
def test_garbage_is_refused(given: bytes) -> None:
    """With a reason, and nothing else on either output."""
    said = asked(given)
    assert said["outcome"] == "refused"
    assert said["reason"]


@pytest.mark.parametrize(
    "change",
    [
        {"bundle": {"metadata": [], "targets": {}}},
        {"bundle": {"metadata": {"timestamp.json": 1}}},
        {"bundle": {"metadata": {f"{n}.root.json": "" for n in range(MAX_FILES + 1)}}},
        {"bundle": {"more": {}}},
        {"bundle": {"metadata": {}, "targets": {}}},
        {"bundle": {"metadata": {"timestamp.json": "["}}},
        {"trusted": {}},
        {"trusted": {"root.json": "{}"}},
        {"trusted": {"root.json": 1}},
        {"host": None},
        {"host": {"name": "web1"}},
        {"host": {**HOST, "name": "../.."}},
        {"host": {**HOST, "groups": ["../../x"]}},
        {"host": {**HOST, "groups": [1]}},
        {"host": {**HOST, "groups": [f"g{n}" for n in range(1000)]}},
        {"host": {**HOST, "labels": {"a": 1}}},
    ],
    ids=lambda change: str(change)[:60],
)
def test_each_part_has_to_be_right(question: dict[str, Any], change: dict[str, Any]) -> None:
    """Each of these is refused, and what was trusted comes back as it was."""
    assert answer(json.dumps(question).encode())["outcome"] == "policy"
    said = answer(json.dumps({**question, **change}).encode())
    assert said["outcome"] == "refused"
    assert said["reason"]
    if "trusted" not in change:
        assert said["trusted"] in (question["trusted"], {})


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_bundle_with_any_other_text_in_it(question: dict[str, Any], data: st.DataObject) -> None:
    """A changed file is refused or makes no difference; it never gives another policy."""
    right = answer(json.dumps(question).encode())
    kind = data.draw(st.sampled_from(["metadata", "targets"]))
    bundle = {name: dict(files) for name, files in question["bundle"].items()}
    name = data.draw(st.sampled_from(sorted(bundle[kind])))
    text = bundle[kind][name]
    at = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(at, len(text)))
    put = data.draw(
        st.text(max_size=20) | st.sampled_from(["null", "{}", "[]", "-1", "1e999", '"', '"a":1,'])
    )
    bundle[kind][name] = text[:at] + put + text[end:]
    said = answer(json.dumps({**question, "bundle": bundle}).encode())
    if said["outcome"] != "refused":
        same = {"path", "sha256", "version", "expires", "why", "interval_s", "outcome"}
        assert {key: said[key] for key in same} == {key: right[key] for key in same}
    else:
        assert said["trusted"] == question["trusted"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(json_values, json_values, json_values)
def test_any_json_has_an_answer(trusted: Any, bundle: Any, host: Any) -> None:
    """Whatever stands in the place of each part."""
    text = json.dumps({"trusted": trusted, "bundle": bundle, "host": host})
    assert answer(text.encode())["outcome"] == "refused"


@given(st.dictionaries(st.text(), st.text()), st.dictionaries(st.text(), st.text()))
def test_a_bundle_reads_as_it_was_written(
    metadata: dict[str, str], targets: dict[str, str]
) -> None:
    """Any names and any texts."""
    bundle = Bundle(metadata, targets)
    assert read_bundle(json.loads(b"".join(write_bundle(bundle)))) == bundle
