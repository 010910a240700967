"""The pages of the tutorial are followed word for word, on machines as their readers have them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boot.machine import Machine, needs_machines
from tests.boot.packages import make_packages
from tests.docs.following import Shell, follow
from tests.docs.machines import Machines, copy_packages, machines

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs/tutorial"
ON_A_TERMINAL = ("policy edit", "top")
"""What README shows and only a terminal can be shown."""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """A minimal Debian, on which the package lies, and a laptop."""
    needs_machines()
    packages = make_packages(tmp_path_factory.mktemp("packages"))
    machine = Machine(tmp_path_factory.mktemp("machine"))
    try:
        copy_packages(machine, packages)
        machine.boot()
        with machines(machine, tmp_path_factory.mktemp("laptop") / "home") as found:
            yield found
    finally:
        machine.close()


def test_server(hosts: Machines) -> None:
    """From installing the package to uninstalling it."""
    follow(TUTORIAL / "server.md", hosts)


@pytest.fixture(scope="module")
def installed(hosts: Machines) -> Machines:
    """The same machine with the package installed, which what follows begins with."""
    with Shell(hosts["#"]) as shell:
        output, code = shell.run("apt-get install -y ./ipsecd_*.deb")
        assert code == 0, output
    return hosts


def test_bans_and_feeds(installed: Machines) -> None:
    """Bans that end, lists that last, a feed with mistakes in it, and fail2ban."""
    follow(TUTORIAL / "bans-and-feeds.md", installed)


def test_first_minutes_of_the_readme(installed: Machines) -> None:
    """Its policy is what it says, and its commands can be typed as they stand there."""
    text = (ROOT / "README.md").read_text()
    section = text.partition("## First minutes\n")[2].partition("\n## ")[0]
    blocks = [textwrap.dedent(block) for block in re.findall(r"(?m)(?:^    .*\n)+", section)]
    (policy,) = [block for block in blocks if block.startswith("policy:")]
    commands = [
        line.partition("  #")[0].strip()
        for block in blocks
        for line in block.splitlines()
        if line.startswith("ipsecctl ")
    ]
    assert len(commands) > 8
    with Shell(installed["#"]) as shell:
        assert shell.run(f"cat > web.yaml <<'END'\n{policy}\nEND")[1] == 0
        for command in commands:
            if not any(word in command for word in ON_A_TERMINAL):
                output, code = shell.run(command)
                assert code == 0, (command, output)
        assert (
            shell.run("ipsecctl policy delete Server && ipsecctl policy delete 'Web server'")[1]
            == 0
        )


def test_fleet(installed: Machines) -> None:
    """A policy that is signed on the laptop, and withdrawn there."""
    follow(TUTORIAL / "fleet.md", installed)
