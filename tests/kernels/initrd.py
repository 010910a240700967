"""Makes the initial memory file system of a guest: busybox, and the modules that reach the root."""

from __future__ import annotations

import lzma
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.kernels.packages import Kernel

INIT = Path(__file__).with_name("init")
BUSYBOX = Path("/bin/busybox")
MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")


def make_initrd(kernel: Kernel, target: Path) -> None:
    """Write it to `target`."""
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch)
        for name in ("bin", "dev", "proc", "modules"):
            (tree / name).mkdir()
        shutil.copy(BUSYBOX, tree / "bin")
        shutil.copy(INIT, tree)
        (tree / "init").chmod(0o755)
        order = []
        for path in kernel.dependencies(MODULES):
            order.append(path.name.removesuffix(".xz"))
            content = path.read_bytes()
            if path.suffix == ".xz":
                content = lzma.decompress(content)
            (tree / "modules" / order[-1]).write_bytes(content)
        (tree / "modules/order").write_text("".join(f"{name}\n" for name in order))
        names = "".join(f"{path.relative_to(tree)}\n" for path in sorted(tree.rglob("*")))
        with target.open("wb") as file:
            subprocess.run(
                [BUSYBOX, "cpio", "-o", "-H", "newc"],
                cwd=tree,
                input=names.encode(),
                stdout=file,
                stderr=subprocess.DEVNULL,
                check=True,
            )
