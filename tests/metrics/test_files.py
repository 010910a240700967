"""The alerts and the dashboard: what they ask for exists, and alerts come when they should."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.metrics.answers import METRICS
from tests.metrics.test_families import samples, text_of
from tests.metrics.tools import promtool

FILES = Path(__file__).parents[2] / "integrations/prometheus"
ALERTS = FILES / "ipsecd.rules.yml"
DASHBOARD = FILES / "ipsecd.dashboard.json"
NAMES = {*samples(text_of(METRICS)), "up"}


def run(*words: str, cwd: Path = FILES) -> str:
    done = subprocess.run(
        [promtool(), *words], capture_output=True, text=True, check=False, cwd=cwd
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alert_queries() -> list[str]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule["expr"] for rule in group["rules"]]


def dashboard_queries() -> list[str]:
    def found(node: Any) -> Iterator[str]:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if key == "expr":
                yield value
            elif isinstance(value, dict | list):
                yield from found(value)

    return list(found(json.loads(DASHBOARD.read_text())))


def test_alerts_come_when_they_should() -> None:
    """Series in, alerts out; and none where all is well."""
    assert "SUCCESS: 10 rules found" in run("check", "rules", ALERTS.name)
    assert "SUCCESS" in run("test", "rules", "ipsecd.rules.test.yml")


def test_every_alert_is_tested() -> None:
    """Each comes in one test, and does not in that of a host where all is well."""
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    names = {rule["alert"] for rule in group["rules"]}
    well, *others = yaml.safe_load((FILES / "ipsecd.rules.test.yml").read_text())["tests"]
    assert {test["alertname"] for test in well["alert_rule_test"]} == names
    coming = [test for other in others for test in other["alert_rule_test"]]
    assert {test["alertname"] for test in coming if test.get("exp_alerts")} == names


@pytest.mark.parametrize("query", [*alert_queries(), *dashboard_queries()])
def test_what_is_asked_for_exists(query: str) -> None:
    """A metric that nobody has draws an empty panel, and its alert never comes."""
    without_labels = re.sub(r"\{[^}]*\}|\[[^]]*\]|by \([^)]*\)", "", query)
    asked = set(re.findall(r"\b(?:ipsecd_\w+|up)\b", without_labels))
    assert asked
    assert asked <= NAMES


def test_every_query_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    """The same reader reads them as Prometheus has."""
    queries = [
        query.replace("$__rate_interval", "5m").replace("$instance", ".*")
        for query in dashboard_queries()
    ]
    assert not [query for query in queries if "$" in query]
    rules = [{"record": f"q{n}", "expr": query} for n, query in enumerate(queries)]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(queries)} rules found" in run("check", "rules", path.name, cwd=tmp_path)


def test_the_dashboard_can_be_provisioned() -> None:
    """It names no data source of anybody's, and its panels lie beside each other."""
    dashboard = json.loads(DASHBOARD.read_text())
    assert "id" not in dashboard
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {"${datasource}"}
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells
        assert max(x for x, _ in cells) < 24
        taken |= cells
