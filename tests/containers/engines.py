"""Real containers in the namespaces of the tests, of Podman and of Docker, and their traffic."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.containers.api import ask
from tests.netns import sockets
from tests.netns.site import (
    HOST,
    Namespace,
    eventually,
    hearing,
    namespace_file,
    needs_isolation,
    run,
    send,
)

ROOT = Path(__file__).parents[2]
UNPACKED = ROOT / "build/docker"
"""Docker's packages, unpacked: to install them would start it and change this host's firewall."""
CONFIGURATION = """
[containers]
cgroups = "disabled"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
hooks_dir = ["{hooks}"]
[network]
network_backend = "netavark"
"""
CONTAINERD = """
version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{socket}"
"""
PATIENT_RUNTIME = """#!/bin/sh
export IPSECD_SOCKET={socket}
has_news() {{
    process=$(runc $state | sed -n 's/.*"pid": \\([0-9]*\\).*/\\1/p')
    address=$(nsenter --net=/proc/$process/ns/net ip -4 -o address show scope global |
        sed 's/.*inet \\([0-9.]*\\).*/\\1/')
    test "$address" && {python} -m ipsecctl show containers --json | grep -qF "\\"$address\\""
}}
case " $* " in *" start "*)
    state=$(echo "$*" | sed 's/ start / state /')
    for round in $(seq 100); do has_news && break; sleep 0.1; done
esac
exec runc "$@"
"""
"""A runtime of containers that waits, before it starts one, until the daemon knows its address."""
OWN = ("/var/lib/containers", "/etc/containers/networks")
"""Directories of Podman's; tests get empty ones, so nothing stays and nothing there disturbs."""
APPLETS = ("httpd", "sh", "sleep", "tftp", "timeout", "wget")
NETWORKS = {"front": ("10.90.0.0/24", "fd90::/64"), "back": ("10.91.0.0/24", "fd91::/64")}


def needs(*names: str) -> None:
    """Skip the test without root, namespaces and these commands; in CI, fail it."""
    needs_isolation()
    missing = [name for name in ("busybox", *names) if not shutil.which(name)]
    if missing:
        reason = f"needs {' '.join(missing)}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


