"""Filters that name the service or the control group of who sends."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ipsecd.backend.nftables import cgroups
from ipsecd.compiler.policy import compile_filters
from ipsecd.errors import Refused
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, InForce, Origin
from tests.netns import site
from tests.netns.site import (
    OUTSIDE,
    PEER4,
    PEER6,
    Daemon,
    eventually,
    listening,
    make_group,
    own_name,
    run,
    send,
)

pytestmark = pytest.mark.netns

NAME = own_name("mailer") + ".service"
SERVICE = f"system.slice/{NAME}"


@pytest.fixture(params=site.BACKENDS)
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with site.daemon(tmp_path, request.param) as running:
        yield running


@pytest.fixture
def service() -> Iterator[Path]:
    """The control group of a service, with one below it."""
    site.needs_isolation()
    top = cgroups.root()
    assert top is not None
    path = top / SERVICE
    make_group(path / "worker")
    yield path
    for group in (path / "worker", path, path.parent):
        with suppress(OSError):
            group.rmdir()


def sent(group: Path | None, port: int, to: str = PEER4) -> int:
    """How many of five datagrams to the peer arrive, sent by a process of a group."""
    with listening(OUTSIDE, to, port) as heard:
        join = f"echo $$ > {group}/cgroup.procs; " if group else ""
        in_group = ("sh", "-c", f'{join}exec "$@"', "sh")
        send(in_group, to, port)
        return heard()


def assign(daemon: Daemon, *rules: tuple[str, str]) -> None:
    listed = [
        f'  - {{rule: r{n}, action: {action}, filters: ["{text}"]}}'
        for n, (action, text) in enumerate(rules)
    ]
    daemon.put("\n".join(["policy: P", "rules:", *listed]) + "\n")


def test_a_block_by_sender_joins_what_nftables_judges_already(
    daemon: Daemon, service: Path
) -> None:
    """With XDP, nftables is beside for what leaves; a dynamic rule brings it more to judge."""
    assign(daemon, ("block", "0=*:1434:UDP"), ("permit", "10.88.0.5=*:1434:UDP"))
    for _ in range(2):
        daemon.ctl("block", f"service:{NAME}=*:25:UDP", "--name", "mail")
        assert sent(service, 25) == 0
        assert sent(None, 25) == 5
        daemon.ctl("unblock", "mail")
        assert sent(service, 25) == 5


def test_nobody_flushes_what_is_held(daemon: Daemon, service: Path) -> None:
    """A policy that cannot be loaded leaves all in force, and the daemon keeps it there."""
    assign(daemon, ("block", f"service:{NAME}=*:25:UDP"))
    daemon.end(signal.SIGKILL)
    (daemon.directory / "lib/last-good").unlink()
    for file in (daemon.directory / "etc/policies").glob("*.yaml"):
        file.write_text("policy: [")
    daemon.start()
    assert sent(service, 25) == 0
    run("nft", "flush", "ruleset", check=False)
    time.sleep(1.5)
    assert sent(service, 25) == 0
    assert sent(None, 25) == 5


def test_explain_takes_a_sender(daemon: Daemon, service: Path) -> None:
    """Its verdict is that of real packets of the group, of one below it, and of nobody in it."""
    assign(daemon, ("block", f"service:{NAME}=*:25:UDP"), ("permit", "cgroup:/a=*:25:UDP"))
    packet = f"udp me:4000 > {PEER4}:25"

    def said(by: str) -> str:
        return str(json.loads(daemon.ctl("explain", "--json", packet + by))["decision"])

    assert said(f" by service:{NAME}") == "block"
    assert said(f" by cgroup:/{SERVICE}/worker") == "block"
    assert said(" by cgroup:/system.slice") == "permit"
    assert said("") == "permit"
    assert sent(service / "worker", 25) == 0
    assert sent(None, 25) == 5


@pytest.mark.parametrize(
    "text", [f"service:{NAME}", f"cgroup:/{SERVICE}"], ids=["service", "group"]
)
def test_a_block_of_a_service_holds_for_it_alone(daemon: Daemon, service: Path, text: str) -> None:
    """Also for the groups below it; in a policy and as a dynamic rule, in both IP versions."""
    assign(daemon, ("block", f"{text}=*:25:UDP"))
    for group, wanted in ((service, 0), (service / "worker", 0), (None, 5)):
        assert sent(group, 25) == wanted
        assert sent(group, 25, PEER6) == wanted
        assert sent(group, 26) == 5
    daemon.ctl("policy", "unassign")
    daemon.ctl("block", f"{text}=*:25:UDP", "--name", "one", "--replace")
    assert sent(service, 25) == 0
    assert sent(None, 25) == 5
    daemon.ctl("unblock", "one")
    assert sent(service, 25) == 5


def test_a_permit_of_a_service_is_an_exception(daemon: Daemon, service: Path) -> None:
    """Who names the sender means it more than who names this host."""
    assign(daemon, ("block", "0=*:1434:UDP"), ("permit", f"service:{NAME}=*:1434:UDP"))
    assert sent(service, 1434) == 5
    assert sent(None, 1434) == 0


def test_a_service_is_followed_when_it_starts_again(daemon: Daemon, service: Path) -> None:
    """Its control group is another then; and a name may wait for its service."""
    (service / "worker").rmdir()
    service.rmdir()
    daemon.ctl("block", f"service:{NAME}=*:25:UDP")
    for _ in range(2):
        make_group(service)
        assert eventually(lambda: sent(service, 25) == 0)
        assert sent(None, 25) == 5
        service.rmdir()
    make_group(service)


def test_where_there_are_no_control_groups_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, with what to do."""
    monkeypatch.setattr(cgroups, "ROOTS", ())
    rule = InForce(Origin("static", "P", "r"), parse_filter("service:x.service=*"), Action.BLOCK)
    with pytest.raises(Refused, match=r"service:x\.service' cannot be told apart here"):
        cgroups.require(compile_filters([rule]).tables)
