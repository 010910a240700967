"""The metrics: names and values, whatever rules and lists are called."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ipsecd.errors import BackendFailed
from ipsecd_metrics.asking import FRESH_S, Answers, Metrics
from ipsecd_metrics.families import STATES, Families
from tests.metrics.answers import HOSTILE, METRICS, RULE
from tests.metrics.tools import promtool

Samples = dict[str, dict[tuple[str, ...], float]]


def text_of(metrics: dict[str, Any] | None) -> str:
    class Fixed(Answers):
        def latest(self) -> Metrics | None:
            return metrics

    registry = CollectorRegistry()
    registry.register(Families(Fixed(lambda: METRICS)))
    return generate_latest(registry).decode()


def samples(text: str) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(str(sample.labels[name]) for name in sorted(sample.labels))
            assert labels not in found.setdefault(sample.name, {})
            found[sample.name][labels] = sample.value
    return found


def test_every_fact_is_a_metric() -> None:
    """Values are those that the daemon tells."""
    found = samples(text_of(METRICS))
    assert found["ipsecd_up"] == {(): 1.0}
    assert found["ipsecd_in_force"] == {(): 1.0}
    assert found["ipsecd_state"] == {(state,): float(state == "enforcing") for state in STATES}
    key = ("block", "P", "Worm", "static")
    assert found["ipsecd_rule_packets_total"][key] == 5
    assert found["ipsecd_rule_bytes_total"][key] == 240
    assert found["ipsecd_list_entries"] == {("drop",): 1000.0, ("local",): 2.0}
    assert found["ipsecd_list_matched_packets"] == {("drop",): 12.0}
    assert found["ipsecd_feed_checked_timestamp_seconds"] == {("drop",): 1700000000.5}
    assert found["ipsecd_feed_failing"] == {("drop",): 1.0}
    assert found["ipsecd_domain_version"] == {(): 7.0}
    assert found["ipsecd_domain_expires_timestamp_seconds"] == {(): 1735689600.0}
    assert found["ipsecd_drift_repaired_total"] == {(): 2.0}
    assert found["ipsecd_apply_duration_seconds_count"] == {(): 3.0}
    assert found["ipsecd_apply_duration_seconds_sum"] == {(): 0.5}


def test_without_a_daemon_there_is_one_metric() -> None:
    """It says so."""
    assert samples(text_of(None)) == {"ipsecd_up": {(): 0.0}}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_a_rule_is_called_is_a_label(name: str) -> None:
    """What reads the text finds the name as it was, in one series."""
    rules = [{**RULE, "rule": name, "policy": name}]
    lists = [{**each, "name": name} for each in METRICS["lists"][:1]]
    found = samples(text_of({**METRICS, "rules": rules, "lists": lists}))
    assert found["ipsecd_rule_packets_total"] == {("block", name, name, "static"): 5.0}
    assert found["ipsecd_list_entries"] == {(name,): 1000.0}


def test_rules_with_the_same_labels_are_one_series() -> None:
    """Two bans may be about one address, and Prometheus refuses a text with one series twice."""
    ban = {**RULE, "store": "dynamic", "policy": "", "rule": "203.0.113.7"}
    found = samples(text_of({**METRICS, "rules": [ban, ban]}))
    assert found["ipsecd_rule_packets_total"] == {("block", "", "203.0.113.7", "dynamic"): 10.0}


def test_promtool_finds_nothing_to_say(tmp_path: Path) -> None:
    """Names, units and help are as Prometheus asks for."""
    path = tmp_path / "metrics"
    path.write_text(text_of(METRICS))
    with path.open("rb") as text:
        done = subprocess.run(
            [promtool(), "check", "metrics"],
            stdin=text,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_many_who_ask_cost_the_daemon_one_question() -> None:
    """Within a second the answer is the same; a daemon that is down is asked no more often."""
    now, asked = 100.0, 0

    def ask() -> Metrics:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise BackendFailed("down")
        return METRICS

    answers = Answers(ask, lambda: now)
    assert [answers.latest() for _ in range(5)] == [METRICS] * 5
    now += FRESH_S
    assert [answers.latest() for _ in range(5)] == [None] * 5
    assert asked == 2
