"""Tests of what CrowdSec's custom bouncer feeds, with Debian's bouncer and real packets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipsecd_bans.crowdsec import PREFIX, change_in, changes_in, decision_in, seconds_in
from ipsecd_bans.feed import LONGEST_LINE, MeaninglessError, batches, network_of
from tests.integrations.decisions import KEY, LocalApi, decision, local_api
from tests.integrations.finders import (
    Running,
    bouncer,
    come_to,
    environment,
    has_only_foreign,
    rules,
    script,
    with_both_backends,
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


@pytest.fixture
def api() -> Iterator[LocalApi]:
    """CrowdSec's local API, which has decided about the peer already."""
    with local_api([decision(PEER4), decision(PEER6, "90m")]) as started:
        yield started


@pytest.fixture
def fed(tmp_path: Path, daemon: Daemon, api: LocalApi) -> Iterator[Running]:
    """The bouncer, which has told what was decided already."""
    with bouncer(tmp_path / "cs", daemon, api.url, KEY) as started:
        assert come_to(daemon, PREFIX, {PEER4, PEER6}), started.said()
        yield started


@pytest.mark.netns
@with_both_backends
def test_decisions_are_in_force_until_they_end(daemon: Daemon, api: LocalApi, fed: Running) -> None:
    """Addresses and ranges of both versions, with their ends; what is deleted passes again."""
    filters, left_s = rules(daemon, PREFIX)[PEER6]
    assert filters == [f"[{PEER6}]=0"]
    assert left_s is not None
    assert 5300 < left_s <= 5400
    assert (delivered(HERE4, 1434), delivered(HERE6, 1434)) == (0, 0)
    api.add(
        decision("198.51.100.77/24"),
        decision("::ffff:203.0.113.9"),
        decision("0.0.0.0/0"),
        decision("::/0"),
        decision("203.0.113.1", type="captcha"),
        decision("FR", scope="Country"),
        decision("203.0.113.2", simulated=True),
        decision("no address"),
    )
    api.delete(PEER6)
    assert come_to(daemon, PREFIX, {PEER4, "198.51.100.77/24", "::ffff:203.0.113.9"}), fed.said()
    assert (delivered(HERE4, 1434), delivered(HERE6, 1434)) == (0, 5)
    api.delete("198.51.100.77/24", PEER4, "::ffff:203.0.113.9")
    assert eventually(lambda: has_only_foreign(daemon)), fed.said()
    assert delivered(HERE4, 1434) == 5


@pytest.mark.netns
def test_ten_thousand_decisions_come_and_go(daemon: Daemon, api: LocalApi, fed: Running) -> None:
    """Each is in the kernel, in few calls; then none of them is, and what was there still is."""
    before = len(dynamic_entries(daemon))
    addresses = {f"10.{n >> 12}.{n >> 6 & 63}.{n & 63}" for n in range(MANY)}
    api.add(*(decision(address, f"{n}m") for n, address in enumerate(addresses, 60)))
    assert come_to(daemon, PREFIX, {PEER4, PEER6} | addresses, 60), fed.said()
    assert len(dynamic_entries(daemon)) == before + MANY
    assert daemon.log().count("ChangeDynamicRules") < MANY / 50
    api.delete(*addresses)
    assert come_to(daemon, PREFIX, {PEER4, PEER6}, 60), fed.said()
    assert len(dynamic_entries(daemon)) == before
    assert (delivered(HERE4, 1434), delivered(HERE6, 1434)) == (0, 0)


@pytest.mark.netns
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR2])
@with_both_backends
def test_a_daemon_that_comes_back_has_all_bans(
    daemon: Daemon, api: LocalApi, fed: Running, number: signal.Signals
) -> None:
    """After a crash, and after a restart on purpose, which forgets all dynamic rules."""
    daemon.end(number)
    api.delete(PEER4)
    api.add(decision("203.0.113.7"))
    api.wait_for_question()
    api.wait_for_question()
    daemon.start()
    assert come_to(daemon, PREFIX, {PEER6, "203.0.113.7"}), fed.said()
    assert (delivered(HERE4, 1434), delivered(HERE6, 1434)) == (5, 0)


@pytest.mark.netns
def test_a_killed_program_knows_its_bans_again(daemon: Daemon, api: LocalApi, fed: Running) -> None:
    """The bouncer starts it again and tells nothing anew; a restart of the daemon loses nothing."""
    (child,) = fed.children()
    os.kill(child, signal.SIGKILL)
    assert eventually(lambda: "Binary exited" in fed.said()), fed.said()
    api.add(decision("203.0.113.8"))
    assert come_to(daemon, PREFIX, {PEER4, PEER6, "203.0.113.8"}), fed.said()
    daemon.end(signal.SIGUSR2)
    daemon.start()
    assert come_to(daemon, PREFIX, {PEER4, PEER6, "203.0.113.8"}), fed.said()
    assert delivered(HERE4, 1434) == 0


