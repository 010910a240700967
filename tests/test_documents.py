"""Manuals, completions and units name what there is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ipsecctl.generate.__main__ import texts
from ipsecctl.generate.leaves import leaves
from ipsecd.__main__ import main

ROOT = Path(__file__).parents[1]
MAN = ROOT / "docs/man"
COMPLETIONS = ROOT / "ctl/completions"
REFERENCE = ROOT / "docs/reference"


def plain(page: Path) -> str:
    """The words of a manual page, without its markup."""
    return re.sub(r"\\f.|\\", "", page.read_text())


def test_what_is_written_from_the_table_is_not_stale() -> None:
    """Completions, synopses and the reference are what the tables say; make generated writes it."""
    for path, text in texts():
        assert path.read_text() == text, f"{path}: run make generated"
    assert {path.parent for path, _ in texts()} == {COMPLETIONS, MAN, REFERENCE}
    assert {path for path, _ in texts()} > {*COMPLETIONS.iterdir()}


def test_every_verb_and_option_is_in_the_manual() -> None:
    """Every verb and option of the table is described in the manual."""
    described = plain(MAN / "ipsecctl.1").partition(".SH DESCRIPTION")[2]
    for word, action, verb in leaves():
        for name in (word, action, *(option.name for option in verb.options)):
            assert re.search(rf"(?<![\w-]){name}\b", described), (word, name)


NAMES = """#!/bin/sh
[ "$1" = show ] && echo '[{"name": "Web of '$2'"}, {"name": "Old"}]'
"""
BASH = """
_init_completion() {
    words=("${COMP_WORDS[@]}") cword=$COMP_CWORD cur=${words[cword]} prev=${words[cword-1]}
}
_filedir() { COMPREPLY=(a.yaml); }
. "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_ipsecctl
printf '%s\\n' "${COMPREPLY[@]}"
"""
OF_CHANGES = {"--confirm", "--force", "--message"}
OFFERED = [
    ("ipsecctl stat", {"status", "stats"}),
    (
        "ipsecctl policy ",
        {"list", "show", "export", "edit", "restore", "assign", "unassign", "create", "delete"},
    ),
    ("ipsecctl policy show ", {"Web of policies", "Old"}),
    ("ipsecctl policy create --d", {"--description"}),
    ("ipsecctl show policy W", {"Web of policies"}),
    ("ipsecctl unblock O", {"Old"}),
    ("ipsecctl rule add P R --action ", {"audit", "block", "permit"}),
    ("ipsecctl rule add --action block P R t", {"tcp/"}),
    ("ipsecctl block udp/1 --for ", {"10m", "1h", "1d"}),
    (
        "ipsecctl apply --",
        {"--assign", "--audit", "--enforce", "--dry-run", "--live", *OF_CHANGES, "--json"},
    ),
    ("ipsecctl apply a", {"a.yaml"}),
    ("ipsecctl stats --", {"--json"}),
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a document, where the command ipsecctl knows some names."""
    command = tmp_path / "bin/ipsecctl"
    command.parent.mkdir()
    command.write_text(NAMES)
    command.chmod(0o755)
    (tmp_path / "a.yaml").touch()
    monkeypatch.setenv("PATH", f"{command.parent}:/usr/bin:/bin")
    return tmp_path


def need(shell: str) -> None:
    if shutil.which(shell) is None:
        assert not os.environ.get("CI"), f"needs {shell}"
        pytest.skip(f"needs {shell}")


def said(words: list[str | Path], place: Path) -> list[str]:
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


BASH_OFFERS = [
    *OFFERED,
    ("ipsecctl --socket /x stat", {"status", "stats"}),
    ("ipsecctl rule add ", {"Web of policies", "Old"}),
    ("ipsecctl rule add P t", set()),
    ("ipsecctl rule remove P ", {"--delete-empty", "--dry-run", *OF_CHANGES, "--json"}),
    ("ipsecctl format -", {"--write", "-w", "--json"}),
]
"""It counts arguments, and offers options too where nothing is known of one."""


@pytest.mark.parametrize(("line", "offered"), BASH_OFFERS)
def test_bash_offers_what_may_follow(place: Path, line: str, offered: set[str]) -> None:
    """Words, options and names, each at its place, and spaces in names escaped."""
    need("bash")
    words: list[str | Path] = ["bash", "-c", BASH, "bash", COMPLETIONS / "ipsecctl.bash"]
    suggested = said([*words, *line.split(" ")], place)
    assert {text.replace("\\ ", " ") for text in suggested if text} == offered


@pytest.mark.parametrize(("line", "offered"), OFFERED)
def test_fish_offers_what_may_follow(place: Path, line: str, offered: set[str]) -> None:
    """The same in fish, where --socket is an option of every verb."""
    need("fish")
    script = f"source {COMPLETIONS / 'ipsecctl.fish'}; complete -C '{line}'"
    suggested = said(["fish", "--no-config", "-c", script], place)
    assert {text.partition("\t")[0] for text in suggested} - {"--socket"} == offered


