"""How fast fail2ban bans with ipsecd, beside its own action for nftables, in the same run.

The actions are made and called by fail2ban's own classes, as its server does it, for a jail with a
port. A third one does nothing: that is what fail2ban itself takes. Run it with ``make bench``. An
argument names another backend of the daemon than nftables.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.figures import Figure, keep
from bench.isolation import must_be_isolated
from bench.machine import facts
from tests.integrations.finders import ROOT, UNPACKED, environment, program
from tests.netns.site import Daemon

ROUNDS = 5
OURS, THEIRS = 1000, 40
"""Bans in a round of each."""
NOTHING = """
from fail2ban.server.action import ActionBase

class Action(ActionBase):
    def start(self): pass
    def stop(self): pass
    def ban(self, info): pass
    def unban(self, info): pass
    def __init__(self, jail, name, **options):
        super().__init__(jail, name)
"""
"""An action that does nothing."""
BANS = """
import os, sys, time
from fail2ban.client.actionreader import ActionReader
from fail2ban.server.jail import Jail
from fail2ban.server.ticket import BanTicket
path, configuration, first, number = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
jail = Jail("bench", "polling")
options = {"port": "22", "protocol": "tcp"}
if path.endswith(".py"):
    jail.actions.add("action", path, options)
else:
    reader = ActionReader(path, "bench", {"name": "bench", **options}, basedir=configuration)
    assert reader.read()
    reader.getOptions({})
    jail.actions.add("action")
    for name, value in reader.convert()[1][4]:
        setattr(jail.actions["action"], name, value)
action = jail.actions["action"]
action.start()
addresses = (f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(first, first + number))
tickets = [BanTicket(address, time.time()) for address in addresses]
for ticket in tickets:
    ticket.setBanTime(3600)
begun = time.perf_counter()
for ticket in tickets:
    action.ban(jail.actions._getActionInfo(ticket))
print(time.perf_counter() - begun, flush=True)
os._exit(0)
"""


def bans_a_second(daemon: Daemon, action: str, number: int, first: int) -> float:
    """How many bans of so many addresses from the first one on were made in a second."""
    words = [sys.executable, "-c", BANS, action, str(UNPACKED / "etc/fail2ban")]
    words += [str(first), str(number)]
    return number / float(subprocess.check_output(words, env=environment(daemon)))


def main() -> None:
    must_be_isolated()
    program("usr/bin/fail2ban-server")
    backend = sys.argv[1] if len(sys.argv) > 1 else "nftables"
    action = str(ROOT / "integrations/fail2ban/action.d/ipsecd-block.py")
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        nothing = path / "nothing.py"
        nothing.write_text(NOTHING)
        daemon = Daemon(path, backend)
        daemon.start()
        rounds = [
            (
                bans_a_second(daemon, action, OURS, n * OURS),
                bans_a_second(daemon, "nftables-multiport", THEIRS, n * OURS),
                bans_a_second(daemon, str(nothing), OURS, n * OURS),
            )
            for n in range(ROUNDS)
        ]
        daemon.end()
    ours, theirs, nothings = zip(*rounds, strict=True)
    ratios = [a / b for a, b, _ in rounds]
    taken = {
        f"ipsecd, {'XDP' if backend == 'xdp' else backend}": [1e3 / rate for rate in ours],
        "fail2ban, its own action for nftables": [1e3 / rate for rate in theirs],
        "fail2ban, an action that does nothing": [1e3 / rate for rate in nothings],
    }
    table, base = "A ban of fail2ban", "fail2ban, its own action for nftables"
    keep("bans", [Figure("changes", table, "one of many", "ms", base, taken)], facts())
    loads = f"load {before:.1f} to {os.getloadavg()[0]:.1f}"
    print(f"bans of fail2ban a second, medians; backend {backend}; {loads}")
    print(f"  ipsecd-block.py     {statistics.median(ours):10,.0f}")
    print(f"  nftables-multiport  {statistics.median(theirs):10,.0f}")
    print(f"  does nothing        {statistics.median(nothings):10,.0f}")
    print(f"  ratio, round by round {statistics.median(ratios):8.1f} (promised: 10)")
    print(f"  from {min(ratios):.1f} to {max(ratios):.1f}")


if __name__ == "__main__":
    main()
