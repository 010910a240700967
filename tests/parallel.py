"""Plugin of pytest: runs tests in workers, each in namespaces of its own, the longest first.

``-p tests.parallel --workers 4``. It knows nothing of what the tests are about.

Invariants:

1. No fixture but pytest's own is of the whole session.
2. Tests that share a fixture, or a parameter of one, beyond one test are a unit: one worker runs
   them one after another. All others are units by themselves.
3. Every worker has the same order: units by the seconds that they took before, the longest first.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import pytest
from _pytest.scope import Scope
from xdist.remote import Producer
from xdist.scheduler.loadscope import LoadScopeScheduling
from xdist.workermanage import WorkerController

ROOT = Path(__file__).parents[1]
KNOWN, MEASURED = Path("tests/durations.json"), Path("build/durations.json")
"""Files with the seconds that units took before, and those that they take in this run."""
LONG_S = 5
"""Units that take less time are not written down."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for the number of workers."""
    parser.addoption("--workers", type=int, help="run tests in workers in namespaces of their own")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Have the workers started in their namespaces."""
    workers = config.getoption("--workers")
    if workers and not hasattr(config, "workerinput"):
        words = shlex.join([str(ROOT / "tests/isolated"), sys.executable])
        config.option.tx = [f"popen//python={words}"] * workers
        config.option.dist = "loadscope"
        config.option.loadscopereorder = False
        config.pluginmanager.register(_Controller())


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a worker, put the tests in order; the first worker writes down which unit each is of."""
    workerinput = getattr(config, "workerinput", {})
    if "units" not in workerinput:
        return
    units: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        units[_unit(item)].append(item)
    file = config.rootpath / KNOWN
    seconds = json.loads(file.read_text()) if file.exists() else {}
    ordered = sorted(units, key=lambda unit: -seconds.get(unit, 0))
    items[:] = [item for unit in ordered for item in units[unit]]
    if workerinput["workerid"] == "gw0":
        told = {item.nodeid: unit for unit in ordered for item in units[unit]}
        Path(workerinput["units"]).write_text(json.dumps(told))


def _unit(item: pytest.Item) -> str:
    """The unit of a test: its file with the parameters that it shares, or the test itself."""
    assert isinstance(item, pytest.Function)
    definitions = item._fixtureinfo.name2fixturedefs
    for name, fixtures in definitions.items():
        # A fixture of the session would stay, with all that it made, while later tests run.
        assert fixtures[-1]._scope is not Scope.Session or not fixtures[-1].baseid, name
    shared = sorted(
        name
        for name, fixtures in definitions.items()
        if fixtures[-1]._scope in {Scope.Module, Scope.Class} and fixtures[-1].baseid
    )
    if not shared:
        return item.nodeid
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    values = [str(parameters[name]) for name in shared if name in parameters]
    file = item.nodeid.partition("::")[0]
    return f"{file}[{'-'.join(values)}]" if values else file


class _Controller:
    """Part of the process that controls the run: knows the units and how long each took."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="ipsecd-units-"))
        self._file = self._directory / "units.json"
        self._units: dict[str, str] = {}
        self._seconds: dict[str, float] = defaultdict(float)

    def pytest_configure_node(self, node: WorkerController) -> None:
        node.workerinput["units"] = str(self._file)

    def pytest_xdist_make_scheduler(
        self, config: pytest.Config, log: Producer
    ) -> LoadScopeScheduling:
        scheduling = LoadScopeScheduling(config, log)
        scheduling._split_scope = self._unit_of
        return scheduling

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[self._unit_of(report.nodeid)] += report.duration

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        shutil.rmtree(self._directory)
        long = {
            unit: round(self._seconds[unit])
            for unit in sorted(self._seconds)
            if self._seconds[unit] >= LONG_S
        }
        measured = config.rootpath / MEASURED
        measured.parent.mkdir(exist_ok=True)
        measured.write_text(json.dumps(long, indent=0, ensure_ascii=False) + "\n")

    def _unit_of(self, nodeid: str) -> str:
        self._units = self._units or json.loads(self._file.read_text())
        return self._units[nodeid]
