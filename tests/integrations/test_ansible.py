"""The Ansible collection, with real Ansible and a real daemon.

One playbook has all steps. Each is done three times: in check mode, really, and again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.netns import site

pytestmark = pytest.mark.netns

ROOT = Path(__file__).parents[2]
COLLECTION = ROOT / "integrations/ansible"
BIN = Path(sys.executable).parent
MODULES = ("policy", "rule", "list", "block")

WEB = """\
# A comment that Ansible need not care about.
policy: Web
rules:
  - rule: R
    action: block
    filters: ["*=0:80:TCP", "@bans=0"]
"""
ENDS = f"{time.gmtime().tm_year + 2}-01-01T00:00Z"
Step = tuple[str, str, dict[str, Any], str]
STEPS: tuple[Step, ...] = (
    ("a list with entries", "list", {"name": "bans", "entries": ["203.0.113.7"]}, "203.0.113.7\n"),
    (
        "more entries, in other words",
        "list",
        {"name": "bans", "entries": ["203.0.113.7/32", "10.0.0.0-10.0.1.255", "[2001:db8::7]"]},
        "10.0.0.0/23\n2001:db8::7\n203.0.113.7\n",
    ),
    (
        "an entry taken out",
        "list",
        {"name": "bans", "entries": ["203.0.113.7", "192.0.2.1"], "state": "absent"},
        "10.0.0.0/23\n2001:db8::7\n",
    ),
    (
        "these entries alone",
        "list",
        {"name": "bans", "entries": ["192.0.2.2", "192.0.2.1"], "purge": True},
        "192.0.2.1\n192.0.2.2\n",
    ),
    ("a policy", "policy", {"name": "Web", "content": WEB}, "assigned: no"),
    ("in force", "policy", {"name": "Web", "content": WEB, "assigned": True}, "assigned: yes"),
    (
        "another content",
        "policy",
        {"name": "Web", "content": WEB.replace("80", "81"), "message": "another port"},
        "*=0:81:TCP",
    ),
    (
        "a rule",
        "rule",
        {"policy": "Web", "name": "S", "action": "block", "filters": ["tcp/23", "*=0:69:UDP"]},
        '+ rule "S"',
    ),
    ("no such rule", "rule", {"policy": "Web", "name": "S", "state": "absent"}, ""),
    (
        "a block with an end",
        "block",
        {"name": "b", "filters": ["203.0.113.9"], "ends": ENDS},
        "filter: 203.0.113.9=0",
    ),
    ("no such block", "block", {"name": "b", "state": "absent"}, ""),
    ("a policy without rules", "policy", {"name": "Empty"}, "policy: Empty\nrules: []\n"),
    ("not in force", "policy", {"name": "Web", "assigned": False}, "assigned: no"),
    ("no such policy", "policy", {"name": "Web", "state": "absent"}, ""),
    ("no such list", "list", {"name": "bans", "state": "absent"}, ""),
)
"""A name, a module, what it is given, and a part of what the difference shows after it."""
FAILING: tuple[tuple[str, dict[str, Any], str, str], ...] = (
    ("policy", {"name": "Bad", "content": "policy: Bad\nrules: 7\n"}, "InvalidInput", "line 2: "),
    ("policy", {"name": "Other", "content": WEB}, "InvalidInput", "that of policy 'Web'"),
    ("rule", {"policy": "No", "name": "R"}, "", "action"),
    ("list", {"name": "x", "entries": ["nonsense"]}, "InvalidInput", "nonsense"),
    ("block", {"name": "b", "filters": ["tcp/1"], "socket": "/absent"}, "Unreachable", "/absent"),
)
Results = dict[str, Any]


def environment(path: Path) -> dict[str, str]:
    """What Ansible needs to find the collection, and to leave all else alone."""
    place = path / "ansible_collections/ipsecd"
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "host").exists():
        (place / "host").symlink_to(COLLECTION)
    (path / "ansible.cfg").touch()
    return {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "IPSECD_SOCKET": str(path / "run/ipsecd.sock"),
        "ANSIBLE_COLLECTIONS_PATH": str(path),
        "ANSIBLE_HOME": str(path / "home"),
        "ANSIBLE_LOCAL_TEMP": str(path / "temporary"),
        "ANSIBLE_CONFIG": str(path / "ansible.cfg"),
        "ANSIBLE_PIPELINING": "1",
        "LC_ALL": "C.UTF-8",
    }


def playbook(path: Path) -> str:
    """All steps, whose results go into one file."""
    tasks: list[dict[str, Any]] = []
    for number, (name, module, given, _) in enumerate(STEPS):
        modes = {"check_mode": "{{ item }}", "loop": [True, False, False]}
        task = {"name": name, f"ipsecd.host.{module}": given, "register": f"step{number}", **modes}
        tasks.append(task)
    for number, (module, given, _, _) in enumerate(FAILING):
        task = {f"ipsecd.host.{module}": given, "register": f"fails{number}"}
        tasks.append({**task, "ignore_errors": True})
    steps = ", ".join(f"step{number}.results" for number in range(len(STEPS)))
    fails = ", ".join(f"fails{number}" for number in range(len(FAILING)))
    content = f"{{{{ {{'steps': [{steps}], 'fails': [{fails}]}} | to_json }}}}"
    file = {"content": content, "dest": str(path / "results.json")}
    tasks.append({"ansible.builtin.copy": file})
    play = {"hosts": "localhost", "gather_facts": False, "connection": "local", "tasks": tasks}
    interpreter = {"vars": {"ansible_python_interpreter": sys.executable}}
    text: str = yaml.safe_dump([{**play, **interpreter}])
    return text


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    """What came of the playbook."""
    path = tmp_path_factory.mktemp("ansible")
    (path / "play.yaml").write_text(playbook(path))
    with site.daemon(path) as daemon:
        done = subprocess.run(
            [BIN / "ansible-playbook", "--diff", "-i", "localhost,", path / "play.yaml"],
            capture_output=True,
            text=True,
            env=environment(path),
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-4000:]}{done.stderr}"
        told = json.loads((path / "results.json").read_text())
        history = json.loads(daemon.ctl("history", "--json"))
        yield {**told, "messages": [row["message"] for row in history], "out": done.stdout}


@pytest.mark.parametrize("number", range(len(STEPS)), ids=[step[0] for step in STEPS])
def test_check_mode_tells_the_truth_and_the_second_run_changes_nothing(
    results: Results, number: int
) -> None:
    """What check mode says, the run does; had check mode done it, the run would change nothing."""
    check, first, second = results["steps"][number]
    assert (check["changed"], first["changed"], second["changed"]) == (True, True, False)
    assert check["diff"] == first["diff"]
    assert first["diff"]["before"] != first["diff"]["after"]
    assert STEPS[number][3] in first["diff"]["after"]
    assert second["diff"]["before"] == second["diff"]["after"]
    told = [{k: v for k, v in each.items() if k in RETURNED} for each in (check, first)]
    assert told[0] == told[1]


RETURNED = ("changes", "policy", "entries", "added", "removed")


@pytest.mark.parametrize("number", range(len(FAILING)))
def test_what_is_refused_fails_with_the_words_of_the_daemon(results: Results, number: int) -> None:
    """And with the name of the error, and a hint."""
    _, _, name, words = FAILING[number]
    told = results["fails"][number]
    assert told["failed"]
    assert words in told["msg"]
    assert told.get("error", "") == name


def test_the_history_has_what_it_was_for(results: Results) -> None:
    """As somebody wrote in the playbook."""
    assert "another port" in results["messages"]


def test_people_see_the_difference(results: Results) -> None:
    """With --diff, lines before and after."""
    assert "-203.0.113.7\n" in results["out"]
    new = [line for line in results["out"].splitlines() if line.startswith("+")]
    assert any("*=0:81:TCP" in line for line in new)


def test_every_module_is_documented(tmp_path: Path) -> None:
    """The real ansible-doc renders each, with an example that is a task of that module."""
    names = [f"ipsecd.host.{module}" for module in MODULES]
    done = subprocess.run(
        [BIN / "ansible-doc", "--json", "-t", "module", *names],
        capture_output=True,
        text=True,
        env=environment(tmp_path),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert sorted(told) == sorted(names)
    for name, page in told.items():
        assert {"executable", "socket", "force", "message"} <= page["doc"]["options"].keys()
        assert page["doc"]["attributes"]["check_mode"]["support"] == "full"
        assert all(name in task for task in yaml.safe_load(page["examples"]))
        assert {"error", "hint"} <= page["return"].keys()


def test_all_of_it_is_installed(tmp_path: Path) -> None:
    """Every file of the collection is where Ansible looks for it, and nothing else."""
    words = ("make", "-s", "install-data", f"DESTDIR={tmp_path}", "PREFIX=/usr")
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    installed = tmp_path / "usr/share/ansible/collections/ansible_collections/ipsecd/host"
    there, here = (
        {
            str(file.relative_to(place)): file.read_bytes()
            for file in place.rglob("*")
            if file.is_file() and file.suffix != ".pyc"
        }
        for place in (installed, COLLECTION)
    )
    assert there == here


def test_what_ansible_wants_to_know_of_a_collection_is_there() -> None:
    """Its name, its modules, and what it is tested with."""
    facts = yaml.safe_load((COLLECTION / "galaxy.yml").read_text())
    assert {"namespace", "name", "version", "readme", "authors"} <= facts.keys()
    assert (COLLECTION / facts["readme"]).exists()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert any("ansible-core" in each for each in extras["optional-dependencies"]["test"])
    assert {file.stem for file in (COLLECTION / "plugins/modules").glob("*.py")} == set(MODULES)
