"""Tests of what is said of filters that match nothing at the moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ipsecd.backend.nftables import cgroups
from ipsecd.control import Control, connections
from ipsecd.host.connections import ConnectionTable
from ipsecd.host.container_engines import ABSENT, CONNECTED, UNREACHABLE, UNUSED
from ipsecd.model.addresses import Family, Network
from ipsecd.model.inventory import Container, Inventory
from tests.engine.site import Site

PODMAN, DOCKER = "/run/podman/podman.sock", "/run/docker.sock"
IPV6_ONLY = Inventory(
    (
        Container(
            "c" * 64,
            "six",
            frozenset({("app", "db")}),
            {"front": (Network(Family.IPV6, 0xFD90 << 112 | 2, 128),)},
        ),
        Container("d" * 64, "ended"),
    )
)


def call(site: Site, method: str, **parameters: Any) -> dict[str, Any]:
    return Control(site.engine).call(method, parameters, "uid 0", {}, parameters.get("content"))


def block(site: Site, *filters: str) -> list[str]:
    """The warnings of a dynamic rule."""
    parameters = {"filters": list(filters), "action": "block"}
    warnings: list[str] = call(site, "AddDynamic", **parameters)["warnings"]
    return warnings


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hierarchy of control groups that has a service."""
    top = tmp_path / "cgroup"
    (top / "system.slice/web.service").mkdir(parents=True)
    (top / "cgroup.procs").touch()
    monkeypatch.setattr(cgroups, "ROOTS", (top,))
    return top


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        ({}, f"the container engine at {PODMAN} has not been asked yet"),
        ({PODMAN: ABSENT, DOCKER: UNUSED}, f"engine at {DOCKER} has not been asked yet"),
        ({PODMAN: ABSENT, DOCKER: ABSENT}, f"no container engine listens at {PODMAN} or {DOCKER}"),
        ({PODMAN: f"{UNREACHABLE}: refused", DOCKER: ABSENT}, "does not answer (unreachable: ref"),
        ({PODMAN: CONNECTED, DOCKER: ABSENT}, "there is no such container"),
        ({PODMAN: CONNECTED, DOCKER: f"{UNREACHABLE}: x"}, f"engine at {DOCKER} does not answer"),
    ],
)
def test_a_container_that_is_not_there_is_named_with_the_reason(
    site: Site, states: dict[str, str], reason: str
) -> None:
    """The rule is in force, and the answer and the status say what it waits for."""
    for socket, state in states.items():
        site.engine.set_container_engine(socket, None, state, 0.0)
    (warning,) = block(site, "container:web=*")
    assert warning.startswith("container:web matches nothing at the moment: ")
    assert reason in warning
    assert call(site, "Status")["status"]["warnings"] == [warning]
    assert call(site, "Status")["status"]["state"] == "enforcing"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("container:web=*", "there is no such container"),
        ("container:ended=*", "no such container has an address, so none runs"),
        ("container:six@back=*", "no such container has an address in network back"),
        ("label:app=web=*", "there is no container with this label"),
        ("network:back=*", "there is no such network, or it has no subnet"),
        ("container:six=10.0.0.1", "its two sides have no addresses of the same IP version"),
        ("*=container:web", "there is no such container"),
    ],
)
def test_what_a_connected_engine_lacks_is_said(site: Site, text: str, reason: str) -> None:
    """Containers, networks and labels each have words of their own."""
    site.engine.set_container_engine(PODMAN, IPV6_ONLY, CONNECTED, 0.0)
    (warning,) = block(site, text)
    assert warning.endswith(f"matches nothing at the moment: {reason}")


def test_what_is_there_is_not_warned_of(site: Site, groups: Path) -> None:
    """Nothing is said of containers with addresses, of services that run and of addresses."""
    assert groups.is_dir()
    site.engine.set_container_engine(PODMAN, IPV6_ONLY, CONNECTED, 0.0)
    filters = ("container:six=*", "label:app=db=*", "service:web.service=*", "10.0.0.1=0")
    assert block(site, *filters) == []
    assert call(site, "Status")["status"]["warnings"] == []


def test_groups_that_are_not_there_are_named(site: Site, groups: Path) -> None:
    """So are services that do not run and control groups that do not exist, until they do."""
    warnings = block(site, "service:mail.service=*", "cgroup:/user.slice/none=*")
    assert warnings == [
        "service:mail.service matches nothing at the moment: no such unit runs",
        "cgroup:/user.slice/none matches nothing at the moment: there is no such control group",
    ]
    assert call(site, "Status")["status"]["warnings"] == warnings
    assert call(site, "Examine")["examination"]["warnings"] == warnings
    (groups / "system.slice/mail.service").mkdir()
    assert call(site, "Status")["status"]["warnings"] == warnings[1:]
    call(site, "FlushDynamic")
    assert call(site, "Status")["status"]["warnings"] == []


