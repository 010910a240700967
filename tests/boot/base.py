"""Makes the base systems of the machines: a minimal Debian 12, and 13, kept between runs.

``python -m tests.boot.base`` fetches packages, so it is run where there is a network; it writes
nothing but the trees. They lie in ``IPSECD_CACHE``, or in the cache directory of the user.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

REFERENCE, LATER = "bookworm", "trixie"
NUMBERS = {REFERENCE: 12, LATER: 13}
"""The releases of Debian by their code names."""
INCLUDED = "ca-certificates,iproute2,nftables,procps,systemd-sysv"
CACHED = (
    "libbpf1 python3 python3-cryptography python3-docker python3-etcd3gw "
    "python3-prometheus-client python3-pyroute2 python3-requests python3-rich python3-ruamel.yaml "
    "python3-urllib3 python3-yaml"
)
"""What the package needs is downloaded with the base, for machines that have no network."""
FINDERS = "crowdsec-custom-bouncer fail2ban sshguard"
"""What bans with the package. Without what is recommended beside it: CrowdSec itself is large."""
SETTINGS_OF_ALL = ("apt.conf.d", "auth.conf.d")
SETTINGS = ("sources.list", "sources.list.d", *SETTINGS_OF_ALL)
NOT_OURS = ("docker-clean", "docker-gzip-indexes", "docker-no-languages")


def base_path(release: str = REFERENCE) -> Path:
    """The path of the tree of a release, whether it is there or not."""
    cache = Path(os.environ.get("IPSECD_CACHE") or Path.home() / ".cache/ipsecd")
    key = hashlib.sha256(f"{INCLUDED} {CACHED} {FINDERS}".encode()).hexdigest()[:8]
    return cache / f"debian-{NUMBERS[release]}-{key}"


def main() -> None:
    """Make the trees, unless they are there."""
    for release in (REFERENCE, LATER):
        make_once(release)


def make_once(release: str) -> None:
    """Make the tree of a release, unless it is there."""
    tree = base_path(release)
    tree.parent.mkdir(parents=True, exist_ok=True)
    with (tree.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if tree.is_dir():
            return
        making = Path(tempfile.mkdtemp(dir=tree.parent, prefix="making-"))
        try:
            making.chmod(0o755)
            make(making, release)
            making.rename(tree)
        except BaseException:
            shutil.rmtree(making)
            raise


def repository() -> str:
    """The repository from which apt on this host takes Debian itself."""
    words = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    listed = subprocess.run(
        [*words, "Created-By: Packages", "Label: Debian"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    return listed[0]


def make(tree: Path, release: str) -> None:
    """Make the tree of a release from the repositories that apt on this host knows."""
    words = ["debootstrap", "--variant=minbase", f"--include={INCLUDED}", release, str(tree)]
    subprocess.run([*words, repository()], check=True, stdout=subprocess.DEVNULL)
    sources = tree / "etc/apt/sources.list"
    sources.unlink(missing_ok=True)
    for name in SETTINGS if release == REFERENCE else SETTINGS_OF_ALL:
        ours = Path("/etc/apt") / name
        if ours.is_dir():
            shutil.copytree(ours, tree / "etc/apt" / name, dirs_exist_ok=True)
        elif ours.exists():
            shutil.copy(ours, tree / "etc/apt" / name)
    for name in NOT_OURS:
        (tree / "etc/apt/apt.conf.d" / name).unlink(missing_ok=True)
    if release == REFERENCE:
        shutil.copytree("/usr/share/keyrings", tree / "usr/share/keyrings", dirs_exist_ok=True)
    else:
        # The repositories that this host knows besides are of its own release.
        sources.write_text(f"deb {repository()} {release} main\n")
    shutil.copy("/etc/resolv.conf", tree / "etc/resolv.conf")
    download = "apt-get -qy install --download-only"
    command = f"apt-get -q update && {download} {CACHED}"
    if release == REFERENCE:
        command += f" && {download} --no-install-recommends {FINDERS}"
    subprocess.run(["chroot", tree, "sh", "-c", command], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
