"""The tests of enforcement hold on the kernels of Debian, each in a guest of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.kernels.guest import missing
from tests.kernels.laboratory import Laboratory
from tests.kernels.packages import DIRECTORY
from tests.kernels.suites import limit_s, processors, selection

pytestmark = [pytest.mark.slow, pytest.mark.timeout(limit_s() + 300)]


def lacking(kernel: str) -> str:
    """What this host has not that a guest with the kernel needs; empty if nothing is missing."""
    return missing() or ("" if (DIRECTORY / kernel).is_dir() else f"an unpacked kernel {kernel}")


@pytest.fixture(scope="module")
def laboratory(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Laboratory]:
    """A guest for each kernel that a test of this run asks for."""
    wanted: dict[str, list[str]] = {}
    for item in request.session.items:
        if isinstance(item, pytest.Function) and item.function is test_it_holds_on_the_kernel:
            kernel, tests = (str(item.callspec.params[name]) for name in ("kernel", "tests"))
            if not lacking(kernel):
                wanted.setdefault(kernel, []).append(tests)
    booted = Laboratory(wanted, tmp_path_factory.mktemp("kernels"), limit_s(), processors())
    yield booted
    booted.close()


# Names longer than pytest's own limit would be replaced by numbers.
@pytest.mark.parametrize(("kernel", "tests"), selection(), ids=list(map("-".join, selection())))
def test_it_holds_on_the_kernel(laboratory: Laboratory, kernel: str, tests: str) -> None:
    """Every one of the tests passes in the guest; what is skipped there is skipped here."""
    if needed := lacking(kernel):
        reason = f"this host has no such guest, for want of {needed}: run make kernels"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    laboratory.outcome(kernel, tests).pass_on(f"on Linux {kernel}")