def test_changes_of_policies_warn_too(site: Site) -> None:
    """Storing, assigning and loading a policy say what of it matches nothing; each name once."""
    document = b"""
policy: P
rules:
  - {rule: A, action: block, filters: ["container:web=*:53:UDP", "container:web=*:54:UDP"]}
  - {rule: B, action: block, filters: ["*=0:80:TCP"]}
"""
    parameters = {"source": "p.yaml", "assign": False, "dry_run": False, "content": document}
    assert call(site, "ApplyPolicy", **parameters)["outcome"]["warnings"] == []
    (warning,) = call(site, "AssignPolicy", name="P")["outcome"]["warnings"]
    assert warning.startswith("container:web matches nothing at the moment: ")
    assert call(site, "Reload", resolve=False)["outcome"]["warnings"] == [warning]
    assert call(site, "Status")["status"]["warnings"] == [warning]
    call(site, "Stop")
    assert call(site, "Status")["status"]["warnings"] == []
    assert call(site, "Start")["outcome"]["warnings"] == [warning]
    call(site, "UnassignPolicy", name=None)
    assert call(site, "Status")["status"]["warnings"] == []


def test_a_large_policy_is_summed_up(site: Site) -> None:
    """What changed is said in a screen, and programs get all of it."""
    filters = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}=0" for n in range(6000)]
    quoted = ", ".join(f'"{text}"' for text in filters)
    document = f"policy: P\nrules: [{{rule: R, action: block, filters: [{quoted}]}}]\n"
    parameters = {
        "source": "p.yaml",
        "assign": False,
        "dry_run": False,
        "content": document.encode(),
    }
    outcome = call(site, "ApplyPolicy", **parameters)["outcome"]
    assert len(outcome["message"]) < 1000
    assert outcome["message"].endswith(" and 5,990 more")
    assert all(any(text in line for line in outcome["changes"]) for text in filters[::500])
    parameters["content"] = document.replace(f"{quoted}]", f'"{filters[0]}"]').encode()
    outcome = call(site, "ApplyPolicy", **parameters)["outcome"]
    assert len(outcome["message"].splitlines()) == 12
    assert outcome["message"].endswith('- rule "R": and 5,989 more')
    assert len(outcome["changes"]) == 5999


def test_many_changed_rules_are_summed_up(site: Site) -> None:
    """A policy of many rules has so many lines as one reads."""
    rules = "".join(
        f'  - {{rule: R{n}, action: block, filters: ["10.0.0.{n}=0"]}}\n' for n in range(200)
    )
    parameters = {"source": "p.yaml", "assign": False, "dry_run": True}
    parameters["content"] = f"policy: P\nrules:\n{rules}".encode()
    outcome = call(site, "ApplyPolicy", **parameters)["outcome"]
    assert outcome["message"].endswith("\nand 160 more lines")
    assert len(outcome["changes"]) == 200


def test_what_the_kernel_cannot_judge_is_said(site: Site) -> None:
    """As the backend says it, by both who are asked."""
    assert call(site, "Status")["status"]["gaps"] == []
    site.backend.gaps = ("some packets are not seen",)
    assert call(site, "Status")["status"]["gaps"] == ["some packets are not seen"]
    assert call(site, "Examine")["examination"]["gaps"] == ["some packets are not seen"]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (ConnectionTable(9, 10, 0), ""),
        (ConnectionTable(10, 10, 3), "connections is full, with 10 of them"),
        (ConnectionTable(9, 10, 3), "has been full, with 10 of them, and 3 packets"),
        (None, ""),
    ],
)
def test_a_full_table_of_connections_is_told(
    site: Site, monkeypatch: pytest.MonkeyPatch, table: ConnectionTable | None, told: str
) -> None:
    """Only while rules ask for connections: then what finds no room is dropped."""
    monkeypatch.setattr(connections, "read_connection_table", lambda: table)
    assert call(site, "Status")["status"]["warnings"] == []
    filters = {"filters": ["*=0"], "action": "block", "when": "opening"}
    call(site, "AddDynamic", **filters)
    warnings = call(site, "Status")["status"]["warnings"]
    assert len(warnings) == bool(told)
    assert told in "".join(warnings)
