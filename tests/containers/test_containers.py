"""What the documentation says about containers, with real ones, on both backends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.containers.engines import ENGINES, Docker, Engine, Podman, passes
from tests.netns import site
from tests.netns.site import (
    HERE4,
    HERE6,
    HOST,
    OUTSIDE,
    PEER,
    PEER4,
    PEER6,
    Daemon,
    Namespace,
    dynamic_entries,
    eventually,
    listening,
    python,
    run,
)
from tests.netns.talks import Key, opened, that_go_on

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(600)]

PUBLISHED = ("-p", "8080:80/tcp", "-p", "8053:53/udp")


with_docker = pytest.mark.parametrize("engine", ["docker"], indirect=True, scope="module")
with_podman = pytest.mark.parametrize("engine", ["podman"], indirect=True, scope="module")


@pytest.fixture(scope="module", params=ENGINES)
def engine(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Engine]:
    with ENGINES[request.param](tmp_path_factory.mktemp(request.param)) as running:
        running.run("web", "--label", "role=front", *PUBLISHED, network="front")
        running.run("db", "--label", "role=back", network="back")
        running.settle("web", "db")
        yield running


@pytest.fixture(params=site.BACKENDS)
def daemon(engine: Engine, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """A daemon beside two containers in two networks, one of which publishes ports."""
    with site.daemon(tmp_path, request.param) as running:
        run("ip", "-n", PEER, "route", "add", "default", "via", HERE4)
        run("ip", "-n", PEER, "-6", "route", "add", "default", "via", HERE6)
        run("ip", "route", "add", "default", "via", PEER4)
        run("ip", "-6", "route", "add", "default", "via", PEER6)
        try:
            yield running
        finally:
            names = set(engine("ps", "--all", "--format", "{{.Names}}").split())
            if others := names - {"web", "db"}:
                engine.remove(*sorted(others))


def assign(daemon: Daemon, **rules: str) -> None:
    """Assign a policy of rules, each with its filters for ``block`` or ``permit``."""
    lines = ["policy: P", "rules:"]
    for name, filters in rules.items():
        action = name.partition("_")[0]
        lines += [f"  - rule: {name}", f"    action: {action}", f'    filters: ["{filters}"]']
    daemon.put("\n".join(lines) + "\n")


def settled(daemon: Daemon, *names: str) -> None:
    """Wait until the daemon knows the addresses of containers."""
    assert eventually(
        lambda: all(name in daemon.ctl("show", "containers") for name in names), 10
    ), daemon.ctl("status") + daemon.log()


def test_a_published_port_is_blocked_like_any_port(daemon: Daemon, engine: Engine) -> None:
    """TCP and UDP, IPv4 and IPv6: a block of a port of this host covers what is published there."""
    web = engine.inside("web")

    def reached() -> list[bool]:
        return [
            passes(OUTSIDE, web, here, port, at=at, tcp=tcp)
            for here in (HERE4, HERE6)
            for port, at, tcp in ((8080, 80, True), (8053, 53, False))
        ]

    assert reached() == [True] * 4
    daemon.ctl("block", "tcp/8080", "--name", "tcp")
    assert reached() == [False, True] * 2
    daemon.ctl("block", "udp/8053", "--name", "udp")
    assert reached() == [False] * 4
    # From this host the container itself is not a port of this host.
    assert passes(HOST, web, engine.address("web"), 80, tcp=True)


def test_open_connections_of_containers_are_named(daemon: Daemon, engine: Engine) -> None:
    """By the container, also where no filter names it: what is named is cut, the rest lives."""
    web, address = engine.inside("web"), engine.address("web")
    with ExitStack() as stack:
        talks = [
            opened("published", OUTSIDE, web, HERE4, 8080, at=(address, 80)),
            opened("of-web", web, OUTSIDE, PEER4, 6003),
        ]
        for talk in talks:
            stack.callback(talk.close)
        assert that_go_on(talks, talks) == {"published", "of-web"}
        path = daemon.directory / "policy"
        for filters, cut, lives in (
            ("*=0:8080:TCP", "published", "of-web"),
            ("0=*:6003:TCP", "of-web", "published"),
        ):
            path.write_text(BLOCKS.format(filters))
            asked = daemon.ctl("apply", str(path), "--assign", "--dry-run", "--live", "--json")
            (group,) = json.loads(asked)["live"]["groups"]
            assert (group["container"], group["count"], group["filter"]) == ("web", 1, filters)
            assert [talk.name for talk in talks if talk.key == key_of(group)] == [cut]
            daemon.ctl("apply", str(path), "--assign", "--force")
            assert that_go_on(talks, [talk for talk in talks if talk.name == lives]) == {lives}
            daemon.ctl("policy", "unassign")
            assert that_go_on(talks, talks) == {"published", "of-web"}


BLOCKS = 'policy: P\nrules:\n  - rule: R\n    action: block\n    filters: ["{}"]\n'


def key_of(group: dict[str, Any]) -> Key:
    """The connection that a group has."""
    (entry,) = group["connections"]
    source, destination = ((entry[end], entry[f"{end}_port"]) for end in ("source", "destination"))
    return entry["protocol"], *source, *destination


def test_what_containers_send_out_is_this_hosts(daemon: Daemon, engine: Engine) -> None:
    """An outbound block covers what leaves under this host's address, in both IP versions."""
    web = engine.inside("web")
    assert passes(web, OUTSIDE, PEER4, 1434)
    assert passes(web, OUTSIDE, PEER6, 1434)
    daemon.ctl("block", "0=*:1434:UDP")
    assert not passes(web, OUTSIDE, PEER4, 1434)
    assert not passes(web, OUTSIDE, PEER6, 1434)
    assert passes(web, OUTSIDE, PEER4, 1435)


