"""Owns the metrics: their names, and how they come from what the daemon tells.

Names are as Prometheus asks for: base units, and ``_total`` for what only grows
(https://prometheus.io/docs/practices/naming/).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from ipsecd_metrics.asking import Answers

STATES = ("enforcing", "idle", "drifted", "failed", "stopped")
_RULE = ("store", "policy", "rule", "action")


class Families:
    """What is collected when somebody asks."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def collect(self) -> Iterator[Metric]:
        """All metrics; one alone if the daemon does not answer."""
        metrics = self._answers.latest()
        yield _gauge("up", "Whether the daemon answers.", metrics is not None)
        if metrics is not None:
            yield from _of_daemon(metrics)
            yield from _of_rules(metrics["rules"])
            yield from _of_lists(metrics["lists"])
            if metrics["domain"] is not None:
                yield from _of_domain(metrics["domain"])


def _of_daemon(metrics: Mapping[str, Any]) -> Iterator[Metric]:
    info = {"version": metrics["version"], "backend": metrics["backend"]}
    yield InfoMetricFamily("ipsecd", "Which daemon it is.", info)
    yield _gauge("start_time_seconds", "When the daemon was started.", metrics["started"])
    state = GaugeMetricFamily("ipsecd_state", "The state of the daemon.", labels=("state",))
    for name in dict.fromkeys((*STATES, metrics["state"])):
        state.add_metric([name], float(name == metrics["state"]))
    yield state
    yield _gauge(
        "in_force", "Whether the kernel holds what should be in force.", metrics["in_force"]
    )
    yield _gauge("dynamic_rules", "How many dynamic rules there are.", metrics["dynamic_rules"])
    if metrics["changed_at"] is not None:
        yield _gauge(
            "last_change_timestamp_seconds",
            "When what is in force changed last since the daemon was started.",
            metrics["changed_at"],
        )
    yield _counter(
        "unparsable_packets",
        "Packets that were dropped because their headers cannot be read.",
        metrics["unparsable"],
    )
    yield _counter(
        "drift_repaired", "How often a change of others was undone.", metrics["repaired"]
    )
    yield _counter(
        "monitor_lost_packets",
        "Packets that were dropped and not shown to those who watch.",
        metrics["monitor_lost"],
    )
    yield SummaryMetricFamily(
        "ipsecd_apply_duration_seconds",
        "How long the kernel took for whole states.",
        count_value=metrics["applied"],
        sum_value=metrics["applied_s"],
    )
    yield _gauge(
        "last_apply_duration_seconds",
        "How long the kernel took for the last whole state.",
        metrics["applied_last_s"],
    )


def _of_rules(rules: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    packets = CounterMetricFamily(
        "ipsecd_rule_packets", "Packets that a rule has matched.", labels=_RULE
    )
    octets = CounterMetricFamily(
        "ipsecd_rule_bytes", "Bytes that a rule has matched.", labels=_RULE
    )
    for labels, (packets_matched, bytes_matched) in _added_up(rules).items():
        packets.add_metric(labels, packets_matched)
        octets.add_metric(labels, bytes_matched)
    return iter((packets, octets))


def _added_up(rules: Iterable[Mapping[str, Any]]) -> dict[tuple[str, ...], tuple[int, int]]:
    """Packets and bytes by labels: rules that go by the same addresses are one series."""
    sums: dict[tuple[str, ...], tuple[int, int]] = {}
    for rule in rules:
        labels = tuple(rule[name] for name in _RULE)
        packets, size = sums.get(labels, (0, 0))
        sums[labels] = packets + rule["packets"], size + rule["bytes"]
    return sums


def _of_lists(lists: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    entries, matched, checked, every, failing = (
        GaugeMetricFamily(f"ipsecd_{name}", text, labels=("list",))
        for name, text in (
            ("list_entries", "How many entries a list has."),
            ("list_matched_packets", "Packets that the entries a list has now have matched."),
            ("feed_checked_timestamp_seconds", "When the feed of a list was asked last."),
            ("feed_interval_seconds", "How often the feed of a list is asked."),
            ("feed_failing", "Whether the feed of a list could not be had last time."),
        )
    )
    for each in lists:
        labels = [each["name"]]
        entries.add_metric(labels, each["entries"])
        if each["packets"] is not None:
            matched.add_metric(labels, each["packets"])
        if each["every_s"] is not None:
            checked.add_metric(labels, each["checked"] or 0)
            every.add_metric(labels, each["every_s"])
            failing.add_metric(labels, float(each["failing"]))
    return iter((entries, matched, checked, every, failing))


def _of_domain(domain: Mapping[str, Any]) -> Iterator[Metric]:
    yield _gauge("domain_version", "The version of the domain policy.", domain["version"])
    yield _gauge(
        "domain_checked_timestamp_seconds",
        "When the domain was looked at last.",
        domain["checked_at"] or 0,
    )
    yield _gauge(
        "domain_interval_seconds", "How often the domain is looked at.", domain["interval_s"]
    )
    yield _gauge(
        "domain_failing", "Whether the last look at the domain went wrong.", domain["failing"]
    )
    if domain["expires"]:
        yield _gauge(
            "domain_expires_timestamp_seconds",
            "Until when the domain policy is good.",
            datetime.fromisoformat(domain["expires"]).timestamp(),
        )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"ipsecd_{name}", text, value=float(value))


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"ipsecd_{name}", text, value=value)
