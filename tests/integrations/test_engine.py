"""Tests with CrowdSec itself: its local API and bouncer, its ``cscli``, and real packets."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ipsecd_bans.crowdsec import PREFIX
from tests.integrations.engine import URL, Engine, engine
from tests.integrations.finders import (
    fed_program,
    has_only_foreign,
    rules,
    script,
)
from tests.netns.site import (
    HERE4,
    HERE6,
    PEER4,
    PEER6,
    Daemon,
    delivered,
    dynamic_entries,
    eventually,
)

MANY = 10_000
LAST = "203.0.113.250"

pytestmark = pytest.mark.netns


@pytest.fixture
def decides(tmp_path: Path, daemon: Daemon) -> Iterator[Engine]:
    """CrowdSec's local API, which has decided nothing yet."""
    with engine(tmp_path / "engine", daemon) as started:
        yield started


class Fed:
    """The bouncer, our program behind it, and what passes between the two."""

    def __init__(self, directory: Path, daemon: Daemon, decides: Engine) -> None:
        directory.mkdir()
        self._directory, self._daemon = directory, daemon
        self._key = decides.key("ours")
        self._told = directory / "told"
        self._told.touch()
        self._program = directory / "copying"
        program = script(directory, "crowdsec")
        self._program.write_text(f"#!/bin/sh\ntee -a {self._told} | {program} 2>>{directory}/log\n")
        self._program.chmod(0o755)
        self.start()

    def start(self) -> None:
        self.running = fed_program(self._directory, self._daemon, URL, self._key, self._program)

    def told(self) -> set[str]:
        """The values of the bans that the bouncer has told, and not taken back."""
        values: set[str] = set()
        for decision in map(json.loads, self._told.read_text().splitlines()):
            if decision["type"] == "ban":
                change = values.add if decision["action"] == "add" else values.discard
                change(decision["value"])
        return values

    def said(self) -> str:
        """The last that the bouncer and our program have said."""
        return self.running.said()[-4000:]


@pytest.fixture
def fed(tmp_path: Path, daemon: Daemon, decides: Engine) -> Iterator[Fed]:
    """The bouncer, which has told that the peer is banned."""
    decides.ban(PEER4)
    bouncer = Fed(tmp_path / "cs", daemon, decides)
    try:
        assert come_to(daemon, {PEER4}), bouncer.running.said()
        yield bouncer
    finally:
        bouncer.running.end(signal.SIGKILL)


def comes(holds: Callable[[], bool]) -> bool:
    """Whether something becomes true; the API takes long with thousands on a busy machine."""
    return eventually(holds, 120)


def come_to(daemon: Daemon, values: set[str]) -> bool:
    """Whether these bans come to be in force, and no others."""
    return comes(lambda: set(rules(daemon, PREFIX)) == values)


def come_to_have(daemon: Daemon, value: str) -> bool:
    """Whether a ban comes, and with it all that was decided before."""
    return comes(lambda: value in rules(daemon, PREFIX))


def many() -> set[str]:
    return {f"10.{n >> 12}.{n >> 6 & 63}.{n & 63}" for n in range(MANY)}


def test_ten_thousand_decisions_come_and_go(daemon: Daemon, decides: Engine, fed: Fed) -> None:
    """What the bouncer tells is in force, no more and no less, and after its restart everything.

    Of many decisions that come at once the API itself does not tell a running bouncer all.
    """
    before = len(dynamic_entries(daemon)) - 1
    wanted = {PEER4, LAST} | many()
    decides.bring_in(many())
    decides.ban(LAST)
    assert come_to_have(daemon, LAST), fed.said()
    told = fed.told()
    assert set(rules(daemon, PREFIX)) == told
    assert told <= wanted
    assert len(told) > MANY / 2
    fed.running.end()
    assert set(rules(daemon, PREFIX)) == told
    fed.start()
    assert come_to(daemon, wanted), fed.said()
    assert len(dynamic_entries(daemon)) == before + len(wanted)
    assert decides.in_force().keys() == wanted
    decides.delete("--all")
    assert comes(lambda: has_only_foreign(daemon)), fed.said()
    assert delivered(HERE4, 1434) == 5