def test_a_permit_for_one_container_is_an_exception(daemon: Daemon, engine: Engine) -> None:
    """It keeps its rank although the packet leaves under the host's address; others do not."""
    assign(daemon, block_worm="0=*:1434:UDP", permit_web="container:web=*:1434:UDP")
    settled(daemon, "web", "db")
    web, db = engine.inside("web"), engine.inside("db")
    assert passes(web, OUTSIDE, PEER4, 1434)
    assert passes(web, OUTSIDE, PEER6, 1434)
    assert not passes(db, OUTSIDE, PEER4, 1434)
    assert not passes(HOST, OUTSIDE, PEER4, 1434)


def test_names_of_every_kind_are_followed(daemon: Daemon, engine: Engine) -> None:
    """By container, container in a network, network and label; as dynamic rules and in policies."""
    web, db = engine.inside("web"), engine.inside("db")
    address = engine.address("web")
    for text in ("container:web", "container:web@front", "network:front", "label:role=front"):
        daemon.ctl("block", f"*={text}:80:TCP", "--name", "one", "--replace")
        assert eventually(lambda: not passes(db, web, address, 80, tcp=True)), text
        assert not passes(HOST, web, address, 80, tcp=True), text
        assert passes(db, web, address, 81, tcp=True), text
        daemon.ctl("unblock", "one")
        assert passes(db, web, address, 80, tcp=True), text
        assign(daemon, block_it=f"*={text}:80:TCP")
        assert eventually(lambda: not passes(db, web, address, 80, tcp=True)), text
        daemon.ctl("policy", "unassign")
        assert passes(db, web, address, 80, tcp=True), text
    daemon.ctl("block", "*=container:web@back:80:TCP", "--name", "elsewhere")
    assert passes(db, web, address, 80, tcp=True)


def test_a_name_waits_for_its_container(daemon: Daemon, engine: Engine) -> None:
    """It is accepted before there is one, holds when it starts, and follows it to a new network."""
    daemon.ctl("block", "container:late=*:1434:UDP")
    assert "container:late" in daemon.ctl("show", "dynamic")
    engine.run("late")
    late = engine.inside("late")
    assert eventually(lambda: not passes(late, OUTSIDE, PEER4, 1434))
    engine("network", "connect", "back", "late")
    address = engine.address("late", "back")
    explained = f"udp {address}:9 > {PEER4}:1434"
    assert eventually(lambda: "block" in daemon.ctl("explain", explained).lower())
    assert "container:late" in daemon.ctl("explain", explained)


def test_who_inherits_an_address_inherits_no_rule(daemon: Daemon, engine: Engine) -> None:
    """A stopped container's address is withdrawn, which the daemon hears a moment later."""
    assign(daemon, block_first="container:first=*:1434:UDP")
    engine.run("first", "--ip", "10.90.0.77")
    assert eventually(lambda: not passes(engine.inside("first"), OUTSIDE, PEER4, 1434))
    engine.remove("first")
    engine.run("second", "--ip", "10.90.0.77")
    assert eventually(lambda: passes(engine.inside("second"), OUTSIDE, PEER4, 1434))


