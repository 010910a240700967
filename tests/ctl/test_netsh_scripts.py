"""Real scripts of netsh: what their authors meant is what is decided, as a file and by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ctl.netsh_host import CLEANS_UP, SCRIPTS, WANTED, NetshHost, netsh_lines


@pytest.fixture(autouse=True)
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts export to the directory that they are run in."""
    monkeypatch.chdir(tmp_path)


def scripts() -> list[str]:
    return sorted(path.name for path in SCRIPTS.iterdir() if path.suffix != ".yaml")


@pytest.mark.parametrize("script", list(WANTED))
def test_verdicts_of_a_file(script: str) -> None:
    """A script as one file, which is one change."""
    host = NetshHost()
    host.file("\n".join(netsh_lines(script)))
    assert host.changes == 1
    judged = [[packet, host.verdict(packet)] for packet, _ in WANTED[script]]
    assert judged == [list(pair) for pair in WANTED[script]]


@pytest.mark.parametrize("script", list(WANTED))
def test_verdicts_line_by_line(script: str) -> None:
    """The same script, a process for each line."""
    host = NetshHost()
    for line in netsh_lines(script):
        host.line(line)
    judged = [[packet, host.verdict(packet)] for packet, _ in WANTED[script]]
    assert judged == [list(pair) for pair in WANTED[script]]


@pytest.mark.parametrize("script", scripts())
def test_a_file_comes_to_what_its_lines_come_to(script: str) -> None:
    """Unless a line of it is refused, which keeps the file from being carried out."""
    by_file, by_line = NetshHost(), NetshHost()
    answers = [by_line.line(line) for line in netsh_lines(script)]
    answer = by_file.file("\n".join(netsh_lines(script)))
    if not all(each.understood for each in answers):
        assert (answer.code, answer.understood, by_file.changes) == (1, False, 0)
        return
    for member in ("documents", "assigned", "shared", "dynamic"):
        assert getattr(by_file, member) == getattr(by_line, member)
    assert answer.code == max(each.code for each in answers)


@pytest.mark.parametrize("script", list(WANTED))
def test_what_works_says_nothing(script: str) -> None:
    """Only ``show`` has lines, and errors, which are of what exists or does not."""
    host = NetshHost()
    for line in netsh_lines(script):
        answer = host.line(line)
        if " show " not in line:
            assert not answer.lines or answer.lines[0].startswith("ERR IPsec[050")
        assert answer.understood
        assert bool(answer.code) is any(each.startswith("ERR") for each in answer.lines)


@pytest.mark.parametrize("script", list(CLEANS_UP))
def test_a_script_that_cleans_up_leaves_no_policy(script: str) -> None:
    """Its lists and actions stay, as they are no part of a policy."""
    host = NetshHost()
    for line in (SCRIPTS / script).read_text().splitlines():
        if line.startswith("netsh"):
            host.line(line)
    assert (host.documents, host.assigned) == ({}, None)
    assert host.shared.lists
    assert host.shared.actions


def test_a_policy_that_is_left_without_rules_is_told() -> None:
    """Its action is refused, so its rule is not there, and assigning it says that it is open."""
    host = NetshHost()
    answers = [host.line(line) for line in netsh_lines("27-psk.bat")]
    assert [answer.code for answer in answers] == [1] * 5 + [0, 0, 0, 1, 1, 0]
    assert "action=negotiate asks for encryption" in answers[8].lines[0]
    assert "there is no such filter action" in answers[9].lines[0]
    assert answers[10].hints == (
        "policy 'SecurityPolicy' is assigned and has no rule: it blocks nothing",
    )
