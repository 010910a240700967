"""What the daemon itself costs: CPU seconds of each operation on a policy of N filters.

Memory enforces, so that only the daemon's own work is measured: reading, compiling, storing and
remembering. One run each, as CPU time hardly differs between runs. Arguments: numbers of filters.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ipsecd.backend.memory import MemoryBackend
from ipsecd.config import Config, Directories
from ipsecd.control import Control
from ipsecd.engine import Engine
from ipsecd.language.addresses import parse_address
from ipsecd.model.addresses import Network
from ipsecd.model.inventory import Container, Inventory

SIZES = (20_000,)
IDENTITY = "0123456789abcdef"


def document(filters: int) -> bytes:
    """A policy with a rule that blocks so many hosts, and a rule that names a container."""
    lines = ["policy: P", "rules:", "  - rule: hosts", "    action: block", "    filters:"]
    lines += [f'      - "10.{n >> 16}.{n >> 8 & 255}.{n & 255}=0:80:TCP"' for n in range(filters)]
    lines += ["  - rule: container", "    action: block", "    filters:"]
    lines += ['      - "container:web=0:80:TCP"']
    return ("\n".join(lines) + "\n").encode()


class Site:
    """The daemon's directories, and the engine that works in them."""

    def __init__(self, directory: Path) -> None:
        self._places = [directory / part for part in ("etc", "lib", "run")]
        self.engine = self._engine()

    def _engine(self) -> Engine:
        self.engine = Engine(Config(), Directories(*self._places), MemoryBackend)
        return self.engine

    def start(self) -> None:
        """Begin in a new process, as far as that is possible in this one."""
        self._engine().start()

    def apply(self, content: bytes) -> None:
        """Do what is done for ``ipsecctl apply --assign``."""
        self.call("ApplyPolicy", {"source": None, "assign": True, "dry_run": False}, content)

    def reload(self) -> None:
        """Do what is done for ``ipsecctl reload``."""
        self.call("Reload", {"resolve": False})

    def call(self, method: str, parameters: dict[str, Any], content: bytes | None = None) -> None:
        """Have a call carried out as the service does."""
        control = Control(self.engine)
        names = dict.fromkeys(control.names_needed(method, parameters, content), ())
        control.call(method, parameters, "bench", names, content)

    def announce(self, last: int) -> None:
        """Tell of the address of the container, which ends in `last`."""
        address = parse_address(f"172.17.0.{last}")
        assert isinstance(address, Network)
        self.engine.announce(IDENTITY, (address,))


def spent(function: Callable[[], object]) -> float:
    """CPU seconds that this process takes for `function`."""
    begun = time.process_time()
    function()
    return time.process_time() - begun


def measure(filters: int, directory: Path) -> dict[str, float]:
    """The cost of each operation, in CPU seconds."""
    content = document(filters)
    site = Site(directory)
    site.start()
    costs_s = {"apply": spent(lambda: site.apply(content))}
    site.engine.set_inventory("bench", Inventory((Container(IDENTITY, "web"),)))
    costs_s["announce"] = spent(lambda: site.announce(2))
    costs_s["announce again"] = spent(lambda: site.announce(3))
    costs_s["reload, nothing changed"] = spent(site.reload)
    changed = content.replace(b":80:TCP", b":81:TCP", 1)
    costs_s["apply, one filter changed"] = spent(lambda: site.apply(changed))
    costs_s["start, good cache"] = spent(site.start)
    costs_s["reload after it"] = spent(site.reload)
    for path in (directory / "lib").iterdir():
        path.unlink()
    costs_s["start, no cache"] = spent(site.start)
    return costs_s


def main() -> None:
    sizes = [int(word) for word in sys.argv[1:]] or list(SIZES)
    columns = []
    for size in sizes:
        with TemporaryDirectory() as directory:
            columns.append(measure(size, Path(directory)))
    print(f"{'CPU seconds, filters:':28}" + "".join(f"{size:>12,}" for size in sizes))
    for operation in columns[0]:
        print(f"{operation:28}" + "".join(f"{column[operation]:12.3f}" for column in columns))


if __name__ == "__main__":
    main()