def test_the_engine_may_go_and_come(daemon: Daemon, engine: Engine) -> None:
    """Without it what is known stays, other changes work, and status says so."""
    web = engine.inside("web")
    daemon.ctl("block", "container:web=*:1434:UDP")
    assert eventually(lambda: not passes(web, OUTSIDE, PEER4, 1434))
    assert f"followed through {engine.socket}" in daemon.ctl("status")
    engine.end_service()
    try:
        assert eventually(lambda: "what was known is in force" in daemon.ctl("status"), 10)
        assert not passes(web, OUTSIDE, PEER4, 1434)
        daemon.ctl("block", "0=*:1435:UDP", "--name", "other", "--replace")
        assert not passes(web, OUTSIDE, PEER4, 1435)
        daemon.end(signal.SIGKILL)
        daemon.start()
        # The dynamic rule ended with the daemon; one like it holds by what was known.
        daemon.ctl("block", "container:web=*:1434:UDP")
        assert not passes(web, OUTSIDE, PEER4, 1434)
    finally:
        engine.serve()
    assert eventually(lambda: "followed through" in daemon.ctl("status"), 10)


def test_a_container_that_is_being_stopped_is_still_blocked(daemon: Daemon, engine: Engine) -> None:
    """One that takes its time to end may send as long as it does."""
    daemon.ctl("block", "container:slow=*:1434:UDP")
    engine.run("slow", command="trap '' TERM; sleep 100000")
    slow = engine.inside("slow")
    assert eventually(lambda: not passes(slow, OUTSIDE, PEER4, 1434))
    words = (engine.command, "stop", "--time", "60", "slow")
    with subprocess.Popen(words, env=engine.environment, stdout=subprocess.DEVNULL) as stopping:
        passed = [passes(slow, OUTSIDE, PEER4, 1434) for _ in range(3)]
        assert stopping.poll() is None
        engine("kill", "slow")
    assert passed == [False] * 3


SEND_ON = """
import socket, sys, time
while True:
    socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", (sys.argv[1], int(sys.argv[2])))
    time.sleep(0.005)
"""
HASTY = f"for n in 1 2 3; do tftp -g -r worm {PEER4} 1434 & done; sleep 100"


def counted_starts(engine: Engine, times: int, *options: str) -> int:
    """How many datagrams leave for UDP 1434 of containers that send first of all, and at once."""
    with listening(OUTSIDE, PEER4, 1434) as heard:
        for _ in range(times):
            engine.run("hasty", "--label", "role=hasty", *options, command=HASTY)
            time.sleep(0.2)
            engine.remove("hasty")
        return heard()


def counted_restarts(engine: Engine, times: int) -> int:
    """The same of one that starts again, at another address while the old one is still listed."""
    with listening(OUTSIDE, PEER4, 1434) as heard:
        engine.run("hasty", "--label", "role=hasty", command=HASTY)
        for _ in range(times):
            time.sleep(1)
            engine("restart", "--time", "0", "hasty")
        time.sleep(0.5)
        counted = heard()
    engine.remove("hasty")
    return counted


@with_podman
def test_with_the_hook_not_even_the_first_packet_passes(daemon: Daemon, engine: Podman) -> None:
    """A container that sends before anything else is blocked by name from its first packet on.

    Without the hook the engine tells of it when it runs, and the first packets pass.
    """
    daemon.ctl("block", "container:hasty=*:1434:UDP", "label:role=hasty=*:1434:UDP")
    assert eventually(lambda: "followed through" in daemon.ctl("status"), 10)
    engine.install_hook(daemon.environment["IPSECD_SOCKET"])
    try:
        for counted, times in ((counted_starts, 15), (counted_restarts, 4)):
            # A hook that has no answer in time lets the container start: that is no claim of this.
            for _ in range(3):
                passed = counted(engine, times)
                unannounced = engine.gave_up()
                if not (passed and unannounced):
                    break
            assert passed == 0, (passed, unannounced, daemon.log())
    finally:
        engine.remove_hook()
    assert counted_starts(engine, 10) > 0