@pytest.mark.parametrize(
    "key",
    [
        *("backend", "boot", "default-exempt", "essentials", "limits", "on-stop", "unparsable"),
        *("container-engines", "domain"),
        *("connections-per-user", "connections", "frame-bytes", "dynamic-rules", "idle-timeout"),
    ],
)
def test_every_setting_is_in_the_manual(key: str) -> None:
    """The manual of ipsecd.yaml has every key that the daemon takes."""
    assert f'"{key}"' in (ROOT / "daemon/ipsecd/config/__init__.py").read_text()
    assert key in plain(MAN / "ipsecd.yaml.5")


def test_every_option_of_the_daemon_is_in_the_manual(capsys: pytest.CaptureFixture[str]) -> None:
    """The manual of ipsecd has every option that it takes."""
    with pytest.raises(SystemExit):
        main(["--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert len(options) > 5
    for option in options:
        assert option in plain(MAN / "ipsecd.8"), option


@pytest.mark.parametrize(
    ("shell", "file"), [("bash", "ipsecctl.bash"), ("zsh", "_ipsecctl"), ("fish", "ipsecctl.fish")]
)
def test_completions_can_be_read(shell: str, file: str) -> None:
    """Every shell can parse its own completions."""
    need(shell)
    done = subprocess.run(
        [shell, "-n", COMPLETIONS / file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_data_is_installed_where_it_belongs(tmp_path: Path) -> None:
    """Units, settings, manuals and completions; the units run what is installed."""
    words = ["make", "-s", "install-data", f"DESTDIR={tmp_path}", "PREFIX=/opt/x"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    unit = (tmp_path / "opt/x/lib/systemd/system/ipsecd.service").read_text()
    assert "ExecStart=/opt/x/sbin/ipsecd" in unit
    assert "ExecStop=/opt/x/libexec/ipsecd/end-on-purpose" in unit
    for path in (
        "etc/ipsecd/ipsecd.yaml",
        "opt/x/libexec/ipsecd/end-on-purpose",
        "opt/x/lib/sysusers.d/ipsecd.conf",
        "opt/x/lib/tmpfiles.d/ipsecd.conf",
        "opt/x/share/man/man5/ipsec-policy.5",
        "opt/x/share/bash-completion/completions/ipsecctl",
        "opt/x/share/ipsecd/fail2ban/fail2ban.service.d/ipsecd.conf",
        "opt/x/share/ipsecd/sshguard/sshguard.service.d/ipsecd.conf",
        "opt/x/share/ipsecd/crowdsec/crowdsec-custom-bouncer.service.d/ipsecd.conf",
    ):
        assert (tmp_path / path).exists(), path
    bouncer = tmp_path / "opt/x/share/ipsecd/crowdsec/crowdsec-custom-bouncer.yaml.local"
    assert "bin_path: /opt/x/libexec/ipsecd/ipsecd-crowdsec" in bouncer.read_text()


def test_fail2ban_finds_the_modules_that_were_installed(tmp_path: Path) -> None:
    """The action says where they are, which need not be among those of Python itself."""
    words = ["make", "-s", "install-data", f"DESTDIR={tmp_path}", "MODULES=/opt/x/modules"]
    subprocess.run(words, cwd=ROOT, capture_output=True, check=True)
    action = (tmp_path / "etc/fail2ban/action.d/ipsecd-block.py").read_text()
    assert 'sys.path.append("/opt/x/modules")' in action


def test_commands_start_as_isolated_programs(tmp_path: Path) -> None:
    """Each is there under all of its names, and runs; so do those that other programs start."""
    interpreter = sys.executable
    targets = ["install-programs", "install-windows-commands"]
    words = ["make", "-s", *targets, f"DESTDIR={tmp_path}", f"INTERPRETER={interpreter}"]
    subprocess.run(words, cwd=ROOT, capture_output=True, check=True)
    names = {path.name for path in (tmp_path / "usr/local/bin").iterdir()}
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert names == {name for name, main in scripts.items() if main.startswith("ipsecctl.")}
    said = subprocess.check_output([tmp_path / "usr/local/bin/ipsecctl", "--version"], text=True)
    assert said.startswith("ipsecctl ")
    shown = subprocess.run(
        [tmp_path / "usr/local/bin/IPSeccmd.exe", "/?"], capture_output=True, check=False
    )
    assert b"ipseccmd" in (shown.stdout + shown.stderr).lower()
    for name in ("ipsecd-crowdsec", "ipsecd-countries", "sshg-fw-ipsecd"):
        text = (tmp_path / "usr/local/libexec/ipsecd" / name).read_text()
        assert text.startswith(f"#!{interpreter} -I\n")
    wrong = subprocess.run(
        [tmp_path / "usr/local/libexec/ipsecd/ipsecd-crowdsec", "--help"],
        capture_output=True,
        check=False,
    )
    assert (wrong.returncode, b"--flush" in wrong.stderr) == (2, True)
