"""Owns the changes of what is in force: the flood is blocked before, after and in between."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from ipsecctl.client import Client
from ipsecctl.failures import UnreachableError
from tests.moments.flood import BLOCKED, OPEN
from tests.netns.site import BACKENDS, LONGEST_S, Daemon

UNRELATED = ["203.0.113.7=0:80:TCP", "0=198.51.100.0/24::UDP", "[2001:db8::7]=0:9:UDP"]
OUTWARD = f"0=*:{BLOCKED}:UDP"
BLOCKS = (
    f'"*=0:{BLOCKED}:UDP"',
    f'"*=0:{BLOCKED}"',
    '"*=0::UDP"',
    f'"192.168.0.0/16=0:{BLOCKED}:UDP", "[fd09::/64]=0:{BLOCKED}:UDP"',
    f'"*=0:{BLOCKED}:UDP", "*=0:{BLOCKED}:TCP", "10.0.0.0/8=0:22:TCP"',
)
"""Different ways to block the flood; each becomes two policies, one of them only for what opens."""


def policy(number: int, more: int = 0, *, opening: bool = False) -> str:
    """A policy that blocks the flood in one of the ways, and as many other rules as said.

    No packet of the flood belongs to a connection, so one for what is `opening` blocks it too.
    """
    name, when = (f"O{number}", "\n    when: opening") if opening else (f"P{number}", "")
    others = "".join(
        f'\n  - {{rule: N{n}, action: block, filters: ["10.{n >> 8}.{n & 255}.0/24=0:{n}:TCP"]}}'
        for n in range(1, more + 1)
    )
    return (
        f"policy: {name}\nrules:\n"
        f'  - rule: Flood\n    action: block{when}\n    filters: [{BLOCKS[number]}, "{OUTWARD}"]\n'
        f'  - rule: Open\n    action: permit\n    filters: ["*=0:{OPEN}:UDP"]{others}\n'
    )


class Changes:
    """One connection to a daemon, and the changes that can be made over it."""

    def __init__(self, daemon: Daemon, chance: random.Random) -> None:
        self._daemon, self._chance = daemon, chance
        self._client = self._connect()
        self._asks_for_connections = self._is_opening = False
        self.all: tuple[Callable[[], None], ...] = (
            self.apply,
            self.turn_dynamic,
            self.hand_block_over,
            self.replace_dynamic,
            self.move_ranking,
            self.exchange_backend,
        )

    def apply(self) -> None:
        """One policy in the place of another; both block the flood."""
        self.apply_one(opening=self._chance.choice((False, True)))

    def apply_one(self, *, opening: bool) -> None:
        """Put in force a policy that blocks all of the flood, or what of it is opening."""
        number, more = self._chance.randrange(len(BLOCKS)), self._chance.choice((0, 3, 200))
        text = policy(number, more, opening=opening)
        self._call("ApplyPolicy", document=text, source=None, assign=True, dry_run=False)
        self._is_opening = opening

    def turn_dynamic(self) -> None:
        """Unrelated rules come, and go again."""
        for action in ("block", "permit"):
            self._add(action, UNRELATED, action)
        for name in ("permit", "block"):
            self._call("RemoveDynamic", selector=name)

    def move_ranking(self) -> None:
        """A rule comes that asks for connections, and at the next call goes: all rules move."""
        if self._asks_for_connections:
            self._call("RemoveDynamic", selector="asking")
        else:
            self._call(
                "AddDynamic", filters=["*=0:9:UDP", "0=*:9:UDP"], action="block", name="asking",
                ttl_s=None, interface=None, when="opening",
            )  # fmt: skip
        self._asks_for_connections = not self._asks_for_connections

    def exchange_backend(self) -> None:
        """The other backend takes over, and then the first one again."""
        (other,) = set(BACKENDS) - {self._daemon.backend}
        for name in (other, self._daemon.backend):
            self._call("SetBackend", name=name)

    def hand_block_over(self) -> None:
        """A dynamic rule blocks while no policy does."""
        self._add("keeper", [f"*=0:{BLOCKED}:UDP", OUTWARD])
        self._call("UnassignPolicy", name=None)
        self.apply()
        self._call("RemoveDynamic", selector="keeper")

    def replace_dynamic(self) -> None:
        """A dynamic rule is replaced by others of its name, which alone block the flood."""
        self._add("keeper", [f"*=0:{BLOCKED}:UDP", OUTWARD])
        self._call("UnassignPolicy", name=None)
        for sources in ("192.168.0.0/16", "[fd09::/64]"), ("192.168.1.0/24", "[fd09::/96]"):
            filters = [f"{network}=0:{BLOCKED}:UDP" for network in sources]
            self._add("keeper", [*filters, OUTWARD])
        self.apply()
        self._call("RemoveDynamic", selector="keeper")

    def restart(self, number: signal.Signals) -> None:
        """The daemon ends, by a crash or to hand over, and another one starts."""
        self._daemon.end(number)
        self._daemon.start()
        self.reconnect()

    def reconnect(self) -> None:
        """Talk to a daemon that was started anew."""
        self._client = self._connect()

    def _connect(self) -> Client:
        return Client(str(Path(self._daemon.environment["IPSECD_SOCKET"])), LONGEST_S)

    def _add(self, name: str, filters: list[str], action: str = "block") -> None:
        self._call(
            "AddDynamic", filters=filters, action=action, name=name, ttl_s=None, interface=None
        )

    def _call(self, method: str, **parameters: object) -> None:
        """Have the daemon do something, over a new connection if it has ended the last one.

        It ends a connection over which no call has come for a minute, also if the sender had not
        had its turn. What was called then has not been done.
        """
        deadline = time.monotonic() + LONGEST_S
        while True:
            try:
                self._client.call(method, parameters)
            except UnreachableError:
                if not self._daemon.lives() or time.monotonic() >= deadline:
                    raise
                time.sleep(0.05)
                self.reconnect()
            else:
                return

    @property
    def may_be_flushed(self) -> bool:
        """Whether the flood is blocked while the table is away: programs know no connections."""
        return has_owners() or not self._is_opening


def has_owners() -> bool:
    """Whether this kernel lets a table have an owner (6.9); on others programs guard it."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor)) >= (6, 9)


def flush_ruleset() -> None:
    """What an administrator or another firewall does to everybody's rules."""
    subprocess.run(["nft", "flush", "ruleset"], capture_output=True, check=False)
