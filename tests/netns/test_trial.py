"""What trying a backend finds, and that it leaves this network namespace alone."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipsecd.backend import trial, trial_process
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.registry import OFFERED, assess
from ipsecd.backend.trial import Trial, try_backend
from ipsecd.backend.xdp import programs
from tests.netns.site import BPFFS, needs_isolation, run

pytestmark = pytest.mark.netns

UNPRIVILEGED = ("setpriv", "--bounding-set=-sys_admin")
"""A process that may do all that the service may, and as little make a namespace."""


@pytest.fixture(autouse=True)
def _isolated() -> None:
    needs_isolation()


@pytest.fixture
def watched() -> Iterator[None]:
    """Whatever happens to the rules and links of this namespace while the test runs is a fault."""
    monitors = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for words in (["nft", "monitor"], ["ip", "monitor", "link"])
    ]
    before = (run("nft", "list", "ruleset"), run("ip", "-o", "link"))
    yield
    assert (run("nft", "list", "ruleset"), run("ip", "-o", "link")) == before
    for monitor in monitors:
        monitor.terminate()
        events, _ = monitor.communicate(timeout=60)
        assert events == ""


@pytest.mark.usefixtures("watched")
def test_both_backends_are_tried_apart() -> None:
    """Tables and attachments are made, and this namespace sees nothing of it."""
    tried = try_backend("nftables")
    assert (tried.refusal, tried.untried) == ("", "")
    assert tried.done == "a table of every kind of set was made, read back and removed"
    assert tried.features
    tried = try_backend("xdp")
    assert (tried.refusal, tried.untried) == ("", "")
    assert "programs were loaded, and attached to a link as native XDP and tc" in tried.done


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("name", OFFERED)
def test_without_a_namespace_nothing_is_attached(name: str) -> None:
    """Who may not make a namespace is told so; programs are loaded, and nothing more is done."""
    done = subprocess.run(
        [*UNPRIVILEGED, sys.executable, "-P", "-m", "ipsecd.backend.trial_process", name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "may not make a network namespace to try it in" in done.stdout, done.stderr
    assert "attached" not in done.stdout
    assert "was made, read back" not in done.stdout


@pytest.mark.usefixtures("watched")
def test_what_the_kernel_refuses_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that the verifier does not take makes XDP unusable, in the kernel's words."""
    source, compiled = tmp_path / "wrong.bpf.c", tmp_path / "wrong.bpf.o"
    source.write_text(
        "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
        'SEC("xdp") int receive_lan(struct xdp_md *frame)'
        "{ return *(char *)(long)frame->data; }\n"
        'char LICENSE[] SEC("license") = "GPL";\n'
    )
    include = f"-I/usr/include/{run('uname', '-m').strip()}-linux-gnu"
    run("clang", "-O2", "-g", "-target", "bpf", include, "-c", str(source), "-o", str(compiled))
    monkeypatch.setattr(trial_process, "leave_network", lambda: "not here")
    monkeypatch.setattr(programs, "OBJECT", compiled)
    monkeypatch.setattr(programs.Programs.__init__, "__defaults__", (0, compiled, ()))
    monkeypatch.setattr(programs, "MAPS", ())
    answers: list[dict[str, object]] = []
    monkeypatch.setattr(trial_process, "say_json", answers.append)
    assert trial_process.main(["xdp"]) == 0
    assert answers[0]["refusal"]


def test_a_table_that_cannot_be_made_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nf_tables answers stands in the trial."""
    monkeypatch.setattr(trial_process, "leave_network", lambda: "")

    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(NftablesBackend, "apply", refuse)
    answers: list[dict[str, object]] = []
    monkeypatch.setattr(trial_process, "say_json", answers.append)
    assert trial_process.main(["nftables"]) == 0
    assert answers[0]["refusal"] == "Operation not supported"


def test_the_verdict_follows_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was refused cannot be used, and what was left out is not said to have been tried."""
    came = {"nftables": Trial(refusal="Operation not supported"), "xdp": Trial(refusal="back-edge")}
    monkeypatch.setattr("ipsecd.backend.registry.try_backend", came.__getitem__)
    for assessment, words in zip(
        assess(BPFFS, ()), ("Operation not supported", "back-edge"), strict=True
    ):
        assert not assessment.usable
        assert assessment.reasons_against[0] == f"the kernel refused it: {words}"
    came |= {"nftables": Trial(untried="no"), "xdp": Trial(done="loaded", untried="no")}
    nftables, xdp = assess(BPFFS, ())
    assert nftables.usable
    assert nftables.untried == "no"
    assert "tried: loaded" in xdp.reasons_for
    assert xdp.untried == "no"


def test_a_trial_that_breaks_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends without an answer, or does not end, says nothing of the kernel."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert try_backend("xdp").untried == "the trial ended without an answer: 1"
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert "No such file" in try_backend("xdp").untried
    monkeypatch.setattr(trial, "TIMEOUT_S", 0.001)
    endless = tmp_path / "endless"
    endless.write_text("#!/bin/sh\nexec sleep 100\n")
    endless.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(endless))
    assert "did not end within" in try_backend("xdp").untried