class Engine:
    """What Podman and Docker have in common: their command, and a system for containers."""

    command: str
    socket: Path

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = dict(os.environ)
        self.service: subprocess.Popen[bytes] | None = None
        self.root = directory / "rootfs"
        for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
            (self.root / name).mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or "", self.root / "bin/busybox")
        for applet in APPLETS:
            (self.root / "bin" / applet).symlink_to("busybox")

    @property
    def image(self) -> tuple[str, ...]:
        """The words that name the system a container gets."""
        raise NotImplementedError

    @property
    def service_command(self) -> tuple[str, ...]:
        """The command of the service that answers on the socket."""
        raise NotImplementedError

    def __call__(self, *words: str, check: bool = True) -> str:
        """What the command prints."""
        done = subprocess.run(
            [self.command, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.environment,
            check=False,
        )
        assert done.returncode == 0 or not check, (words, done.stdout, done.stderr)
        return done.stdout

    def serve(self) -> None:
        """Start the API service."""
        self.socket.parent.mkdir(exist_ok=True)
        self.socket.unlink(missing_ok=True)
        self.service = self.launch("service", *self.service_command)
        assert eventually(self.answers, 30), (self.directory / "service").read_text()

    def launch(self, log: str, *words: str) -> subprocess.Popen[bytes]:
        """Start a service that writes to a file of its own."""
        with (self.directory / log).open("ab") as file:
            return subprocess.Popen(words, env=self.environment, stdout=file, stderr=file)

    def answers(self) -> bool:
        """Whether the API service is there."""
        return self.socket.exists()

    def end_service(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the API service; containers run on."""
        assert self.service is not None
        self.service.send_signal(number)
        self.service.wait(20)
        self.service = None

    def make_networks(self) -> None:
        """Make two networks, each with both IP versions."""
        for name, subnets in NETWORKS.items():
            options = [word for subnet in subnets for word in ("--subnet", subnet)]
            self("network", "create", "--ipv6", *options, name)

    def run(
        self, name: str, *options: str, network: str = "front", command: str = "sleep 100000"
    ) -> None:
        """Start a container that does nothing, or runs a command of its shell."""
        words = ("run", "-d", "--name", name, "--network", network, *options)
        self(*words, *self.image, "sh", "-c", command)

    def create(self, name: str, *options: str, network: str = "front") -> None:
        """Make a container without starting it."""
        words = ("create", "--name", name, "--network", network, *options)
        self(*words, *self.image, "sleep", "100000")

    def inspect(self, name: str) -> dict[str, Any]:
        """What the engine knows of a container: by its service if there is one, which is quick."""
        if self.service:
            return ask(self.socket, f"/containers/{name}/json")
        return dict(json.loads(self("inspect", name))[0])

    def inside(self, name: str) -> Namespace:
        """The network namespace of a running container."""
        return ("nsenter", f"--net=/proc/{self.inspect(name)['State']['Pid']}/ns/net", "--")

    def settle(self, *names: str) -> None:
        """Wait until the addresses of these containers, and of this host, can be used."""
        places = [HOST, *map(self.inside, names)]

        def settled() -> bool:
            show = ("ip", "-6", "address", "show", "tentative")
            return not any(run(*where, *show).strip() for where in places)

        assert eventually(settled, 20)

    def address(self, name: str, network: str = "front", version: int = 4) -> str:
        """The address of a container in one network; "" if it is not running."""
        entry = self.inspect(name)["NetworkSettings"]["Networks"].get(network) or {}
        return str(entry.get("IPAddress" if version == 4 else "GlobalIPv6Address") or "")

    def remove(self, *names: str) -> None:
        """Remove containers, all of them if none is named."""
        containers = set(names or self("ps", "--all", "--quiet", check=False).split())
        everything = ("ps", "--all", "--format", "{{.ID}} {{.Names}}")

        def gone() -> bool:
            # On a busy machine Docker cannot always end a process in the time that it gives it.
            self("rm", "--force", *sorted(containers), check=False)
            return not containers & set(self(*everything, check=False).split())

        if containers:
            eventually(gone, 20)

    def close(self) -> None:
        """Remove every container and network."""
        self.remove()
        for name in NETWORKS:
            self("network", "rm", name, check=False)
        if self.service:
            self.end_service(signal.SIGTERM)


class Podman(Engine):
    """Podman with storage of its own, and its API service."""

    command = "podman"
    socket = Path("/run/podman/podman.sock")

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        configuration = directory / "containers.conf"
        self._hooks = directory / "hooks"
        self._hooks.mkdir()
        self._said = directory / "hook-said"
        configuration.write_text(CONFIGURATION.format(hooks=self._hooks))
        self.environment["CONTAINERS_CONF"] = str(configuration)

    @property
    def image(self) -> tuple[str, ...]:
        return ("--rootfs", str(self.root))

    @property
    def service_command(self) -> tuple[str, ...]:
        return ("podman", "system", "service", "-t", "0", f"unix://{self.socket}")

    def remove(self, *names: str) -> None:
        self("rm", "--force", "--time", "0", *(names or ("--all",)), check=False)

    def install_hook(self, socket: str) -> None:
        """Have every container announced to the daemon behind `socket` before it starts."""
        command = self.directory / "container-hook"
        self._said.write_text("")
        command.write_text(
            f"#!/bin/sh\nexport IPSECD_SOCKET={socket}\n"
            f"exec {sys.executable} -m ipsecctl.hook 2>>{self._said}\n"
        )
        command.chmod(0o755)
        ours = (ROOT / "systemd/ipsecd-hook.json").read_text()
        text = ours.replace("/usr/libexec/ipsecd/container-hook", str(command))
        (self._hooks / "ipsecd.json").write_text(text)

    def gave_up(self) -> str:
        """What the hook has said since the last call about containers that started unannounced."""
        said = self._said.read_text()
        self._said.write_text("")
        return said

    def remove_hook(self) -> None:
        (self._hooks / "ipsecd.json").unlink(missing_ok=True)


class Docker(Engine):
    """Docker with storage of its own; its containers live through the end of its daemon."""

    command = "docker"
    socket = Path("/run/docker.sock")

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        programs = f"{UNPACKED}/usr/bin:{UNPACKED}/usr/sbin"
        self.environment["PATH"] = f"{programs}:{os.environ['PATH']}"
        self.environment["DOCKER_HOST"] = f"unix://{self.socket}"
        self._runtime_socket = Path("/run/docker-containerd/socket")
        configuration = directory / "containerd.toml"
        configuration.write_text(
            CONTAINERD.format(
                root=directory / "containerd",
                state=self._runtime_socket.parent,
                socket=self._runtime_socket,
            )
        )
        self._runtime = self.launch("runtime", "containerd", "--config", str(configuration))
        assert eventually(self._runtime_socket.exists, 30)

    @property
    def image(self) -> tuple[str, ...]:
        return ("base",)

    @property
    def service_command(self) -> tuple[str, ...]:
        return (
            "dockerd",
            *("--data-root", str(self.directory / "data")),
            *("--exec-root", "/run/docker", "--pidfile", "/run/docker.pid"),
            *("--containerd", str(self._runtime_socket)),
            *("--host", f"unix://{self.socket}", "--storage-driver", "vfs"),
            *("--exec-opt", "native.cgroupdriver=cgroupfs", "--live-restore"),
            *("--experimental", "--ip6tables"),
            *("--add-runtime", f"patient={self.directory / 'patient-runtime'}"),
        )

    def make_runtime_wait(self, socket: str) -> tuple[str, ...]:
        """The options of a container that starts only when the daemon behind `socket` has news.

        Docker starts a process soon after it has told of its address, and waits for nobody. With
        this runtime it is no race: the process starts when the daemon enforces by the address that
        it has, or after ten seconds.
        """
        runtime = self.directory / "patient-runtime"
        runtime.write_text(PATIENT_RUNTIME.format(socket=socket, python=sys.executable))
        runtime.chmod(0o755)
        return ("--runtime", "patient")

    def close(self) -> None:
        super().close()
        self._runtime.terminate()
        self._runtime.wait(20)

    def answers(self) -> bool:
        return bool(self("info", "--format", "{{.ServerVersion}}", check=False).strip())

    def serve(self) -> None:
        super().serve()
        self._join_networks()

    def make_networks(self) -> None:
        super().make_networks()
        self._join_networks()

    def _join_networks(self) -> None:
        """Undo what Docker does to keep its networks apart: a block of ours would not be seen."""
        for command in ("iptables", "ip6tables"):
            run(command, "-I", "FORWARD", "-j", "ACCEPT")

    def make_image(self) -> None:
        """Make an image of the system."""
        pack = ("tar", "-C", str(self.root), "-c", ".")
        with subprocess.Popen(pack, stdout=subprocess.PIPE) as packed:
            words = [self.command, "import", "-", *self.image]
            subprocess.run(
                words, stdin=packed.stdout, env=self.environment, check=True, capture_output=True
            )


def delete_foreign_tables() -> None:
    """Remove the tables that iptables made for others: they would change what later tests see."""
    for line in run("nft", "list", "tables").splitlines():
        _, family, name = line.split()
        if not name.startswith("ipsecd"):
            run("nft", "delete", "table", family, name)


@contextmanager
def podman(directory: Path) -> Iterator[Podman]:
    """Podman with two networks, in a mount namespace that is made ready for it."""
    needs("podman", "conmon", "crun")
    _prepare()
    for path in OWN:
        Path(path).mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "containers", path)
    engine = Podman(directory)
    try:
        engine.serve()
        engine.make_networks()
        yield engine
    finally:
        engine.close()
        delete_foreign_tables()
        for path in OWN:
            run("umount", path)


@contextmanager
def docker(directory: Path) -> Iterator[Docker]:
    """Docker with the same two networks, in a mount namespace that is made ready for it."""
    needs("iptables", f"{UNPACKED}/usr/sbin/dockerd")
    _prepare()
    engine = Docker(directory)
    try:
        engine.serve()
        engine.make_image()
        engine.make_networks()
        yield engine
    finally:
        engine.close()
        run("ip", "link", "delete", "docker0", check=False)
        delete_foreign_tables()


ENGINES = {"podman": podman, "docker": docker}


def _prepare() -> None:
    run("umount", "--recursive", "/sys/fs/cgroup", check=False)
    run("mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup")
    run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")


def passes(
    source: Namespace,
    target: Namespace,
    address: str,
    port: int,
    *,
    at: int | None = None,
    tcp: bool = False,
) -> bool:
    """Whether traffic from one namespace to an address and port gets to a listener in another.

    `at` is the port on which it listens, if that is another. All of the datagrams must arrive, or
    none of them: a part is an error.
    """
    everywhere = "::" if ":" in address else "0.0.0.0"
    with hearing(target, everywhere, at or port, tcp=tcp) as heard:
        if tcp:
            path = namespace_file(source)
            assert path, "it is entered by a program"
            sockets.connect(path, address, port)
        else:
            send(source, address, port)
        got = heard()
    assert got in ({0, 1} if tcp else {0, 5}), got
    return got > 0