@pytest.mark.netns
@with_both_backends
def test_a_killed_bouncer_leaves_bans_and_tells_them_anew(
    daemon: Daemon, api: LocalApi, fed: Running, tmp_path: Path
) -> None:
    """They hold meanwhile; the next bouncer renews their ends, and ends what was deleted."""
    fed.end(signal.SIGKILL)
    assert (delivered(HERE4, 1434), delivered(HERE6, 1434)) == (0, 0)
    api.delete(PEER6)
    api.in_force[PEER4] = decision(PEER4, "30h")
    with bouncer(tmp_path / "cs", daemon, api.url, KEY) as again:
        assert come_to(daemon, PREFIX, {PEER4}), again.said()
        assert eventually(lambda: (rules(daemon, PREFIX)[PEER4][1] or 0) > 29 * 3600)
        assert delivered(HERE4, 1434) == 0
    words = [str(script(tmp_path, "crowdsec")), "--flush"]
    assert subprocess.check_output(words, env=environment(daemon)) == b"1 ban of CrowdSec ended\n"
    assert has_only_foreign(daemon)


@pytest.mark.netns
def test_what_cannot_be_read_or_is_refused_harms_nothing(daemon: Daemon, tmp_path: Path) -> None:
    """Lines of any bytes, of any length and of any value; the decisions among them count."""
    words = [script(tmp_path, "crowdsec")]
    with Running(list(words), tmp_path / "said", environment(daemon)) as process:
        lines = [
            b"\xff\xfe{",
            b"{}",
            b"[" * 50_000,
            b"x" * 3 * LONGEST_LINE,
            json.dumps(decision("203.0.113.5", duration="soon", action="add")).encode(),
            json.dumps(decision("203.0.113.5", action="shout")).encode(),
            json.dumps(decision("127.0.0.1", action="add")).encode(),
            json.dumps(decision(PEER4, action="add")).encode(),
        ]
        assert process.process.stdin is not None
        process.process.stdin.write(b"\n".join(lines) + b"\n")
        process.process.stdin.flush()
        assert eventually(lambda: PEER4 in rules(daemon, PREFIX)), process.said()
        assert delivered(HERE4, 1434) == 0
        process.close_input()
        assert process.process.returncode == 0
    assert "no length of time" in process.said()
    assert PEER4 in rules(daemon, PREFIX)


def test_lines_come_whole_and_in_batches() -> None:
    """Whatever pieces they come in; a line without an end is one, too."""
    reading, writing = os.pipe()
    code = "import sys, time\nfor piece in ('a', 'b\\nc', '\\n', 'd'):\n"
    code += "    sys.stdout.write(piece); sys.stdout.flush(); time.sleep(0.01)\n"
    with subprocess.Popen([sys.executable, "-I", "-c", code], stdout=writing):
        os.close(writing)
        assert [line for lines in batches(reading) for line in lines] == [b"ab", b"c", b"d"]
    os.close(reading)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7/32", "203.0.113.7"),
        ("203.0.113.7/24", "203.0.113.0/24"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("2001:db8::1/32", "2001:db8::/32"),
        ("::ffff:203.0.113.7/120", "203.0.113.0/24"),
    ],
)
def test_networks_are_written_in_one_way(text: str, network: str) -> None:
    """However they are written, they are the same in filters."""
    assert network_of(text) == network


@pytest.mark.parametrize(
    "text", ["0.0.0.0/0", "::/0", "::ffff:0.0.0.0/96", "fe80::1%eth0", "", "x", "10.0.0.1/33"]
)
def test_what_is_no_network_is_refused(text: str) -> None:
    """Neither everybody nor nobody is banned."""
    with pytest.raises(MeaninglessError):
        network_of(text)


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        ("4h", 14400),
        ("3h59m56.5s", 14396.5),
        ("-1m", -60),
        ("1ms", 0.001),
        ("250µs", 0.00025),
        ("2562047h47m16.854775807s", 9223372036.854776),
    ],
)
def test_lengths_of_time_are_read(duration: str, seconds: float) -> None:
    """They are written as by Go."""
    assert seconds_in(duration) == pytest.approx(seconds)


@pytest.mark.parametrize("duration", ["", "4", "h", "4d", "4h ", "None", "1h" * 99])
def test_what_is_no_length_of_time_is_refused(duration: str) -> None:
    """A ban without an end is not what was meant."""
    with pytest.raises(MeaninglessError):
        seconds_in(duration)


def test_the_last_decision_on_an_address_counts() -> None:
    """What has ended when it comes is no ban, and takes an earlier one with it."""
    lines = [
        json.dumps(decision("203.0.113.7", action="add")).encode(),
        json.dumps(decision("203.0.113.7", action="del")).encode(),
        json.dumps(decision("203.0.113.8", action="del")).encode(),
        json.dumps(decision("203.0.113.8", action="add")).encode(),
        json.dumps(decision("203.0.113.9", "-5s", action="add")).encode(),
    ]
    changes = changes_in(lines, pytest.fail)
    assert {name: ban is not None for name, ban in changes.items()} == {
        f"{PREFIX}203.0.113.7": False,
        f"{PREFIX}203.0.113.8": True,
        f"{PREFIX}203.0.113.9": False,
    }
    assert change_in(decision_in(b'{"type": "captcha", "scope": "Ip"}')) == {}
