"""What happens to a test in a guest happens to the test outside; here without a machine."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.kernels import guest, laboratory
from tests.kernels.guest import BOOTS, Guest
from tests.kernels.laboratory import ROOT, Laboratory
from tests.kernels.packages import Kernel

MANY = """
import pytest

def test_that_passes():
    pass

@pytest.mark.parametrize("n", [1, 2])
def test_that_fails(n):
    print("what it printed")
    assert n == 1, "the reason"

@pytest.fixture
def broken():
    yield
    raise OSError("cannot tidy up")

def test_that_leaves_a_mess(broken):
    pass

def test_that_is_skipped():
    pytest.skip("not here")
"""
PASSING = "def test_that_passes():\n    pass\n"
SKIPPED = "import pytest\ndef test_it():\n    pytest.skip('not here')\n"
DYING = (
    "import os\ndef test_a():\n    pass\ndef test_b():\n    os._exit(0)\ndef test_c():\n    pass\n"
)
HANGING = "import time\ndef test_it():\n    time.sleep(600)\n"
Boot = Callable[..., Laboratory]


class Process:
    """In the place of a guest: runs the command here, with the share where it is."""

    def __init__(self, _: object, share: Path, processors: int) -> None:
        del processors
        self._share = share
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, command: list[str], directory: Path) -> None:
        report = str(self._share / "report")
        words = [report if word == "/lab/report" else word for word in command]
        with (self._share / "output").open("wb") as output:
            self._process = subprocess.Popen(words, cwd=directory, stdout=output, stderr=output)

    @property
    def running(self) -> bool:
        assert self._process is not None
        return self._process.poll() is None

    def boot_again(self) -> bool:
        return False

    def output(self) -> str:
        return (self._share / "output").read_text()

    def console(self) -> str:
        return "what the kernel said"

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Boot]:
    monkeypatch.setattr(laboratory, "Guest", Process)
    monkeypatch.setattr(laboratory, "Kernel", str)
    booted: list[Laboratory] = []

    def start(**files: str) -> Laboratory:
        paths = []
        for name, text in files.items():
            paths.append(str(tmp_path / f"{name}.py"))
            Path(paths[-1]).write_text(text)
        settings = [f"--rootdir={tmp_path}", "-c", str(ROOT / "pyproject.toml")]
        booted.append(Laboratory({"k": [*settings, *paths]}, tmp_path, 60))
        return booted[-1]

    yield start
    for each in booted:
        each.close()


def failure(booted: Laboratory, file: str) -> str:
    with pytest.raises(pytest.fail.Exception) as caught:
        booted.outcome("k", file).pass_on("there")
    return str(caught.value)


def test_a_failure_inside_is_one_outside_with_its_text(boot: Boot) -> None:
    """Each test that failed is named, in whichever phase it did, with what it said."""
    booted = boot(test_many=MANY, test_passing=PASSING, test_skipped=SKIPPED)
    said = failure(booted, "test_many.py")
    for words in ("test_that_fails[2] (call)", "the reason", "what it printed"):
        assert words in said
    for words in ("test_that_leaves_a_mess (teardown)", "cannot tidy up"):
        assert words in said
    assert "test_that_fails[1]" not in said
    assert booted.outcome("k", "test_many.py").passed == [
        "test_many.py::test_that_passes",
        "test_many.py::test_that_fails[1]",
    ]
    booted.outcome("k", "test_many.py::test_that_fails[1]").pass_on("there")
    assert "the reason" in failure(booted, "test_many.py::test_that_fails")
    booted.outcome("k", "test_passing.py").pass_on("there")
    with pytest.raises(pytest.skip.Exception, match=r"there: .*not here"):
        booted.outcome("k", "test_skipped.py").pass_on("there")


def test_a_file_that_cannot_be_collected_fails(boot: Boot) -> None:
    """An error of syntax is no file without tests."""
    booted = boot(test_wrong="def test_it(:\n", test_empty="")
    assert "SyntaxError" in failure(booted, "test_wrong.py")
    assert "no test was run" in failure(booted, "test_empty.py")
    assert "no test was run" in failure(booted, "test_missing.py")


def test_what_a_lost_guest_did_not_do_has_failed(boot: Boot) -> None:
    """The tests that had no result are named, with the last words of the guest."""
    booted = boot(test_dying=DYING, test_passing=PASSING)
    said = failure(booted, "test_dying.py")
    assert "test_a" not in said
    for words in ("test_b", "test_c", "the guest ended before", "what the kernel said"):
        assert words in said
    assert "the guest ended before" in failure(booted, "test_passing.py")


def test_the_time_of_a_guest_is_limited(boot: Boot) -> None:
    """A test that hangs, and those after it, have failed when the time is over."""
    booted = boot(test_passing=PASSING, test_hanging=HANGING)
    booted.outcome("k", "test_passing.py").pass_on("there")
    booted._deadline = time.monotonic()
    assert "its 60 s were over" in failure(booted, "test_hanging.py")


def test_a_guest_that_breaks_before_its_command_boots_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few times; not if its command has begun, and not if it was stopped."""
    monkeypatch.setattr(guest, "QEMU", "false")
    monkeypatch.setattr(guest, "make_initrd", lambda *_: None)
    kernel = SimpleNamespace(image="image", modules="modules", release="1")

    def boots(after_start: Callable[[Guest], object]) -> int:
        broken = Guest(cast("Kernel", kernel), tmp_path)
        broken.start(["true"], tmp_path)
        after_start(broken)
        count = 0
        again = True
        while again:
            count += 1
            while broken.running:
                time.sleep(0.01)
            again = broken.boot_again()
        return count

    assert boots(lambda _: None) == BOOTS
    assert boots(Guest.stop) == 1
    assert boots(lambda _: (tmp_path / "output").touch()) == 1
