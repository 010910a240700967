"""Plugin of the pytest that runs in a guest: reports each test to the host, and is patient.

``-p tests.kernels.inside --lab-report FILE`` writes one line of JSON for each phase of each test
to the file, as it happens.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.netns.site import PATIENCE


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the reports go."""
    parser.addoption("--lab-report", type=Path, required=True)


def pytest_configure(config: pytest.Config) -> None:
    """Start to report."""
    config.pluginmanager.register(_Reporter(config.getoption("--lab-report")))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    """Give each test more time than it has on the host."""
    usual = float(config.getini("timeout"))
    for item in items:
        marker = item.get_closest_marker("timeout")
        limit_s = float(marker.args[0]) if marker else usual
        item.add_marker(pytest.mark.timeout(limit_s * PATIENCE), append=False)


class _Reporter:
    def __init__(self, path: Path) -> None:
        self._file = path.open("w", buffering=1)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.outcome != "passed":
            self._write(report.nodeid, "collecting", report.outcome, report=report)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            self._write(item.nodeid, "collected")
        self._write("", "all collected")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._write(report.nodeid, report.when, report.outcome, report=report)

    def pytest_sessionfinish(self) -> None:
        self._write("", "finished")

    def _write(
        self,
        nodeid: str,
        when: str | None,
        outcome: str = "",
        report: pytest.TestReport | pytest.CollectReport | None = None,
    ) -> None:
        line = {"nodeid": nodeid, "when": when, "outcome": outcome}
        if report is not None and report.outcome != "passed":
            line["text"] = _text(report)
        self._file.write(json.dumps(line) + "\n")


def _text(report: pytest.TestReport | pytest.CollectReport) -> str:
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2]
    sections = [f"---- {name}\n{content}" for name, content in report.sections]
    return "\n".join([report.longreprtext, *sections])