@contextmanager
def sending(where: Namespace, address: str, port: int) -> Iterator[None]:
    """Send datagrams for as long as the block runs."""
    with subprocess.Popen(python(where, SEND_ON, address, str(port))) as process:
        try:
            yield
        finally:
            process.kill()


@with_podman
def test_who_joins_the_network_of_a_container_is_blocked_beside_it(
    daemon: Daemon, engine: Podman
) -> None:
    """It has the same address, from its first packet on, and takes it from nobody."""
    daemon.ctl("block", "container:web=*:1434:UDP")
    daemon.ctl("block", "container:member=*:1435:UDP")
    web = engine.inside("web")
    assert eventually(lambda: not passes(web, OUTSIDE, PEER4, 1434))
    engine.install_hook(daemon.environment["IPSECD_SOCKET"])
    try:
        with (
            listening(OUTSIDE, PEER4, 1434) as of_web,
            listening(OUTSIDE, PEER4, 1435) as of_member,
            sending(web, PEER4, 1434),
        ):
            for _ in range(5):
                hasty = HASTY.replace(" 1434 ", " 1435 ")
                engine.run("member", network="container:web", command=hasty)
                time.sleep(0.2)
                engine.remove("member")
            assert (of_web(), of_member()) == (0, 0)
    finally:
        engine.remove_hook()


@with_podman
def test_a_daemon_that_hangs_keeps_no_container_from_starting(
    engine: Podman, tmp_path: Path
) -> None:
    """The hook waits for an answer for less than the runtime waits for the hook, and says so."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(path)
        deaf.listen()
        engine.install_hook(path)
        try:
            engine.run("patient")
            assert "starts without being announced" in engine.gave_up()
        finally:
            engine.remove_hook()
            engine.remove("patient")


@with_docker
def test_docker_tells_of_an_address_before_anything_uses_it(daemon: Daemon, engine: Docker) -> None:
    """A container that sends before anything else is blocked by name, also when started again.

    Docker waits for nobody, so the runtime of these containers waits until the daemon has heard.
    """
    daemon.ctl("block", "container:hasty=*:1434:UDP", "label:role=hasty=*:1434:UDP")
    assert eventually(lambda: "followed through" in daemon.ctl("status"), 10)
    patient = engine.make_runtime_wait(daemon.environment["IPSECD_SOCKET"])
    assert counted_starts(engine, 10, *patient) == 0
    with listening(OUTSIDE, PEER4, 1434) as heard:
        engine.run("hasty", *patient, command=HASTY)
        for _ in range(5):
            engine("restart", "--time", "0", "hasty")
            time.sleep(0.2)
        assert heard() == 0
        engine.remove("hasty")
    daemon.ctl("flush")
    assert counted_starts(engine, 2) > 0


def test_show_containers_lists_what_filters_can_name(daemon: Daemon, engine: Engine) -> None:
    """Names, networks with addresses, and labels, although no filter names a container."""
    shown = daemon.ctl("show", "containers")
    for text in ("web", "db", engine.address("web"), engine.address("web", version=6)):
        assert text in shown
    assert "role=front" in shown
    assert "front=" in shown


def test_explain_takes_containers_and_says_what_leaves(daemon: Daemon, engine: Engine) -> None:
    """Its verdict is what happens to real packets, on the way in and under this host's address."""
    packet = f"udp container:web:4000 > {PEER4}:1434"
    web = engine.inside("web")
    daemon.ctl("block", "0=*:1434:UDP", "--name", "out")
    daemon.ctl("permit", f"container:db={PEER4}:1434:UDP")
    settled(daemon, "web", "db")
    explanation = json.loads(daemon.ctl("explain", "--json", packet))
    assert explanation["decision"] == "permit"
    assert explanation["leaving"]["decision"] == "block"
    assert "if it leaves under this host's address" in daemon.ctl("explain", packet)
    assert not passes(web, OUTSIDE, PEER4, 1434)
    explanation = json.loads(daemon.ctl("explain", "--json", packet.replace("web", "db")))
    assert explanation["leaving"]["decision"] == "permit"
    assert explanation["leaving"]["by"]["filter"] == f"container:db={PEER4}:1434:UDP"
    daemon.ctl("block", "container:web=*:1434:UDP")
    explanation = json.loads(daemon.ctl("explain", "--json", packet))
    assert (explanation["decision"], explanation["leaving"]) == ("block", None)
    assert "no address that is known" in daemon.ctl("explain", packet.replace("web", "x"), code=1)


