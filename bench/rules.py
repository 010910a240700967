"""Time and memory for a policy of many rules: all that the daemon does, beside ``nft -f``.

Each runs in a process of its own. Both begin with text, and end with every rule enforced and
counted by itself: nft with a counter object and a map element for each rule, ipsecd with a policy
document that is stored, compiled, enforced and kept for the next boot. The last lines say how much
longer ten times the rules take.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.isolation import must_be_isolated
from bench.load import measured

SIZES = (10_000, 30_000, 100_000)
BPFFS = Path("/sys/fs/bpf/bench-rules")


def apply(path: str, backend: str) -> None:
    """What the measured process does: what the daemon does for ``ipsecctl apply --assign``."""
    from ipsecd.backend.base import Backend  # noqa: PLC0415 - only the child needs it
    from ipsecd.backend.nftables.backend import NftablesBackend  # noqa: PLC0415
    from ipsecd.backend.xdp.backend import XdpBackend  # noqa: PLC0415
    from ipsecd.config import Config, Directories  # noqa: PLC0415
    from ipsecd.control import Control  # noqa: PLC0415
    from ipsecd.engine import Engine  # noqa: PLC0415

    def make() -> Backend:
        return XdpBackend(BPFFS) if backend == "xdp" else NftablesBackend()

    with TemporaryDirectory() as name:
        places = [Path(name) / part for part in ("etc", "lib", "run")]
        engine = Engine(Config(), Directories(*places), make)
        control = Control(engine)
        control.start()
        content = Path(path).read_bytes()
        parameters = {"source": path, "assign": True, "dry_run": False}
        control.names_needed("ApplyPolicy", parameters, content)
        control.call("ApplyPolicy", parameters, "bench", {}, content)
        engine.stop()
        control.close()


def make(directory: Path, rules: int) -> None:
    """Write the rules, for ipsecd and for nft."""
    addresses = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(rules)]
    (directory / "policy").write_text(
        "policy: P\nrules:\n"
        + "".join(
            f"  - rule: rule {n}\n    action: block\n"
            f'    filters:\n      - "{a}=0:{n % 999 + 1}:TCP"\n'
            for n, a in enumerate(addresses)
        ),
        encoding="ascii",
    )
    counters = "".join(f'counter r{n} {{ comment "P / rule {n}"; }}\n' for n in range(rules))
    elements = ",\n".join(f'{a} . {n % 999 + 1} : "r{n}"' for n, a in enumerate(addresses))
    (directory / "rules").write_text(
        f"table inet bench {{\n{counters}"
        "map blocked { type ipv4_addr . inet_service : counter;\n"
        f"elements = {{ {elements} }} }}\n"
        "chain c {\ntype filter hook prerouting priority raw;\n"
        "counter name ip saddr . tcp dport map @blocked drop;\n}\n}\n",
        encoding="ascii",
    )


def main() -> None:
    must_be_isolated()
    if sys.argv[1:2] == ["apply"]:
        apply(*sys.argv[2:])
        return
    if sys.argv[1:2] == ["make"]:
        make(Path(sys.argv[2]), int(sys.argv[3]))
        return
    # A process begins with the peak of the one that started it, so the text is made in another.
    again = (sys.executable, "-m", "bench.rules")
    figures: dict[str, list[tuple[float, float]]] = {}
    for rules in SIZES:
        with TemporaryDirectory() as directory:
            measured(*again, "make", directory, str(rules))
            figures.setdefault("nft -f", []).append(
                measured("/usr/sbin/nft", "-f", f"{directory}/rules")
            )
            measured("/usr/sbin/nft", "delete", "table", "inet", "bench")
            for backend in ("nftables", "xdp"):
                figures.setdefault(backend, []).append(
                    measured(*again, "apply", f"{directory}/policy", backend)
                )
        for name, taken in figures.items():
            seconds, mebibytes = taken[-1]
            print(f"{rules:7} rules  {name:9} {seconds:6.1f} s   {mebibytes:6.0f} MiB", flush=True)
    for name, taken in figures.items():
        print(f"{name:9} ten times the rules take {taken[-1][0] / taken[0][0]:.1f} times as long")


if __name__ == "__main__":
    main()
