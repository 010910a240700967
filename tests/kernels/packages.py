"""Unpacks the kernels of Debian's packages below ``build/kernels``; nothing is installed.

``python -m tests.kernels.packages`` fetches them, so it is run where there is a network. The
repository is the one that apt knows here; its settings, lists and cache are not touched, because
the kernels come from several suites, and no suite but its own may reach this host.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.boot.base import repository

DIRECTORY = Path(__file__).parents[2] / "build/kernels"
SUITES = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "bookworm-backports"}
"""Which suite has which kernel as its own."""
KERNELS = tuple(SUITES)
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class NoKernel(Exception):
    """A kernel is not there, or cannot be had."""


class Kernel:
    """One kernel that has been unpacked."""

    def __init__(self, name: str, directory: Path = DIRECTORY) -> None:
        """What is in the tree of `name`, like ``6.1``.

        Raises:
            NoKernel: if it has not been unpacked.
        """
        self.name = name
        self.tree = directory / name
        if not self.tree.is_dir():
            raise NoKernel(f"there is no kernel {name} in {directory}: run make kernels")
        (self.image,) = (self.tree / "boot").glob("vmlinuz-*")
        self.release = self.image.name.removeprefix("vmlinuz-")
        self.modules = self.tree / "lib/modules"

    def dependencies(self, names: tuple[str, ...]) -> list[Path]:
        """The files of these modules and of all that they need, in the order to load them.

        A name that the kernel has no file for is built in, or is no module of this version.
        """
        top = self.modules / self.release
        needs = {}
        for line in (top / "modules.dep").read_text().splitlines():
            path, _, others = line.partition(":")
            needs[Path(path).name.partition(".")[0]] = [path, *others.split()]
        ordered: dict[str, None] = {}
        for name in names:
            # modules.dep names what is needed from the module down.
            ordered.update(dict.fromkeys(reversed(needs.get(name, []))))
        return [top / path for path in ordered]


def unpack(name: str, directory: Path = DIRECTORY) -> None:
    """Fetch one kernel and unpack it, unless it is there.

    Raises:
        NoKernel: if the suite has no such kernel.
        subprocess.CalledProcessError: if it cannot be fetched.
    """
    if (directory / name).is_dir():
        return
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix="making-") as scratch:
        apt = _Apt(Path(scratch), SUITES[name])
        package = apt.package(name)
        archive = apt.download(package)
        tree = Path(scratch) / "tree"
        subprocess.run(["dpkg-deb", "-x", archive, tree], check=True)
        (release,) = (path.name for path in (tree / "lib/modules").iterdir())
        subprocess.run(["depmod", "-b", tree, release], check=True)
        shutil.rmtree(tree / "usr")
        tree.rename(directory / name)


class _Apt:
    """apt with a configuration of its own, for one suite."""

    def __init__(self, directory: Path, suite: str) -> None:
        self._directory = directory
        for name in ("lists/partial", "cache/archives/partial", "packages"):
            (directory / name).mkdir(parents=True)
        signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
        sources = directory / "sources.list"
        sources.write_text(f"deb {signed}{repository()} {suite} main\n")
        self._options = [
            *("-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=-"),
            *("-o", f"Dir::State::lists={directory}/lists", "-o", f"Dir::Cache={directory}/cache"),
            *("-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3"),
        ]
        self._run("apt-get", "-qq", "update")

    def package(self, kernel: str) -> str:
        """The name of the package that has the kernel: what the general one needs."""
        text = self._run("apt-cache", "show", "--no-all-versions", "linux-image-amd64")
        pattern = rf"^Depends: (linux-image-{re.escape(kernel)}\.\S+)"
        needed = re.search(pattern, text, re.MULTILINE)
        if needed is None:
            raise NoKernel(f"the suite {SUITES[kernel]} has no kernel {kernel}:\n{text}")
        return needed[1]

    def download(self, package: str) -> Path:
        self._run("apt-get", "-qq", "download", package)
        (archive,) = (self._directory / "packages").glob("*.deb")
        return archive

    def _run(self, program: str, *words: str) -> str:
        return subprocess.run(
            [program, *self._options, *words],
            cwd=self._directory / "packages",
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout


if __name__ == "__main__":
    for kernel in KERNELS:
        unpack(kernel)
