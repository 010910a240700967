"""How the suite is run: workers in namespaces of their own, units, and a limit of the whole run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.netns.site import needs_isolation

ROOT = Path(__file__).parents[1]
HANGING = """
import time

def test_that_hangs_for_ever():
    time.sleep(600)

def test_that_passes():
    pass
"""
NAMESPACES = """
import os
from pathlib import Path

import pytest

@pytest.fixture(scope="module", params=["a", "b"])
def shared(request):
    return request.param

def note(unit):
    where = [os.stat(f"/proc/self/ns/{name}").st_ino for name in ("net", "mnt")]
    line = f"{unit} {os.getpid()} {where[0]} {where[1]} {os.environ['IPSECD_ISOLATED']}\\n"
    with (Path(__file__).parent / "notes").open("a") as file:
        file.write(line)

@pytest.mark.parametrize("n", range(4))
def test_that_shares(shared, n):
    note(shared)

@pytest.mark.parametrize("n", range(8))
def test_alone(n):
    note(f"alone{n}")
"""


def run_pytest(file: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run pytest as ``make test`` does."""
    settings = [f"--rootdir={file.parent}", "-c", str(ROOT / "pyproject.toml"), "-p", "tests.limit"]
    plugins = ["-p", "no:cacheprovider", "-p", "tests.parallel"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *settings, *plugins, *words, str(file)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if "PYTEST" not in name},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_a_run_that_hangs_ends_and_says_where(tmp_path: Path, workers: tuple[str, ...]) -> None:
    """The test that runs is named, with the line that it is at, and the run has failed."""
    if workers:
        needs_isolation()
    file = tmp_path / "test_hanging.py"
    file.write_text(HANGING)
    begun = time.monotonic()
    done = run_pytest(file, "--limit", "20", *workers)
    assert time.monotonic() - begun < 300
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the limit of 20 s is over" in done.stderr
    assert "test_hanging.py::test_that_hangs_for_ever" in done.stderr
    assert "in test_that_hangs_for_ever" in done.stderr, "no stack"
    assert "::test_that_passes, for" not in done.stderr


def test_workers_have_namespaces_of_their_own_and_share_no_unit(tmp_path: Path) -> None:
    """Tests that share a fixture run in one worker without a break; others run in any worker."""
    needs_isolation()
    file = tmp_path / "test_units.py"
    file.write_text(NAMESPACES)
    done = run_pytest(file, "--workers", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    notes = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    assert len(notes) == 16
    own = [str(Path(f"/proc/self/ns/{name}").stat().st_ino) for name in ("net", "mnt")]
    workers = {tuple(words[1:4]) for words in notes}
    assert len(workers) == 2
    for place in (0, 1, 2):
        assert len({worker[place] for worker in workers}) == 2
    assert not {word for worker in workers for word in worker} & set(own)
    for unit in ("a", "b"):
        (worker,) = {words[1] for words in notes if words[0] == unit}
        order = [words[0] for words in notes if words[1] == worker]
        first = order.index(unit)
        assert order[first : first + 4] == [unit] * 4


def test_the_longest_units_come_first(tmp_path: Path) -> None:
    """Units are in the order of the seconds they took before; unmeasured ones keep their order."""
    needs_isolation()
    file = tmp_path / "test_units.py"
    file.write_text(NAMESPACES)
    durations = tmp_path / "tests/durations.json"
    durations.parent.mkdir()
    durations.write_text('{"test_units.py[b]": 5, "test_units.py::test_alone[6]": 9}')
    done = run_pytest(file, "--workers", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    units = [line.split()[0] for line in (tmp_path / "notes").read_text().splitlines()]
    assert units[:9] == ["alone6", *["b"] * 4, *["a"] * 4]
    assert units[9:] == [f"alone{n}" for n in range(8) if n != 6]