def test_all_kinds_of_decisions(daemon: Daemon, decides: Engine, fed: Fed) -> None:
    """Bans of addresses and ranges, of both versions of IP; nothing else, and not of everybody."""
    decides.ban("203.0.113.1", "--type", "captcha")
    decides.ban("0.0.0.0/0")
    decides.ban("::/0")
    decides.cscli("decisions", "add", "--scope", "Country", "--value", "FR")
    decides.ban("198.51.100.77/24")
    decides.ban(f"{PEER6}/64", "--duration", "90m")
    assert come_to(daemon, {PEER4, "198.51.100.77/24", f"{PEER6}/64"}), fed.said()
    filters, left_s = rules(daemon, PREFIX)[f"{PEER6}/64"]
    assert filters == ["[fd09::]/64=0"]
    assert left_s is not None
    assert 5300 < left_s <= 5400
    assert "'0.0.0.0/0' is everybody" in fed.said()
    assert (delivered(HERE4, 1434), delivered(HERE6, 1434)) == (0, 0)
    # The API takes back with an address all decisions on ranges that it is in.
    decides.delete("--ip", PEER6)
    assert come_to(daemon, {PEER4, "198.51.100.77/24"}), fed.said()
    # Another measure about the same address ends, and its ban does not.
    decides.ban(PEER4, "--type", "captcha")
    decides.delete("--ip", PEER4, "--type", "captcha")
    decides.ban(LAST)
    assert come_to_have(daemon, LAST), fed.said()
    assert (delivered(HERE4, 1434), delivered(HERE6, 1434)) == (0, 5)


def test_a_network_is_banned_until_the_last_decision_on_it_ends(
    daemon: Daemon, decides: Engine, fed: Fed
) -> None:
    """However each of them is written: one that ends leaves the others in force."""
    network = PEER4.rpartition(".")[0]
    decides.delete("--all")
    assert come_to(daemon, set()), fed.said()
    assert delivered(HERE4, 1434) == 5
    decides.ban(PEER4)
    decides.ban(f"{network}.77/24")
    decides.ban(f"{network}.99/24", "--duration", "1h")
    decides.ban(f"{PEER4}/32", "--duration", "1h")
    assert come_to_have(daemon, f"{PEER4}/32"), fed.said()
    numbers = decides.in_force()
    for value in (f"{PEER4}/32", f"{network}.99/24"):
        decides.delete("--id", str(numbers[value]))
    assert come_to(daemon, {PEER4, f"{network}.77/24"}), fed.said()
    assert delivered(HERE4, 1434) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_api_that_is_away_changes_nothing(
    daemon: Daemon, decides: Engine, fed: Fed, number: signal.Signals
) -> None:
    """What is in force stays, and what is decided when it is back comes."""
    decides.end(number)
    assert comes(lambda: "connection refused" in fed.said()), fed.said()
    assert set(rules(daemon, PREFIX)) == {PEER4}
    decides.start()
    decides.ban(LAST)
    assert come_to(daemon, {PEER4, LAST}), fed.said()
    decides.delete("--ip", PEER4)
    assert come_to(daemon, {LAST}), fed.said()


def test_what_is_decided_while_the_bouncer_is_away_comes_with_it(
    daemon: Daemon, decides: Engine, fed: Fed
) -> None:
    """New decisions, and those that were taken back; meanwhile the old ones hold."""
    decides.ban(PEER6)
    assert come_to(daemon, {PEER4, PEER6}), fed.said()
    fed.running.end(signal.SIGKILL)
    decides.delete("--ip", PEER4)
    decides.ban(LAST)
    assert (delivered(HERE4, 1434), delivered(HERE6, 1434)) == (0, 0)
    fed.start()
    assert come_to(daemon, {PEER6, LAST}), fed.said()
    assert (delivered(HERE4, 1434), delivered(HERE6, 1434)) == (5, 0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR2])
def test_a_daemon_that_restarts_while_decisions_come_has_all_that_were_told(
    daemon: Daemon, decides: Engine, fed: Fed, number: signal.Signals
) -> None:
    """After a crash, and after a restart on purpose, which forgets all dynamic rules."""
    some = set(sorted(many())[:1000])
    with ThreadPoolExecutor(1) as bringing:
        brought = bringing.submit(decides.bring_in, some)
        assert comes(lambda: len(fed.told()) > 100), fed.said()
        daemon.end(number)
        brought.result()
        decides.ban(LAST)
        assert comes(lambda: LAST in fed.told()), fed.said()
        daemon.start()
    assert come_to(daemon, fed.told()), fed.said()
    assert delivered(HERE4, 1434) == 0