def test_quarantine_cuts_a_container_off(daemon: Daemon, engine: Engine) -> None:
    """Whatever a policy permits it, nothing passes but what the operator permits."""
    web, db = engine.inside("web"), engine.inside("db")
    assign(
        daemon,
        block_all="container:web=*",
        permit_names="container:web=*:53:UDP",
        permit_web="*=container:web:80:TCP",
    )
    settled(daemon, "web")
    assert passes(web, OUTSIDE, PEER4, 53)
    assert passes(HOST, web, engine.address("web"), 81)
    daemon.ctl("quarantine", "container:web", "--permit", "container:web+container:db:22:TCP")
    for version, peer in ((4, PEER4), (6, PEER6)):
        assert not passes(web, OUTSIDE, peer, 53)
        address = engine.address("web", version=version)
        assert not passes(HOST, web, address, 80, tcp=True)
        assert not passes(db, web, address, 81)
    assert passes(web, db, engine.address("db", "back"), 22, tcp=True)
    assert passes(db, OUTSIDE, PEER4, 53)
    assert "is released" in daemon.ctl("release", "container:web")
    assert passes(web, OUTSIDE, PEER4, 53)
    assert "not in quarantine" in daemon.ctl("release", "container:web", code=1)


def test_quarantine_cuts_the_host_off(daemon: Daemon) -> None:
    """All but the operator's own way in, and it ends by itself."""
    assign(daemon, permit_web="*=0:80:TCP", permit_peer=f"{PEER4}=0:81:TCP")
    assert passes(OUTSIDE, HOST, HERE4, 80, tcp=True)
    cut_off = ("quarantine", "--host", "--permit", f"{PEER4}+0:22:TCP", "--for")
    daemon.ctl(*cut_off, "1h")
    assert not passes(OUTSIDE, HOST, HERE4, 80, tcp=True)
    assert not passes(OUTSIDE, HOST, HERE4, 81, tcp=True)
    assert not passes(HOST, OUTSIDE, PEER4, 53)
    assert passes(OUTSIDE, HOST, HERE4, 22, tcp=True)
    daemon.ctl(*cut_off, "1s")
    assert eventually(lambda: passes(OUTSIDE, HOST, HERE4, 80, tcp=True), 40)


def wanted_addresses(engine: Engine, names: list[str]) -> set[str]:
    """The IPv4 addresses of those of the containers that run."""
    return {address for name in names if (address := engine.address(name))}


def enforced_addresses(daemon: Daemon) -> set[str]:
    """The IPv4 sources in the dynamic entries of the kernel."""
    addresses = set()
    for entry in dynamic_entries(daemon):
        text = entry
        if daemon.backend == "xdp":
            raw = bytes.fromhex(entry)
            if len(raw) != 20:
                continue
            text = ".".join(map(str, raw[4:8]))
        addresses |= {word.strip('",}{[] ') for word in text.split() if word.count(".") == 3}
    return addresses


def test_many_starts_and_stops_leave_nothing_stale(daemon: Daemon, engine: Engine) -> None:
    """With a rule by label, at each step the kernel has what runs; also after crashes."""
    steps = 50 if isinstance(engine, Podman) else 20
    names = [f"worker{number}" for number in range(4)]
    for name in names:
        engine.create(name, "--label", "role=worker")
    rule = ("block", "label:role=worker=*:1434:UDP", "--name", "workers")
    daemon.ctl(*rule)

    def right() -> bool:
        return enforced_addresses(daemon) == wanted_addresses(engine, names)

    for step in range(steps):
        name = names[step % len(names)]
        engine("start", name)
        assert wanted_addresses(engine, names)
        assert eventually(right), (step, enforced_addresses(daemon), daemon.log()[-2000:])
        if step % 4 != 3:
            engine("stop", "--time", "0", name)
            assert eventually(right), (step, enforced_addresses(daemon))
        else:
            engine("stop", "--time", "0", *names)
        if step == steps * 3 // 10:
            daemon.end(signal.SIGKILL)
            daemon.start()
            daemon.ctl(*rule)
            assert eventually(right)
        if step == steps * 6 // 10:
            engine.end_service()
            if isinstance(engine, Podman):
                engine("start", names[0])
            engine.serve()
            assert eventually(right)
            engine("stop", "--time", "0", names[0])
    assert eventually(lambda: enforced_addresses(daemon) == set())
