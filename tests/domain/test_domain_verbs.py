"""Tests of the verbs on the domain policy: what they do, say and answer with."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipsecctl.options import find_action, parse_options
from ipsecctl.verbs import VERBS
from ipsecd_domain.repository.rotation import keygen
from tests.ctl.conftest import Run
from tests.ctl.fake_daemon import DOMAIN, FakeDaemon, served
from tests.domain.certificates import Authority
from tests.domain.fake_web import fake_web
from tests.domain.fleets import WEB, Fleet, now


class Daemon(FakeDaemon):
    """Has a domain whose state a test can change."""

    def tells(self, **changed: Any) -> None:
        self.replies["GetDomain"] = {"domain": {**DOMAIN, **changed}}


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    with served(Daemon, monkeypatch) as fake:
        yield fake


@pytest.fixture
def policy(tmp_path: Path) -> str:
    path = tmp_path / "web.yaml"
    path.write_bytes(WEB)
    return str(path)


def test_a_fleet_from_nothing(run: Run, tmp_path: Path, policy: str, daemon: Daemon) -> None:
    """The commands of the manual, one after the other, and what they say."""
    repository, keys = str(tmp_path / "fleet"), str(tmp_path / "secret")
    made = run("init", repository, "--keys", keys)
    assert (made.code, made.err) == (0, "")
    assert "take root1.pem, root2.pem, root3.pem to places of their own" in made.out
    ran = run("publish", repository, policy, "--keys", keys, "--to", "web", "--host", "web*",
              "--label", "site=paris", "--interval", "10m", "--precedence", "2")  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "policy 'Web' is published for group 'web' named 'web*' with site=paris · version 2",
        f"new key: {keys}/group-web.pem",
    ]
    ran = run("publish", repository, policy, "--keys", keys, "--canary", "5%", "--json")
    assert json.loads(ran.out)["canary"] == 5.0
    said = run("status", repository)
    assert said.code == 0
    assert "policy 'Web' (all/web.canary.yaml): all hosts · 5% of them" in said.out
    assert "root1, root2, root3 (2 needed)" in said.out
    ran = run("explain", "--repo", repository, "--host", "web1", "--group", "web",
              "--label", "site=paris")  # fmt: skip
    assert ran.out.startswith("host 'web1' in group web with site=paris: policy 'Web'\n")
    assert (
        "\n  policy 'Web' (group/web/web.yaml) is for group 'web' with a name that its pattern "
        "matches with site=paris\n"
    ) in ran.out
    trusted = run("trust", f"file://{repository}")
    [(method, given)] = daemon.calls
    assert method == "TrustDomain"
    assert given is not None
    root = Path(repository, "metadata/root.json").read_text()
    assert given == {"root": root}
    sha256 = hashlib.sha256(root.encode()).hexdigest()
    assert trusted.out == f"the change is made\nroot 1 · SHA-256 {sha256}\n"
    ran = run("keygen", repository, "--keys", keys, "--role", "timestamp", "--role", "web")
    assert ran.out.startswith("new keys: timestamp, group-web\nsigned: group-web 2, root 2,")
    assert "snapshot 5, timestamp 5" in run("sign", repository, "--keys", keys).out
    gone = run("withdraw", repository, "--keys", keys, "--to", "web")
    assert gone.out == "withdrawn: group-web · version 6\n"
    assert "group-web: withdrawn" in run("status", repository).out


def test_the_status_of_a_host(run: Run, daemon: Daemon) -> None:
    """A line for each thing; a problem is a failure, and trusted metadata is not shown."""
    said = run("status")
    assert said.code == 0
    assert said.out.splitlines()[:2] == [
        "source    file:///srv/fleet",
        "host      web1 · group web · site=paris",
    ]
    assert "policy    'Web' (group/web/web.yaml), taken" in said.out
    assert "lists     @drop (2,000 entries)\n" in said.out
    assert "looked    never" in said.out
    assert "trusted" not in json.loads(run("status", "--json").out)
    daemon.tells(problem="the source cannot be reached\n  hint: look at the network")
    said = run()
    assert said.code == 1
    last = said.out.splitlines()[-1]
    assert last == "problem   the source cannot be reached; hint: look at the network"
    daemon.tells(withdrawn=True)
    assert "withdrawn" in run("status").out
    daemon.tells(withdrawn=False, policy=None)
    assert "policy    none is for this host\n" in run("status").out
    daemon.tells(version=0, problem="")
    said = run("status")
    assert (said.code, "policy    not fetched yet\n" in said.out) == (0, True)
    assert "version" not in said.out


def test_a_proxy_without_its_password_is_not_tried(run: Run, daemon: Daemon) -> None:
    """Only root is told the password, so only root can trust a repository behind the proxy."""
    daemon.tells(proxy="http://us:…@127.0.0.1:9")
    refused = run("trust", "https://policy.example.net/fleet")
    assert refused.code == 1
    assert "takes a password, which only root is told" in refused.err
    assert "run it as root" in refused.err
    daemon.tells(proxy="http://us:pw@127.0.0.1:9")
    assert "only root" not in run("trust", "https://policy.example.net/fleet").err


def test_a_refresh_waits_as_long_as_told(run: Run, daemon: Daemon) -> None:
    """Thirty seconds, or what is given."""
    assert run("refresh").out == "the change is made\n"
    run("refresh", "--wait", "5m")
    assert daemon.calls == [("RefreshDomain", {"wait_s": 30.0}), ("RefreshDomain", {"wait_s": 300})]
    assert run("refresh", "--wait", "2h").code == 2


def test_a_host_explains_its_policy(run: Run, daemon: Daemon) -> None:
    """By what the daemon remembers of its choice."""
    said = run("explain")
    assert said.out.splitlines() == [
        "host 'web1' in group web with site=paris: policy 'Web'",
        "  policy 'Web' (group/web/web.yaml) is for group 'web'",
        "  it goes before another",
    ]
    assert json.loads(run("explain", "--json").out)["why"][1] == "it goes before another"
    assert {method for method, _ in daemon.calls} == {"GetDomain"}


def test_what_a_repository_says_drives_no_terminal(run: Run, fleet: Fleet, daemon: Daemon) -> None:
    """Names that others chose are printed escaped, on their line."""
    daemon.tells(source="a\x1b[31m\nFORGED", problem="x\x07\nFORGED", why="\x1b]0;x")
    for words in (["status"], ["explain"]):
        said = run(*words)
        assert said.out.replace("\n", "").isprintable()
        assert not any(line.startswith("FORGED") for line in said.out.splitlines())
    name = '"W\u202e\\u0007"'
    with pytest.raises(Exception, match="printable"):
        fleet.publish(f"policy: {name}\nrules: []\n".encode())


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["init", "REPO"], 2, "--keys"),
        (["init", "REPO", "--keys", "KEYS"], 1, "a repository already"),
        (["publish", "REPO", "POLICY", "--keys", "KEYS", "--canary", "0"], 2, "no share"),
        (["publish", "REPO", "POLICY", "--keys", "KEYS", "--canary", "nan"], 2, "no share"),
        (["publish", "REPO", "POLICY", "--keys", "KEYS", "--label", "site"], 2, "no label"),
        (["publish", "REPO", "POLICY", "--keys", "KEYS", "--precedence", "x"], 2, "whole number"),
        (["publish", "REPO", "POLICY", "--keys", "KEYS", "--interval", "1s"], 1, "10 seconds"),
        (["publish", "REPO", "POLICY", "--keys", "KEYS", "--to", "a/b"], 1, "a group is"),
        (["publish", "REPO", "POLICY", "--keys", "KEYS", "--host", "a/b"], 1, "a pattern is"),
        (["publish", "REPO", "POLICY", "--keys", "/nowhere"], 1, "targets is not in"),
        (["publish", "/nowhere", "POLICY", "--keys", "KEYS"], 1, "cannot write into"),
        (["publish", "REPO", "KEYS/root1.pem", "--keys", "KEYS"], 1, "root1.pem"),
        (["keygen", "REPO", "--keys", "KEYS", "--role", "mail"], 1, "no key 'mail'"),
        (["withdraw", "REPO", "--keys", "KEYS", "--to", "mail"], 1, "no group 'mail'"),
        (["withdraw", "REPO", "--keys", "/nowhere"], 1, "nothing was withdrawn"),
        (["status", "/nowhere"], 1, "no repository"),
        (["trust", "/nowhere"], 1, "'/nowhere/metadata/root.json' is not there"),
        (["trust", "http://example.net/"], 1, "can be read from here"),
        (["explain", "--repo", "REPO"], 2, "--host"),
        (["explain", "--host", "web1"], 2, "goes with --repo"),
        (["explain", "--repo", "REPO", "--host", "a b"], 1, "a host is named"),
        (["refresh", "--wait", "x"], 2, "length of time"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_refusals_say_why_and_what_to_do(
    run: Run, fleet: Fleet, policy: str, daemon: Daemon, words: list[str], code: int, reason: str
) -> None:
    """With the exit codes of all commands, and nothing has changed."""
    places = {"REPO": str(fleet.repository), "KEYS": str(fleet.keys), "POLICY": policy}
    argv = [places.get(word) or word.replace("KEYS/", f"{fleet.keys}/", 1) for word in words]
    before = sorted(fleet.repository.rglob("*.*"))
    ran = run(*argv)
    assert ran.code == code, ran.err
    assert reason in ran.err
    assert "hint: " in ran.err
    assert sorted(fleet.repository.rglob("*.*")) in (before, [*before, fleet.repository / ".lock"])
    assert daemon.calls == []


def test_a_change_that_is_made_is_no_failure(fleet: Fleet, policy: str) -> None:
    """The exit code tells about the repository, and standard error that nobody was told."""
    words = ["domain", "publish", str(fleet.repository), policy, "--keys", str(fleet.keys)]
    done = subprocess.run(
        ["bash", "-c", 'exec "$@" >/dev/full', "bash", sys.executable, "-m", "ipsecctl", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "what was asked for is done, but the output could not be written" in done.stderr


def test_a_root_from_a_web_server(run: Run, fleet: Fleet, daemon: Daemon, tmp_path: Path) -> None:
    """The newest one, over TLS as the source is set up; and of no server that is not certified."""
    keygen(fleet.repository, fleet.keys, ["root1"], now())
    authority = Authority(tmp_path)
    files = authority.certify("web")
    with fake_web(fleet.repository, authority.server(files)) as server:
        assert run("trust", server.url).code == 1
        assert run("trust", server.url.replace("https", "http")).code == 1
        daemon.tells(ca=files.ca, certificate=files.certificate, key=files.key)
        trusted = run("trust", server.url)
        assert (trusted.code, trusted.err) == (0, "")
        root = (fleet.repository / "metadata/2.root.json").read_text()
        assert daemon.calls[-1] == ("TrustDomain", {"root": root})
        (fleet.repository / "metadata/root.json").write_text(root.replace("2", "3"))
        assert run("trust", server.url).code == 1
    assert [method for method, _ in daemon.calls].count("TrustDomain") == 1


GUIDE = Path(__file__).parents[2] / "docs/domain.md"
COMMANDS = re.findall(r"^ *ipsecctl (domain .*?)(?: +#.*)?$", GUIDE.read_text(), re.MULTILINE)


def test_the_guide_has_commands() -> None:
    """The search below finds them."""
    assert len(COMMANDS) > 15


@pytest.mark.parametrize("line", COMMANDS)
def test_the_guide_is_to_be_copied(line: str) -> None:
    """Every command in it is one that there is."""
    verb, words = find_action(VERBS["domain"], shlex.split(line)[1:])
    assert parse_options(verb, words).verb is verb


def test_a_fleet_in_ten_minutes(tmp_path: Path) -> None:
    """The first block of the guide runs as it stands there, in a shell."""
    block = re.search(r"```sh\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert block
    bin_directory = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-euc", block[1].replace("/srv/fleet", "fleet")],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": f"{bin_directory}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "policy 'Web servers' (all/web-servers.yaml): all hosts" in done.stdout


def test_canaries_by_share_and_by_label(tmp_path: Path, fleet: Fleet) -> None:
    """What the guide has on them runs as it stands there; the policy before stays beside each."""
    section = GUIDE.read_text().partition("## Canary")[2].partition("\n## ")[0]
    shares, *_, labels = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    (tmp_path / "reports").mkdir()
    (tmp_path / "web.yaml").write_bytes(WEB)
    fleet.publish(group="web")
    whole, said = "(group/web/web.yaml): group 'web'\n", []
    (tmp_path / "fleet-keys").symlink_to(fleet.keys)
    for line in (shares + labels).splitlines():
        here = line.replace("/srv/fleet", str(fleet.repository)).replace("/srv/reports", "reports")
        done = subprocess.run(
            ["bash", "-euc", f"{here} > said; ipsecctl domain status {fleet.repository}"],
            cwd=tmp_path,
            env={"HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert whole in done.stdout
        said += re.findall(r"web\.canary\.yaml\): (.*)", done.stdout) or ["for all"]
    assert said == [
        *("group 'web' · 5% of them", "group 'web' · 30% of them", "for all"),
        *("group 'web' with stage=canary · 100% of them", "group 'web' · 25% of them", "for all"),
    ]


def test_a_package_that_is_missing_is_named(fleet: Fleet, tmp_path: Path) -> None:
    """Whoever installed the daemon alone is told what to install."""
    (tmp_path / "tuf.py").write_text("raise ModuleNotFoundError(\"no\", name='tuf')\n")
    done = subprocess.run(
        [sys.executable, "-m", "ipsecctl", "domain", "status", str(fleet.repository)],
        env={**os.environ, "PYTHONPATH": ":".join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "needs the Python package 'tuf', which is not here" in done.stderr
    assert "pip install ipsecd[domain]" in done.stderr
