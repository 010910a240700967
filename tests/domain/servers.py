"""A real nginx and real members of etcd, on loopback addresses of the tests' own namespace."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from ipsecd_domain.errors import NotFetched
from ipsecd_domain.etcd import Member
from ipsecd_domain.tls import TlsFiles
from tests.netns.site import PATIENCE, Namespace, needs_isolation

UNPACKED = Path(__file__).parents[2] / "build/servers"
"""Packages of Debian, not installed: that would start them."""
CLIENTS, PEERS, WEB = 2379, 2380, 8080
NGINX = """
daemon off; master_process off; pid {directory}/nginx.pid; error_log {directory}/error.log;
events {{ worker_connections 16384; }}
http {{
  access_log {directory}/access.log;
  client_body_temp_path {directory}/tmp; proxy_temp_path {directory}/tmp;
  fastcgi_temp_path {directory}/tmp; uwsgi_temp_path {directory}/tmp;
  scgi_temp_path {directory}/tmp;
  server {{ listen {address}:{port}{ssl}; root {root}; {certificates} }}
}}
"""
CERTIFICATES = """
ssl_certificate {0.certificate}; ssl_certificate_key {0.key};
ssl_client_certificate {0.ca}; ssl_verify_client on;
"""


GUIDED = """
daemon off; master_process off; pid {0}/pid; error_log {0}/error.log;
events {{ }}
http {{
  access_log off; client_body_temp_path {0}/tmp; proxy_temp_path {0}/tmp;
  fastcgi_temp_path {0}/tmp; uwsgi_temp_path {0}/tmp; scgi_temp_path {0}/tmp;
  {1}
}}
"""


def guided_nginx(
    guide: Path, begins: str, directory: Path, port: int, places: Mapping[str, str]
) -> Server:
    """Nginx as the one block of a guide that `begins` so has it, on a port of 127.0.0.1.

    `places` are those in the block, with what they are here; all of them must be in it.
    """
    pattern = rf"```nginx\n({begins}.*?)```"
    [block] = re.findall(pattern, guide.read_text(), re.DOTALL)
    for written, here in {"listen 443 ssl": f"listen 127.0.0.1:{port} ssl", **places}.items():
        assert written in block
        block = block.replace(written, here)
    configuration = directory / "nginx.conf"
    configuration.write_text(GUIDED.format(directory, block))
    words = (program("nginx"), "-c", str(configuration), "-p", str(directory))
    return Server(words, ("127.0.0.1", port), directory / "log")


def program(name: str) -> str:
    """The path of a server; the test is skipped without it, and fails in CI."""
    needs_isolation()
    directories = [str(UNPACKED / part) for part in ("usr/sbin", "usr/bin")]
    path = shutil.which(name, path=os.pathsep.join([*directories, os.environ["PATH"]]))
    if path is None:
        reason = f"{name} is not here: make base-system"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


class Server:
    """A process that listens on an address, and may be killed and started again."""

    def __init__(
        self, words: Sequence[str], address: tuple[str, int], log: Path, where: Namespace = ()
    ) -> None:
        """`where` is a command that runs the server in other namespaces, as the same process."""
        self._words = [*where, *words]
        self._address = address
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._words, stdout=log, stderr=log)
        deadline = time.monotonic() + 30 * PATIENCE
        while wait:
            assert time.monotonic() < deadline, self._log.read_text()[-2000:]
            assert self.process.poll() is None, self._log.read_text()[-2000:]
            with contextlib.suppress(OSError), socket.create_connection(self._address, 1):
                return
            time.sleep(0.02)

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            if number != signal.SIGSTOP:
                self.process.wait(30)

    def resident(self) -> int:
        """Bytes of memory that the process has now."""
        assert self.process is not None
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


class Nginx(Server):
    """Serves a directory; with `tls` to those only who have a certificate."""

    def __init__(
        self,
        directory: Path,
        root: Path,
        tls: TlsFiles | None = None,
        machine: tuple[str, Namespace] = ("127.0.0.1", ()),
    ) -> None:
        directory.mkdir()
        address, where = machine
        self.address = address
        self.url = f"{'https' if tls else 'http'}://{address}:{WEB}"
        configuration = directory / "nginx.conf"
        configuration.write_text(
            NGINX.format(
                directory=directory,
                root=root,
                address=address,
                port=WEB,
                ssl=" ssl" if tls else "",
                certificates=CERTIFICATES.format(tls) if tls else "",
            )
        )
        words = (program("nginx"), "-c", str(configuration), "-p", str(directory))
        super().__init__(words, (address, WEB), directory / "log", where)
        self._access = directory / "access.log"

    def answered(self) -> list[str]:
        """The lines of its log of requests."""
        return self._access.read_text().splitlines()


class Cluster:
    """Members of etcd on 127.0.0.1, 127.0.0.2 and so on; with `tls` clients have to encrypt.

    They may be on `machines` instead, by address.
    """

    def __init__(
        self,
        directory: Path,
        number: int = 3,
        tls: TlsFiles | None = None,
        machines: Mapping[str, Namespace] | None = None,
    ) -> None:
        directory.mkdir()
        self.tls = tls
        machines = machines or {f"127.0.0.{n}": () for n in range(1, number + 1)}
        self.hosts = list(machines)
        scheme = "https" if tls else "http"
        everybody = ",".join(f"{host}=http://{host}:{PEERS}" for host in self.hosts)
        encrypted = (f"--cert-file={tls.certificate}", f"--key-file={tls.key}") if tls else ()
        self.members = {
            host: Server(
                (
                    program("etcd"),
                    f"--name={host}",
                    f"--data-dir={directory / host}",
                    f"--listen-client-urls={scheme}://{host}:{CLIENTS}",
                    f"--advertise-client-urls={scheme}://{host}:{CLIENTS}",
                    f"--listen-peer-urls=http://{host}:{PEERS}",
                    f"--initial-advertise-peer-urls=http://{host}:{PEERS}",
                    f"--initial-cluster={everybody}",
                    "--unsafe-no-fsync=true",
                    "--heartbeat-interval=50",
                    "--election-timeout=500",
                    "--logger=zap",
                    *encrypted,
                ),
                (host, CLIENTS),
                directory / f"{host}.log",
                where,
            )
            for host, where in machines.items()
        }

    def start(self) -> None:
        for member in self.members.values():
            member.start(wait=False)
        self.wait()

    def wait(self) -> None:
        """Return once every member that runs has a majority behind it."""
        deadline = time.monotonic() + 60 * PATIENCE
        for host, member in self.members.items():
            while member.process is not None and member.process.poll() is None:
                with contextlib.suppress(NotFetched):
                    Member(host, CLIENTS, self.tls).get("x")
                    break
                assert time.monotonic() < deadline, f"{host} does not answer"
                time.sleep(0.05)

    def kill(self) -> None:
        for member in self.members.values():
            member.kill()

    def url(self, user: str = "", key: str = "ipsecd", at: Sequence[str] = ()) -> str:
        """The doorbell, `at` all members or some; `user` is USER:PASSWORD@, or nothing."""
        hosts = ",".join(f"{host}:{CLIENTS}" for host in at or self.hosts)
        return f"{'etcds' if self.tls else 'etcd'}://{user}{hosts}/{key}"


@contextlib.contextmanager
def cluster(
    directory: Path,
    number: int = 3,
    tls: TlsFiles | None = None,
    machines: Mapping[str, Namespace] | None = None,
) -> Iterator[Cluster]:
    members = Cluster(directory, number, tls, machines)
    try:
        members.start()
        yield members
    finally:
        members.kill()


@contextlib.contextmanager
def nginx(
    directory: Path,
    root: Path,
    tls: TlsFiles | None = None,
    machine: tuple[str, Namespace] = ("127.0.0.1", ()),
) -> Iterator[Nginx]:
    server = Nginx(directory, root, tls, machine)
    try:
        server.start()
        yield server
    finally:
        server.kill()
