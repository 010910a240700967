"""Every command of ``ipsecctl`` in the documentation: all are read, and most of them are run."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipsecctl.failures import UsageError
from ipsecctl.options import find_action, parse_options
from ipsecctl.verbs import DIALECTS, VERBS
from tests.docs.following import Shell
from tests.docs.tables import Line, of_blocks, of_sentences, of_tables, words
from tests.netns.site import daemon

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
    # What was decided or changed at some time speaks of the commands of that time. The reference is
    # written from the table that commands are read by, with brackets around what may be left out.
    if not {"decisions", "changelog.d", "reference"} & set(path.parts)
)
NO_COMMANDS = {
    "ipsecctl top  3 rules, 1,214 packets/s  by RATE/s": "the first line of a screen",
    "ipsecctl --json": "what all verbs take",
    "ipsecctl revert puts it back now": "what a change with --confirm prints",
}
PARSED_ONLY = {
    "ipsecctl monitor": "goes on until somebody ends it: tests/netns/test_monitor.py",
    "ipsecctl top": "goes on in a terminal: tests/ctl/test_top.py",
    "ipsecctl top --once --json | jq": "jq need not be there",
    "ipsecctl policy edit": "asks for a terminal: tests/ctl/test_ctl_editing.py",
    "ipsecctl apply web.yaml --assign --json | jq": "jq need not be there",
    "ipsecctl apply web.yaml --assign --dry-run --json | jq": "jq need not be there",
    "ipsecctl export json": "jq need not be there: tests/netns/test_export.py",
    "ipsecctl web": "goes on until somebody ends it: tests/web",
    "ipsecctl backup /root": "writes into a home: tests/netns/test_restoring.py",
    "ipsecctl restore /root": "reads from a home: tests/netns/test_restoring.py",
    "ipsecctl import ufw /etc": "needs the host of the page of ufw: tests/docs/test_coming_from.py",
    "ipsecctl import firewalld /etc": "needs files of firewalld: tests/docs/test_coming_from.py",
    "ipsecctl import hosts.deny /etc": "needs files of a host: tests/ctl/importing",
    "ipsecctl list create drop --from https": "needs the internet: tests/netns/test_feeds.py",
    "ipsecctl reload": "of lists that another program makes: tests/integrations/test_countries.py",
    'ipsecctl block "service:': "needs a unit that runs: tests/netns/test_host_services.py",
    'ipsecctl permit "cgroup:': "needs a control group: tests/netns/test_host_services.py",
    'ipsecctl explain "tcp me:40000': "needs a unit that runs: tests/netns/test_host_services.py",
    'ipsecctl explain "udp container:': "needs a container: tests/containers",
    "ipsecctl quarantine container:": "needs a container: tests/containers",
    "ipsecctl release container:": "needs a container: tests/containers",
    "ipsecctl domain": "needs a repository under /srv, keys and other hosts: tests/domain",
    "ipsecctl explain --at": "nothing was recorded that day: tests/netns/test_recorder.py",
    "ipsecctl learn Server": "needs what was seen: tests/netns/test_learn.py",
    "ipsecctl apply lock.yaml": "refused who works from afar: tests/netns/test_guard.py",
    "ipsecctl list create spammers": "of a policy that names a list: tests/ctl/test_ctl_import.py",
    "ipsecctl import windows-firewall rules.txt": "needs listings of Windows: tests/ctl/importing",
}
"""How lines begin that are read and not run, and why."""
ENDS_WITH_1 = {
    "ipsecctl import iptables-save rules.v4 -o imported --policy Server --prove",
    "ipsecctl run office.cmd",
    "ipsecctl diff @2",
    "ipsecctl diff @3 @2",
}
"""How lines begin that the pages show to be refused, or to find a difference."""


def lines(page: Path) -> Iterator[tuple[Line, bool]]:
    """The command lines of a page, and whether each is whole: sentences may leave words out."""
    text = page.read_text()
    for found, whole in ((of_blocks, True), (of_tables, True), (of_sentences, False)):
        for line in found(text):
            if line.text.startswith("ipsecctl ") and line.text not in NO_COMMANDS:
                yield line, whole


def mistake(line: Line, *, whole: bool) -> str | None:
    """What is wrong with a command line, for the one who reads command lines."""
    typed = words(line)
    if typed[1] in DIALECTS:
        return None
    verb = VERBS.get(typed[1])
    if verb is None:
        return f"there is no verb {typed[1]!r}"
    try:
        parse_options(*find_action(verb, typed[2:]))
    except UsageError as error:
        left_out = re.search(r"missing$|needs a value$|needs to know|give container", error.message)
        return None if left_out and not whole else error.message
    return None


def test_every_command_is_one_that_there_is() -> None:
    """Verbs, options and how many words there may be, on all pages."""
    wrong, count = [], 0
    for page in PAGES:
        for line, whole in lines(page):
            count += 1
            if said := mistake(line, whole=whole):
                wrong.append(f"{page.name}, line {line.line}: {line.text}: {said}")
    assert not wrong, "\n".join(wrong)
    assert count > 350


@pytest.mark.parametrize(
    ("text", "whole", "wrong"),
    [
        ("ipsecctl block udp/1434 --for 1h | cat # for an hour", True, False),
        ("ipsecctl block", True, True),
        ("ipsecctl block", False, False),
        ("ipsecctl blok", False, True),
        ("ipsecctl block --until 1h", False, True),
        ("ipsecctl policy kill NAME", False, True),
        ("ipsecctl confirm it now", True, True),
    ],
)
def test_what_is_no_command_is_found(text: str, whole: bool, wrong: bool) -> None:
    """A page that speaks of what is not there is found."""
    assert (mistake(Line(1, text), whole=whole) is not None) == wrong


def test_every_reason_is_needed() -> None:
    """Nothing is kept from being run that no page has any more."""
    texts = [line.text for page in PAGES for line, _ in lines(page)]
    for beginning in (*PARSED_ONLY, *ENDS_WITH_1):
        assert any(text.startswith(beginning) for text in texts), beginning
    every = "\n".join(page.read_text() for page in PAGES)
    assert all(text in every for text in NO_COMMANDS)


WEB = """
policy: NAME
rules:
  - {rule: Closed, action: block, when: opening, filters: ["*=0"]}
  - {rule: Web, action: permit, filters: ["*=0:80,443:TCP", "*=0:22:TCP"]}
