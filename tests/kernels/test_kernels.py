"""The tests of enforcement hold on the kernels of Debian, each in a guest of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.kernels.guest import missing
from tests.kernels.laboratory import Laboratory
from tests.kernels.packages import DIRECTORY
from tests.kernels.suites import files, limit_s

pytestmark = [pytest.mark.slow, pytest.mark.timeout(limit_s() + 300)]


@pytest.fixture(scope="module")
def laboratory(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Laboratory]:
    """A guest for each kernel that a test of this run asks for."""
    wanted: dict[str, list[str]] = {}
    for item in request.session.items:
        if isinstance(item, pytest.Function) and item.function is test_it_holds_on_the_kernel:
            kernel, file = (str(item.callspec.params[name]) for name in ("kernel", "file"))
            wanted.setdefault(kernel, []).append(file)
    lacking = missing() or ", ".join(k for k in wanted if not (DIRECTORY / k).is_dir())
    if lacking:
        reason = f"this host has no guests, for want of {lacking}: run make kernels"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    booted = Laboratory(wanted, tmp_path_factory.mktemp("kernels"), limit_s())
    yield booted
    booted.close()


@pytest.mark.parametrize(("kernel", "file"), files())
def test_it_holds_on_the_kernel(laboratory: Laboratory, kernel: str, file: str) -> None:
    """Every test of the file passes in the guest; what is skipped there is skipped here."""
    outcome = laboratory.outcome(kernel, file)
    if outcome.failures:
        texts = [f"==== {name}\n{text}" for name, text in outcome.failures.items()]
        pytest.fail("\n".join([f"on Linux {kernel}:", *texts]), pytrace=False)
    if not outcome.passed:
        reasons = ", ".join(sorted(set(outcome.skips.values()))) or "it has no tests"
        pytest.skip(f"on Linux {kernel}: {reasons}")
