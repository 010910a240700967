"""A fleet whose network is cut: hosts keep what they have, and take what is new afterwards."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from ipsecd_domain.doorbell import ring
from ipsecd_domain.errors import NotFetched
from tests.domain.certificates import Authority
from tests.domain.fleets import Fleet
from tests.domain.hosts import Host, host, publish
from tests.domain.lab import Lab, lab, separate, unite
from tests.domain.servers import Cluster, Nginx, cluster, nginx
from tests.netns.site import PATIENCE, Namespace, eventually

pytestmark = [pytest.mark.netns, pytest.mark.timeout(int(300 * PATIENCE))]

FIRST = 1001
VERSIONS = 3
"""How many are published while somebody is cut off; a look is within two seconds of a ring."""


@dataclass
class Site:
    """Two hosts that look by themselves in an hour only.

    The second listens to the first member alone, the first to the others.
    """

    lab: Lab
    fleet: Fleet
    web: Nginx
    members: Cluster
    machines: dict[str, Namespace]
    hosts: list[Host] = field(default_factory=list)
    port: int = FIRST

    def publish(self) -> None:
        """A policy in the place of the one before, with files, but without a ring."""
        self.port += 1
        publish(self.fleet, self.port)

    def rung(self, *at: str) -> bool:
        """Ring for what was published last; whether a member of those takes it."""
        timestamp = (self.fleet.repository / "metadata/timestamp.json").read_bytes()
        try:
            ring(self.members.url(at=at), self.port, hashlib.sha256(timestamp).hexdigest())
        except NotFetched:
            return False
        return True

    def has_new(self, made: Host) -> bool:
        """Whether a host has what was published last, and nothing else."""
        return made.blocks(self.port) and not made.blocks(self.port - 1)

    def has_old(self, made: Host) -> bool:
        """Whether a host has what was published before the last, and nothing else."""
        return made.blocks(self.port - 1) and not made.blocks(self.port)

    def logs(self) -> str:
        return "\n".join(self.log(made) for made in self.hosts)

    def log(self, made: Host) -> str:
        assert made.fetcher is not None
        return made.fetcher.log

    def leave_behind(self, cut: Host, other: Host, *at: str) -> None:
        """Publish again and again, so that who could have it would have some of it."""
        before = self.port
        for _ in range(VERSIONS):
            self.publish()
            # Members may have to elect a leader first.
            assert eventually(lambda: self.rung(*at), 30)
            assert eventually(lambda: self.has_new(other), 30), self.log(other)
        assert cut.blocks(before)
        assert not any(cut.blocks(port) for port in range(before + 1, self.port + 1))

    def all_have_new(self) -> bool:
        return all(eventually(lambda made=made: self.has_new(made), 60) for made in self.hosts)  # type: ignore[misc]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    fleet = Fleet.made_in(directory)
    publish(fleet, FIRST)
    with contextlib.ExitStack() as stack:
        wires = stack.enter_context(lab())
        machines = dict(wires.machine(number) for number in (1, 2, 3))
        place = wires.machine(5)
        files = Authority(directory, [place[0]]).certify("everybody")
        members = stack.enter_context(cluster(directory / "etcd", machines=machines))
        web = stack.enter_context(nginx(directory / "nginx", fleet.repository, files, place))
        made = Site(wires, fleet, web, members, machines)
        tls = {"ca": files.ca, "certificate": files.certificate, "key": files.key}
        for number, heard in ((11, members.hosts[1:]), (12, members.hosts[:1])):
            doorbell = members.url(at=heard)
            settings = {"source": web.url, "doorbell": doorbell, "interval": "1h", **tls}
            name = f"web{number}"

            def plug(namespace: str, number: int = number) -> str:
                return wires.plug(namespace, number)

            entered = host(directory / name, name, settings, own=True, plug=plug)
            made.hosts.append(stack.enter_context(entered))
        for each in made.hosts:
            each.start(fleet)
        yield made


@pytest.fixture(autouse=True)
def whole(site: Site) -> None:
    """Everybody has the last policy, and listens to a member."""
    for made in site.hosts:
        assert eventually(lambda made=made: made.blocks(site.port), 30), site.logs()  # type: ignore[misc]
        assert eventually(lambda made=made: "doorbell-watched" in site.log(made), 30), site.logs()  # type: ignore[misc]


def test_a_host_that_is_cut_off(site: Site) -> None:
    """The others have each version within seconds; it keeps what it had until it is back."""
    cut, other = site.hosts
    site.lab.cut([cut.address])
    site.leave_behind(cut, other)
    site.lab.heal([cut.address])
    assert site.all_have_new(), site.logs()


def test_a_web_server_that_is_cut_off(site: Site) -> None:
    """All hear the ring, and have nothing to fetch; they look again until they have it."""
    web = site.web.address
    before = [site.log(made).count("look-failed") for made in site.hosts]
    site.lab.cut([web])
    site.publish()
    assert site.rung()
    for made, count in zip(site.hosts, before, strict=True):
        assert eventually(
            lambda made=made, count=count: site.log(made).count("look-failed") > count,  # type: ignore[misc]
            60,
        ), site.log(made)
        assert site.has_old(made)
    site.lab.heal([web])
    assert site.all_have_new(), site.logs()


def test_a_member_that_is_cut_off_from_the_others(site: Site) -> None:
    """Its hosts hear nothing and keep what they have; it tells them the last when it is back."""
    alone, *others = site.members.hosts
    with_others, with_alone = site.hosts
    separate(site.machines[alone], others)
    site.leave_behind(with_alone, with_others, *others)
    unite(site.machines[alone])
    assert site.all_have_new(), site.logs()


def test_members_that_are_all_cut_off_from_each_other(site: Site) -> None:
    """Nobody takes the ring, and the publisher is told; afterwards one ring reaches all."""
    for member, where in site.machines.items():
        separate(where, [other for other in site.machines if other != member])
    site.publish()
    assert not site.rung(site.members.hosts[0])
    assert all(site.has_old(made) for made in site.hosts)
    for where in site.machines.values():
        unite(where)
    assert eventually(site.rung, 30)
    assert site.all_have_new(), site.logs()


def test_everybody_is_cut_off_from_everybody(site: Site) -> None:
    """Whoever comes back finds the others, in whichever order they do."""
    everybody = [*site.lab.ports]
    site.lab.cut(everybody)
    site.publish()
    assert not site.rung(site.members.hosts[0])
    assert all(site.has_old(made) for made in site.hosts)
    site.lab.heal(reversed(everybody))
    assert eventually(site.rung, 60)
    assert site.all_have_new(), site.logs()