"""
FILES = {
    "bans.txt": "203.0.113.7\n198.51.100.0/25\n",
    "drop.txt": "203.0.113.0/24\n198.51.100.7\n",
    "web.yaml": WEB.replace("NAME", "Web"),
    "web-server.yaml": WEB.replace("NAME", "Web server"),
    "server.yaml": WEB.replace("NAME", "Server"),
    "firewall.cmd": 'ipseccmd -w REG -p "CAMPUS" -r "Block TCP/80" -f *+0:80:TCP -n BLOCK\r\n',
    "office.cmd": "ipseccmd -w REG -p Office -r T -t 203.0.113.1 -f 10.9.0.2=10.0.0.0/8 -n ESP\r\n",
    "rules.v4": """
*filter
:INPUT DROP [0:0]
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p tcp --dport 22 -j ACCEPT
COMMIT
""",
    "rules.v6": """
*filter
:INPUT ACCEPT [0:0]
COMMIT
""",
    "ruleset.nft": "table inet t {\n chain c {\n  type filter hook input priority 0;\n }\n}\n",
    "sets": "create spammers hash:net family inet\nadd spammers 198.51.100.0/24\n",
}
"""What the reader of these pages has."""
BEFORE = {
    "docs/changing-safely.md": (
        "ipsecctl apply server.yaml --assign",
        "ipsecctl rule add Server Mail tcp/25 --action permit",
        "ipsecctl rule add Server Names udp/53 --action permit",
        "ipsecctl rule remove Server Mail",
    ),
    "docs/export.md": ("ipsecctl rule add Web Telnet tcp/23 --action block --create --assign",),
}
"""What the reader has done before."""


@pytest.mark.netns
@pytest.mark.parametrize(
    "page",
    [
        *("README.md", "docs/audit.md", "docs/changing-safely.md", "docs/containers.md"),
        *("docs/export.md", "docs/flight-recorder.md", "docs/import.md"),
        *("docs/lists.md", "docs/scripts.md"),
    ],
)
def test_commands_are_run(page: str, tmp_path: Path) -> None:
    """In the order of the page, each with success, but for those that have a reason not to be."""
    for name in ("home", "daemon"):
        (tmp_path / name).mkdir()
    for name, text in FILES.items():
        (tmp_path / "home" / name).write_text(text)
    path = f"PATH={Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
    failed = []
    with daemon(tmp_path / "daemon") as running:
        socket = f"IPSECD_SOCKET={running.environment['IPSECD_SOCKET']}"
        here = ("env", "-i", "-C", str(tmp_path / "home"), "LANG=C.UTF-8", path, socket)
        with Shell(here) as shell, Shell(("setsid", *here)) as new_login:
            before = [Line(0, text) for text in BEFORE.get(page, ())]
            for line in (*before, *of_blocks((ROOT / page).read_text())):
                if line.text in NO_COMMANDS or line.text.startswith(tuple(PARSED_ONLY)):
                    continue
                confirms = line.text.startswith("ipsecctl confirm")
                printed, code = (new_login if confirms else shell).run(line.text)
                if code != line.text.startswith(tuple(ENDS_WITH_1)):
                    failed.append(f"{page}, line {line.line}: {line.text}: {code}\n{printed}")
    assert not failed, "\n".join(failed)
