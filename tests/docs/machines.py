"""The machines of the tutorial: a booted Debian that serves SSH and the web, and who works with it.

This is all that readers bring along. What the pages have them do is in the pages alone.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.boot.machine import GUEST, HERE, PEER, Machine
from tests.containers.engines import podman
from tests.netns import site
from tests.netns.neighbours import process, sshd
from tests.netns.scans import program
from tests.netns.site import OUTSIDE, eventually, inside, run

TERMINAL = ("LANG=C.UTF-8", "TERM=dumb", "DEBIAN_FRONTEND=noninteractive")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LOGIN = """
ForceCommand {machine} setsid --wait bash -c 'eval "$SSH_ORIGINAL_COMMAND"'
"""
SSH = """#!/bin/sh
exec {program} -F {directory}/ssh_config "$@"
"""
SSH_CONFIG = """
IdentityFile {directory}/ssh/key
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
BatchMode yes
ConnectTimeout 60
LogLevel ERROR
"""

Machines = dict[str, tuple[str, ...]]
"""Machines by their prompts, as the words that run a command there."""


@contextmanager
def machines(machine: Machine, directory: Path) -> Iterator[Machines]:
    """A machine that has been booted, with an SSH server and a web server, and a laptop beside it.

    Its servers run in its network, and not among its processes: a minimal Debian has none. Who logs
    in by SSH is in the machine.
    """
    commands = directory / "bin"
    commands.mkdir(parents=True)
    (directory / "page").mkdir()
    (directory / "page/index.html").write_text("It works.\n")
    (directory / "ssh_config").write_text(SSH_CONFIG.format(directory=directory))
    (commands / "ssh").write_text(SSH.format(program=program("ssh"), directory=directory))
    (commands / "ssh").chmod(0o755)
    (commands / "ipsecctl").symlink_to(Path(sys.executable).with_name("ipsecctl"))
    shown = ("-m", "http.server", "--directory", str(directory / "page"), "80")
    as_root = ("env", "-C", "/root", *TERMINAL, "HOME=/root", f"PATH={SYSTEM_PATH}")
    login = LOGIN.format(machine=shlex.join((*machine.inside(), *as_root)))
    with ExitStack() as stack:
        stack.enter_context(
            sshd(inside(GUEST), program("sshd"), directory / "ssh", HERE, more=login)
        )
        stack.enter_context(process([*inside(GUEST), sys.executable, *shown]))
        page = (*inside(PEER), "curl", "-s", f"http://{HERE}/")
        assert eventually(lambda: "works" in run(*page, check=False), 20)
        run("ip", "-n", PEER, "link", "set", "lo", "up")
        own = (f"HOME={directory}", f"PATH={commands}:{SYSTEM_PATH}")
        yield {
            "#": (*machine.inside(), "env", "-i", *as_root[1:], "setsid", "--wait"),
            "laptop$": (*inside(PEER), "env", "-i", "-C", str(directory), *TERMINAL, *own),
        }


def copy_packages(machine: Machine, packages: tuple[Path, Path]) -> None:
    """Have the packages lie where a reader of the first page has put them."""
    package, of_next = packages
    home = machine.root / "root"
    (home / "new").mkdir()
    shutil.copy(package, home)
    shutil.copy(of_next, home / "new")


@contextmanager
def container_host(directory: Path) -> Iterator[Machines]:
    """This host with a running daemon and Podman, which has the image of the page, and a laptop."""
    with podman(directory) as engine, site.daemon(directory) as daemon:
        pack = ("tar", "-C", str(engine.root), "-c", ".")
        with subprocess.Popen(pack, stdout=subprocess.PIPE) as packed:
            words = ("podman", "import", "--quiet", "-", "docker.io/library/busybox")
            subprocess.run(words, stdin=packed.stdout, env=engine.environment, check=True)
        socket = daemon.environment["IPSECD_SOCKET"]
        engine.install_hook(socket)
        here = ("env", "-C", str(directory), *TERMINAL, f"IPSECD_SOCKET={socket}")
        configuration = engine.environment["CONTAINERS_CONF"]
        path = f"PATH={Path(sys.executable).parent}:{SYSTEM_PATH}"
        yield {
            "#": (*here, f"CONTAINERS_CONF={configuration}", path),
            "laptop$": (*OUTSIDE, "env", "-C", str(directory), *TERMINAL),
        }
