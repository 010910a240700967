"""Tests of ``ipsecctl top`` at a terminal, and of the one table for those who have none."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ipsecctl.client import Client
from ipsecctl.failures import UnreachableError
from ipsecctl.top import feed
from ipsecctl.top.feed import Feed
from ipsecctl.top.screen import Screen
from tests.ctl.conftest import Run
from tests.ctl.watched_daemon import WatchedDaemon, counted, seen
from tests.terminal import Terminal

Open = Callable[..., Terminal]
HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\n<b>\u202e\x9b31m[red]"
SENT = re.compile("\x1b(\\[\\?1049[hl]|\\[\\?25[hl]|\\[\\?7[hl]|\\[H|\\[K|\\[J|\\[[0-9]{1,2}m|$)")
"""What ``top`` sends to a terminal of its own; the last is what was not read whole."""


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[WatchedDaemon]:
    with tempfile.TemporaryDirectory(prefix="ipsecctl-") as directory:
        daemon = WatchedDaemon(Path(directory) / "ipsecd.sock")
        monkeypatch.setenv("IPSECD_SOCKET", str(daemon.path))
        monkeypatch.delenv("NO_COLOR", raising=False)
        try:
            yield daemon
        finally:
            daemon.close()


@pytest.fixture
def top(watched: WatchedDaemon) -> Iterator[Open]:
    """``top`` at terminals, which must be as they were when it has ended."""
    with contextlib.ExitStack() as terminals:

        def opened(columns: int = 80, lines: int = 24, **environment: str) -> Terminal:
            terminal = Terminal(("top",), columns, lines, **environment)
            terminals.callback(terminal.close)
            return terminal

        yield opened
    del watched


def put_back(terminal: Terminal) -> None:
    """The terminal is as it was: its modes, its cursor, and the screen that it showed."""
    assert terminal.modes_now() == terminal.modes
    assert terminal.screen() == []
    for mode, ended in (("1049", "l"), ("25", "h"), ("7", "h")):
        assert re.findall(f"\x1b\\[\\?{mode}([hl])", terminal.seen)[-1] == ended


def test_rules_by_what_they_match_now(top: Open, watched: WatchedDaemon) -> None:
    """The rule that matches most stands first, with its rate, its total and where it is from."""
    watched.rules = [counted("Quiet", 5000), counted("Busy", 10, store="dynamic", policy="")]
    terminal = top()
    lines = terminal.shows("2 rules", "Busy")
    assert lines[2].split() == [
        *("1", "RATE/s", "2", "PACKETS", "3", "ACTION", "4", "STORE", "5", "POLICY", "6", "RULE")
    ]
    assert lines[3].split() == [">", "-", "5,000", "block", "static", "Web", "Quiet"]
    assert len(lines) == 24
    watched.rules = [counted("Quiet", 5000), counted("Busy", 1010, store="dynamic", policy="")]
    lines = terminal.until(lambda lines: bool(lines) and "Busy" in lines[3])
    mark, rate, *rest = lines[3].split()
    assert (mark, rest) == (">", ["1,010", "block", "dynamic", "-", "Busy"])
    # On a busy machine two answers may come shortly after each other.
    assert float(rate.replace(",", "")) > 0
    terminal.type("q")
    assert terminal.ended() == (0, "")
    put_back(terminal)


def test_sources_are_estimated(top: Open, watched: WatchedDaemon) -> None:
    """A source stands for its share of all that was dropped, and it is said that this is so."""
    terminal = top()
    terminal.shows("1 rule")
    watched.wait_for_calls("Monitor", 1)
    assert ("Monitor", {"rules": None, "rate": feed.REPORTS_PER_S}) in watched.calls
    packets = [seen("203.0.113.7")] * 3 + [seen("2001:db8::7", rule="Other")]
    watched.report(*packets, blocked=4000, lost=3996)
    terminal.type("\t")
    lines = terminal.shows("estimated from 4 of 4,000 packets", "203.0.113.7")
    assert lines[3].split()[2:] == ["3,000", "block", "203.0.113.7", "Web", "Block", "web"]
    assert lines[4].split()[1:] == ["1,000", "block", "2001:db8::7", "Web", "Other"]
    first, second = lines[3].split()[1], lines[4].split()[0]
    assert float(first.replace(",", "")) == pytest.approx(3 * float(second.replace(",", "")), abs=2)


def test_enter_explains(top: Open, watched: WatchedDaemon) -> None:
    """The last packet of a row, the filter that decided, and what ``explain`` says of it now."""
    terminal = top()
    terminal.shows("Block web")
    terminal.type("\r")
    terminal.shows("rule 'Block web' of policy 'Web' (static): block", "nothing to explain")
    terminal.type("\x1b")
    terminal.shows("1 rule")
    watched.report(seen("203.0.113.7"))
    terminal.type("\t")
    terminal.shows("203.0.113.7")
    terminal.type("\t\r")
    lines = terminal.shows("by      block *=0:80:TCP")
    packet = "tcp 203.0.113.7:4000 > 192.0.2.1:80 in eth0"
    assert [line.rstrip() for line in lines[2:8]] == [
        "the last packet that was reported, at 2026-11-30T15:40:12.123456Z:",
        f"  {packet}",
        "  block by *=0:80:TCP  'Block web' of policy 'Web' (static)",
        "",
        "what decides about such a packet now:",
        "  block  tcp 203.0.113.7:4000 > 192.168.1.1:80",
    ]
    assert ("Explain", {"packet": packet}) in watched.calls
    terminal.type("q")
    assert terminal.ended() == (0, "")


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (200, 50), (20, 5)])
def test_every_size(top: Open, watched: WatchedDaemon, columns: int, lines: int) -> None:
    """The whole screen is used, and nothing is wider."""
    watched.rules = [counted(f"Rule {n:03}", 1000 - n) for n in range(100)]
    shown = top(columns, lines).shows("ipsecctl top")
    assert len(shown) == lines
    assert {len(line) for line in (shown[0], shown[-1])} == {columns}
    assert all(len(line) <= columns for line in shown)
    if lines > 5:
        assert f"Rule {lines - 5:03}" in shown[-2]


def test_another_size(top: Open, watched: WatchedDaemon) -> None:
    """A terminal that is made larger or smaller is filled anew at once."""
    watched.rules = [counted(f"Rule {n:03}", 1000 - n) for n in range(100)]
    terminal = top()
    terminal.shows("Rule 019")
    for columns, lines in ((200, 50), (80, 10)):
        terminal.resize(columns, lines)
        shown = terminal.fills(columns, lines)
        assert f"Rule {lines - 5:03}" in shown[-2]


def test_what_happens_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another size of the terminal, and news of a thread, end the wait for a key at once."""
    own, terminal = os.openpty()
    with os.fdopen(own, "rb"), os.fdopen(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        began_s = time.monotonic()
        with Screen() as screen:
            os.kill(os.getpid(), signal.SIGWINCH)
            assert screen.read(40) == b""
            threading.Thread(target=screen.wake).start()
            assert screen.read(40) == b""
            assert screen.read(0) == b""
        # What comes too late harms nobody.
        screen.wake()
        assert time.monotonic() - began_s < 30


def test_keys_move_search_and_sort(top: Open, watched: WatchedDaemon) -> None:
    """What the last line says is what the keys do."""
    watched.rules = [counted(f"Rule {n:03}", 1000 - n) for n in range(100)]
    terminal = top()
    terminal.shows("> ", "Rule 000")
    terminal.type("\x1b[6~\x1b[B")
    terminal.until(lambda lines: any(line.startswith(">") and "Rule 021" in line for line in lines))
    terminal.type("/rule 09")
    terminal.shows("search: rule 09_", "10 of 100 rules with 'rule 09'")
    terminal.type("\r66")
    lines = terminal.shows("by RULE backwards")
    assert "Rule 099" in lines[3]
    terminal.type("\x1b")
    terminal.shows("100 rules")


def test_a_pause_is_a_pause(top: Open, watched: WatchedDaemon) -> None:
    """Nothing moves until the next one; keys still do."""
    terminal = top()
    terminal.shows("1,000")
    terminal.type(" ")
    terminal.shows("PAUSED")
    watched.rules = [counted("Block web", 7777)]
    watched.wait_for_calls("Stats", len(watched.calls) + 2)
    terminal.type("\x1b[B")
    terminal.type("6")
    assert not any("7,777" in line for line in terminal.shows("by RULE"))
    terminal.type(" ")
    terminal.shows("7,777")


def test_hostile_names(top: Open, watched: WatchedDaemon) -> None:
    """Whatever rules, filters, packets and answers hold, the terminal gets only what is ours."""
    watched.rules = [counted(HOSTILE, 9, policy=HOSTILE, filters=[HOSTILE], action=HOSTILE)]
    watched.explanation = {
        **watched.explanation,
        "packet": HOSTILE,
        "by": {**watched.explanation["by"], "rule": HOSTILE, "filter": HOSTILE},
    }
    hostile = dict.fromkeys(("at", "policy", "rule", "filter", "packet"), HOSTILE)
    terminal = top(200, 30)
    terminal.shows("\\u001b[2J")
    watched.report({**seen(HOSTILE), **hostile})
    terminal.type("\t")
    terminal.shows("~RATE", "\\u001b[2J")
    terminal.type("\r")
    terminal.shows("what decides", "<b>\\u202e", "by      block")
    terminal.type("\x1b/\x1b[2Jq\xad\r")
    terminal.type("\x1b")
    terminal.shows("source")
    terminal.type("q")
    assert terminal.ended() == (0, "")
    for sent in re.finditer("\x1b[^\x1b]{0,9}", terminal.seen):
        assert SENT.match(sent[0]), repr(sent[0])
    assert not set("\x07\x9b\u202e") & set(terminal.seen)
    put_back(terminal)


def test_without_colours(top: Open) -> None:
    """With NO_COLOR nothing is coloured, and what is chosen has a mark."""
    terminal = top(NO_COLOR="1")
    assert any(line.startswith(">") for line in terminal.shows("Block web"))
    assert not re.search("\x1b\\[[0-9;]*m", terminal.seen)
    coloured = top()
    coloured.shows("Block web")
    assert "\x1b[31m" in coloured.seen


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_a_signal_puts_the_terminal_back(top: Open, number: int, code: int) -> None:
    """However it is ended, the terminal is as it was, and nothing is said."""
    terminal = top()
    terminal.shows("Block web")
    assert terminal.modes_now() != terminal.modes
    terminal.process.send_signal(number)
    assert terminal.ended() == (code, "")
    put_back(terminal)


def test_ctrl_c(top: Open) -> None:
    """It is typed, and comes as a signal."""
    terminal = top()
    terminal.shows("Block web")
    terminal.type("\x03")
    assert terminal.ended() == (130, "")
    put_back(terminal)


def test_a_fault_puts_the_terminal_back(watched: WatchedDaemon) -> None:
    """An error in a thread is told below what the terminal showed before, with its traceback."""
    watched.rules = [{**counted("Broken", 1), "filters": []}]
    terminal = Terminal(("top",))
    terminal.shows("Broken")
    watched.check = False
    watched.rules = [{"rule": "without the rest"}]
    code, said = terminal.ended()
    assert code == 1
    assert said.rstrip().endswith("KeyError: 'store'")
    put_back(terminal)
    terminal.close()


def test_stopped_and_continued(top: Open) -> None:
    """Ctrl-Z gives the terminal back, and the screen is there again when the program goes on."""
    terminal = top()
    terminal.shows("Block web")
    terminal.process.send_signal(signal.SIGTSTP)
    _, status = os.waitpid(terminal.process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    assert terminal.until(lambda lines: not lines) == []
    put_back(terminal)
    terminal.process.send_signal(signal.SIGCONT)
    terminal.shows("Block web")
    terminal.type("q")
    assert terminal.ended() == (0, "")
    put_back(terminal)


def test_a_daemon_that_is_started_again(top: Open, watched: WatchedDaemon) -> None:
    """While it is gone this is said, and afterwards everything is asked anew."""
    terminal = top()
    terminal.shows("Block web")
    watched.wait_for_calls("Monitor", 1)
    watched.stop()
    lines = terminal.shows("the daemon cannot be reached")
    assert "Block web" in lines[3]
    watched.rules = [counted("After", 7)]
    watched.start()
    lines = terminal.shows("After")
    assert lines[1].strip() == ""
    watched.wait_for_calls("Monitor", 2)
    watched.report(seen("203.0.113.7"))
    terminal.type("s")
    terminal.shows("203.0.113.7")


def test_a_daemon_that_does_not_report(top: Open, watched: WatchedDaemon) -> None:
    """There are the rules, and why there are no sources."""
    watched.reports = False
    terminal = top()
    lines = terminal.shows("MethodNotFound")
    assert "Block web" in lines[3]
    terminal.type("\t")
    assert "MethodNotFound" in terminal.shows("0 sources")[1]
    terminal.type("\t\r")
    terminal.shows("nothing to explain: the daemon answered")


def test_a_daemon_that_is_not_there(no_daemon: None) -> None:
    """It is said as every command says it, and the terminal is not touched."""
    del no_daemon
    terminal = Terminal(("top",))
    code, said = terminal.ended()
    assert code == 3
    assert said.startswith("ipsecctl: the daemon cannot be reached")
    assert "\x1b" not in said
    terminal.close()


def test_a_terminal_that_cannot_place_text(watched: WatchedDaemon) -> None:
    """A dumb terminal gets a hint, and nothing that would drive one."""
    terminal = Terminal(("top",), TERM="dumb")
    code, said = terminal.ended()
    assert code == 2
    assert "top needs a terminal" in said
    assert "ipsecctl stats" in said
    assert "\x1b" not in said
    assert watched.calls == []
    terminal.close()


def test_without_a_terminal(watched: WatchedDaemon, run: Run) -> None:
    """A pipe gets a hint at what is made for pipes, and --json only goes with one table."""
    ran = run("ipsecctl", "top")
    assert (ran.code, ran.out) == (2, "")
    for hint in ("ipsecctl top --once", "ipsecctl stats", "ipsecctl monitor"):
        assert hint in ran.err
    ran = run("ipsecctl", "top", "--json")
    assert ran.code == 2
    assert "ipsecctl top --once --json" in ran.err
    assert watched.calls == []


def test_without_rich(watched: WatchedDaemon, tmp_path: Path) -> None:
    """Who has not got it is told the name of the package, and one table needs none of it."""
    (tmp_path / "rich.py").write_text("raise ModuleNotFoundError('no rich', name='rich')\n")
    terminal = Terminal(("top",), PYTHONPATH=str(tmp_path))
    code, said = terminal.ended()
    assert code == 1
    assert "python3-rich" in said
    terminal.close()
    done = subprocess.run(
        [sys.executable, "-m", "ipsecctl", "top", "--once"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert watched.calls


def once(watched: WatchedDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the second in which packets are counted be over when they were."""

    def sleep(_: float) -> None:
        watched.rules = [counted("Block web", 1500), counted(HOSTILE, 1)]
        if watched.reports:
            watched.report(seen("203.0.113.7"), seen(HOSTILE), blocked=10, lost=8)
        with changed:
            assert changed.wait_for(lambda: told, 60)
            told.clear()

    told: list[str] = []
    changed = threading.Condition()
    heard, refused = Feed._hear, Feed._refused

    def tell() -> None:
        with changed:
            told.append("")
            changed.notify()

    def hear(self: Feed, reply: dict[str, object]) -> None:
        heard(self, reply)
        tell()

    def refuse(self: Feed, why: str) -> None:
        refused(self, why)
        tell()

    monkeypatch.setattr(Feed, "_hear", hear)
    monkeypatch.setattr(Feed, "_refused", refuse)
    monkeypatch.setattr("ipsecctl.top.verb.time.sleep", sleep)


def test_one_table(watched: WatchedDaemon, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a pipe: rules, and sources with how much they are estimated from."""
    once(watched, monkeypatch)
    ran = run("ipsecctl", "top", "--once")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].split() == ["RATE/s", "PACKETS", "ACTION", "STORE", "POLICY", "RULE"]
    assert lines[1].split()[1:] == ["1,500", "block", "static", "Web", "Block", "web"]
    assert lines[1].split()[0] != "-"
    assert lines[4] == "sources, estimated from 2 of 10 packets:"
    assert any(line.split()[3:4] == ["203.0.113.7"] for line in lines)
    assert ran.out.replace("\n", "").isprintable()


def test_one_table_as_json(
    watched: WatchedDaemon, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a program: the same as numbers."""
    once(watched, monkeypatch)
    ran = run("ipsecctl", "top", "--once", "--json")
    answer = json.loads(ran.out)
    rules = {row["rule"]: row for row in answer["rules"]}
    assert rules["Block web"]["packets"] == 1500
    assert rules["Block web"]["rate"] > 0
    assert rules[HOSTILE]["rate"] is None
    assert {row["source"] for row in answer["sources"]} == {"203.0.113.7", HOSTILE}
    assert (answer["blocked"], answer["lost"], answer["no_sources"]) == (10, 8, None)


def test_one_table_without_reports(
    watched: WatchedDaemon, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said beside the table, and is no failure."""
    watched.reports = False
    once(watched, monkeypatch)
    ran = run("ipsecctl", "top", "--once")
    assert ran.code == 0
    assert ran.err.startswith("warning: sources are not known: the daemon answered")
    ran = run("ipsecctl", "top", "--once", "--json")
    assert json.loads(ran.out)["no_sources"].startswith("the daemon answered")


def test_one_table_that_cannot_be_written(watched: WatchedDaemon) -> None:
    """The exit code says so."""
    with Path("/dev/full").open("wb") as full:
        words = [sys.executable, "-m", "ipsecctl", "top", "--once"]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ipsecctl: the output could not be written")
    assert watched.calls


def test_a_slow_daemon_is_asked_less_often(
    watched: WatchedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What took long is asked for again after ten times as long: a tenth of it at the most."""
    waits: list[float] = []

    class Ended(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            self.set()
            return True

    asked = Feed(str(watched.path), lambda: None)
    for took_s, waited_s in ((0.0, 1.0), (0.02, 0.98), (0.5, 5.0), (12.0, 120.0)):
        monkeypatch.setattr(asked, "_ended", Ended())
        monkeypatch.setattr(asked, "count", lambda _, took_s=took_s: took_s)
        asked._poll()
        assert waits[-1] == pytest.approx(waited_s)


def test_a_call_that_waits_can_be_ended(watched: WatchedDaemon) -> None:
    """Nobody has to wait for a packet to be dropped to end what waits for one."""
    client = Client(str(watched.path))
    ended: list[UnreachableError] = []

    def ask() -> None:
        try:
            client.call("Monitor", {"rules": None, "rate": 1}, hear=lambda _: None)
        except UnreachableError as error:
            ended.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    watched.wait_for_calls("Monitor", 1)
    client.interrupt()
    thread.join(60)
    assert ended
