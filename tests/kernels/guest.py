"""A virtual machine with a kernel of its own above the files of this host, for one command.

The command sees this host's files, and what it writes to them is gone with the guest. What it
leaves in ``/lab`` stays, in the directory that the host gave. It is root of a whole machine, so
nothing that it does to links, filters or programs can reach this host.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from typing import Self

from tests.kernels.initrd import BUSYBOX, make_initrd
from tests.kernels.packages import Kernel

QEMU = "qemu-system-x86_64"
CARRIED_OVER = ("CI", "IPSECD_CACHE")
"""Settings of the host that the command gets too."""
COMMAND = """
cd {directory}
{command} </dev/null >/lab/output 2>&1
echo $? >/lab/status.new && mv /lab/status.new /lab/status
exec {busybox} poweroff -f
"""


BOOTS = 3
"""How often to boot a guest whose kernel breaks before its command begins. With several processors
the emulator now and then meets an instruction that the kernel is just rewriting (text_poke)."""


class GuestFailed(Exception):
    """The guest ended, or was ended, without a word about its command."""


def missing() -> str:
    """What this host needs to have guests and has not; empty if nothing is missing."""
    if os.geteuid() != 0:
        return "root"
    return ", ".join(name for name in (QEMU, str(BUSYBOX), "setpriv") if not shutil.which(name))


class Guest:
    """One machine, from its start to the end of its command."""

    def __init__(
        self, kernel: Kernel, share: Path, memory_mib: int = 2560, processors: int = 2
    ) -> None:
        """`share` is a directory of its own, which is ``/lab`` in the guest."""
        self._kernel, self._share = kernel, share
        self._words = [
            # Tests that run beside it on this host wait for events; a guest has time.
            *("nice", "-n", "5", "setpriv", "--pdeathsig", "KILL", QEMU),
            *("-accel", "tcg,thread=multi", "-cpu", "max"),
            *("-smp", str(processors), "-m", str(memory_mib), "-rtc", "base=utc,clock=host"),
            *("-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"),
            *("-kernel", str(kernel.image), "-initrd", str(share / "initrd")),
            *("-append", "console=ttyS0 panic=-1 quiet loglevel=4 no_timer_check"),
            *_shared("root", Path("/"), "on"),
            *_shared("modules", kernel.modules, "on"),
            *_shared("lab", share, "off"),
        ]
        make_initrd(kernel, share / "initrd")
        self._process: subprocess.Popen[bytes] | None = None
        self._boots = 0

    def start(self, command: list[str], directory: Path) -> None:
        """Boot, and run the command in this directory."""
        settings = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "IPSECD_ISOLATED": "1",
            "IPSECD_PATIENCE": "40",
            "IPSECD_LINK_RESULTS": "/lab/links",
            "IPSECD_BOOTED": f"{self._kernel.release} {time.time()}",
            **{name: os.environ[name] for name in CARRIED_OVER if name in os.environ},
        }
        words = ["env", "-i", *(f"{name}={value}" for name, value in settings.items()), *command]
        text = COMMAND.format(
            directory=shlex.quote(str(directory)), command=shlex.join(words), busybox=BUSYBOX
        )
        (self._share / "command").write_text(text)
        (self._share / "checkout").write_text(str(directory.resolve()))
        self._boot()

    def _boot(self) -> None:
        self._boots += 1
        with (self._share / "console").open("wb") as console:
            self._process = subprocess.Popen(
                self._words, stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def boot_again(self) -> bool:
        """Boot again a guest that ended before its command began; whether it was done."""
        if self.running or self._boots >= BOOTS or (self._share / "output").exists():
            return False
        self._boot()
        return True

    def wait(self, timeout_s: float) -> int:
        """The command's exit code.

        Raises:
            GuestFailed: if there is none; the console says more.
        """
        assert self._process is not None
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            self.stop()
            said = f"the command did not end in {timeout_s:.0f} s\n{self.output()}"
            raise GuestFailed(said) from error
        status = self._share / "status"
        if not status.exists():
            raise GuestFailed(f"the guest ended before its command\n{self.console()}")
        return int(status.read_text())

    def output(self) -> str:
        """What the command said so far, on both streams."""
        return _text(self._share / "output")

    def console(self) -> str:
        """What the kernel said."""
        return _text(self._share / "console")

    def stop(self) -> None:
        """End the guest at once, and for good."""
        self._boots = BOOTS
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _shared(tag: str, directory: Path, readonly: str) -> list[str]:
    settings = f"local,path={directory},mount_tag={tag},security_model=none,readonly={readonly}"
    return ["-virtfs", f"{settings},multidevs=remap,id={tag}"]
