"""The packages of this tree, made once for all tests that install them."""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
from pathlib import Path

from tests.netns.site import run

ROOT = Path(__file__).parents[2]
BUILT = ROOT / "build/deb"
NEXT_VERSION = "99.0.0"
COMMANDS = "ipsecd-windows-commands.deb"
NOT_PACKED = ("bench", "build", "tests")
"""Directories of the tree of which nothing is in a package; nor is anything of hidden ones."""


def make_packages(directory: Path) -> tuple[Path, Path]:
    """The package, and one of a higher version; beside them lies that of the old commands."""
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build/deb.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_new():
            done = subprocess.run(
                ["make", "deb"], cwd=ROOT, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
        (built,) = BUILT.glob("ipsecd_*.deb")
        package = Path(shutil.copy(built, directory))
        (commands,) = BUILT.glob("ipsecd-windows-commands_*.deb")
        shutil.copy(commands, directory / COMMANDS)
    return package, _of_higher_version(package, directory)


def _is_new() -> bool:
    """Whether the package was made after all files that are packed were last changed."""
    built = list(BUILT.glob("*.changes"))
    if not built:
        return False
    made = built[0].stat().st_mtime
    packed = [path for path in ROOT.iterdir() if not path.name.startswith((*NOT_PACKED, "."))]
    return not any(
        path.stat().st_mtime > made
        for top in packed
        for path in (top, *top.rglob("*"))
        if path.is_file() and path.suffix != ".pyc"
    )


def _of_higher_version(package: Path, directory: Path) -> Path:
    """The same packed again and not made again, which takes half a minute."""
    tree = directory / "next"
    run("dpkg-deb", "--raw-extract", str(package), str(tree))
    control = tree / "DEBIAN/control"
    text, count = re.subn(r"(?m)^Version: .*", f"Version: {NEXT_VERSION}", control.read_text())
    assert count == 1
    control.write_text(text)
    run("dpkg-deb", "--root-owner-group", "--build", str(tree), str(directory))
    (next_package,) = directory.glob(f"ipsecd_{NEXT_VERSION}_*.deb")
    return next_package
