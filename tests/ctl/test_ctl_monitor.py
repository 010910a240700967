"""``monitor`` shows what is dropped, selects, tells of losses, and ends in every way."""

from __future__ import annotations

import json
import stat
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipsecctl import monitor
from ipsecctl.client import Client
from ipsecctl.failures import UsageError
from ipsecctl.options import parse_options
from ipsecctl.verbs import VERBS
from tests.pcapng_reader import blocks, packets
from tests.seen import SEEN as SEEN_BARE

HOSTILE = '\x1b[2J"}\n<script>\u202e\x07'
SEEN = {**SEEN_BARE, "head": b64encode(bytes(range(54))).decode(), "link_type": 1}
INTERFACES = {
    "interfaces": [
        {"name": "eth0", "addresses": ["192.0.2.1/24", "fd09::1/64"], "type": "lan", "up": True}
    ]
}


def seen(**changes: Any) -> dict[str, Any]:
    return {**SEEN, **changes}


def reply(*seen_packets: dict[str, Any], blocked: int | None = None, lost: int = 0) -> Any:
    count = len(seen_packets) + lost if blocked is None else blocked
    return {"packets": list(seen_packets), "blocked": count, "lost": lost}


class Told(Client):
    """A client that is told what was prepared, until somebody presses Ctrl-C."""

    def __init__(self, *replies: Any) -> None:
        super().__init__("/nowhere")
        self.replies = [reply(), *replies]
        self.asked: dict[str, Any] = {}
        self.heard = 0

    def call(
        self,
        method: str,
        parameters: dict[str, Any] | None = None,
        descriptor: int | None = None,
        hear: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        del descriptor
        if method == "ListInterfaces":
            return INTERFACES
        if method == "Stats":
            return {"rules": [{"rule": "a"}]}
        assert method == "Monitor"
        assert hear is not None
        self.asked = parameters or {}
        for each in self.replies:
            hear(each)
            self.heard += 1
        raise KeyboardInterrupt


def watch(*words: str, told: Told) -> int:
    return monitor.run(told, parse_options(VERBS["monitor"], list(words)))


def test_a_line_says_what_and_why(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time here, the packet as explain takes it, and the rule with its filter."""
    monkeypatch.setenv("TZ", "UTC")
    told = Told(
        reply(
            seen(),
            seen(
                store="dynamic",
                policy="",
                rule="ban",
                filter="@bad=0",
                list="bad",
                entry="10.0.0.0/8",
            ),
            seen(store=None, policy=None, rule=None, filter=None, flags=None),
            seen(action="audit", container="web", process="service:a.service"),
        )
    )
    assert watch(told=told) == 0
    out, err = capsys.readouterr()
    start = "15:40:12.123 tcp 203.0.113.7:4000 > 192.0.2.1:80 in eth0"
    by = "Web / Block web (*=0:80:TCP; container web; service:a.service)"
    assert out.splitlines() == [
        f"{start} S   Web / Block web (*=0:80:TCP)",
        f"{start} S   ban (@bad=0; @bad has 10.0.0.0/8)",
        f"{start}     by no rule that is known",
        f"{start.replace('tcp', 'audit tcp')} S  {by}",
    ]
    assert err.splitlines() == [
        "watching what is blocked; Ctrl-C ends that",
        "4 shown; 4 blocked in 1 s, 0 of them lost",
    ]
    assert told.asked == {"rules": None, "rate": None}


def test_on_a_terminal_a_line_is_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fits eighty columns, unless the packet alone does not leave room for a name."""
    monkeypatch.setattr(monitor, "columns", lambda: 80)
    long = "tcp [2001:db8:1234:5678:9abc:def0:1234:5678]:40000 > [2001:db8::1]:443 in enp3s0f1"
    watch(told=Told(reply(seen(rule="A rule with a long name " * 3), seen(packet=long))))
    first, second = capsys.readouterr().out.splitlines()
    assert len(first) == 80
    assert first.endswith("…")
    assert "Web / A rule" in first
    assert second.endswith("Web / Block web…")


def test_json_is_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Without the bytes; what was lost is an object, too, and hostile names stay within theirs."""
    hostile = seen(rule=HOSTILE, policy=HOSTILE, container=HOSTILE, packet=HOSTILE)
    watch("--json", told=Told(reply(seen(), hostile, lost=7)))
    out, err = capsys.readouterr()
    first, second, third = map(json.loads, out.splitlines())
    assert first == {n: v for n, v in SEEN.items() if n not in ("head", "link_type")}
    assert second["rule"] == HOSTILE
    assert third == {"lost": 7}
    assert "lost" not in err.splitlines()[0]


def test_hostile_names_do_nothing_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """They are escaped, on one line each."""
    names = dict.fromkeys(("rule", "policy", "container", "packet", "process", "list"), HOSTILE)
    watch(told=Told(reply(seen(**names), seen(**names))))
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 2
    assert all(line.isprintable() for line in out.splitlines())


def test_losses_are_told_and_not_too_often(capsys: pytest.CaptureFixture[str]) -> None:
    """At most once a second while packets come, and how many there were at the end."""
    watch(told=Told(*(reply(seen(), blocked=n * 10 + n, lost=n * 10) for n in range(1, 50))))
    err = capsys.readouterr().err.splitlines()
    assert [line for line in err if "were lost" in line] == [
        "10 packets were lost: they were blocked, and there were too many to show",
        "490 packets were lost: they were blocked, and there were too many to show",
    ]
    assert err[-1] == "49 shown; 539 blocked in 1 s, 490 of them lost"


def test_it_ends_after_as_many_as_were_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Even within one reply."""
    told = Told(reply(*[seen()] * 5), reply(seen()))
    assert watch("--count", "3", "--rate", "50", "--rule", "a", "--rule", "b", told=told) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 3
    assert told.asked == {"rules": ["a", "b"], "rate": 50}
    # It may be made later, and may as well be misspelt.
    assert "note: no rule 'b' is in force now" in said.err
    assert "'a'" not in said.err
    assert told.heard == 1


@pytest.mark.parametrize("text", ["0", "-1", "x", "1e3", "\u0661", "9" * 10])
def test_a_number_that_is_none_is_refused(text: str) -> None:
    """By name, before the daemon is asked."""
    with pytest.raises(UsageError, match="number of packets"):
        watch(f"--count={text}", told=Told())


def test_filters_select(capsys: pytest.CaptureFixture[str]) -> None:
    """In the language of filters, short ones too; any of them is enough."""
    shown = [
        seen(packet="udp 203.0.113.7:4000 > 192.0.2.1:1434 in eth0"),
        seen(packet="tcp 198.51.100.7:4000 > 192.0.2.1:22 in eth0"),
        seen(packet="icmp/echo-request fd09::9 > fd09::1 in eth0"),
        seen(packet="udp 192.0.2.1:53 > 8.8.8.8:53 out eth0", direction="out"),
        seen(packet="udp 203.0.113.7 > 192.0.2.1 in eth0"),
    ]
    for words, numbers in (
        (["udp/1434"], [0]),
        (["198.51.100.0/24=0", "udp/1434"], [0, 1]),
        (["*=[fd09::1]::ICMP"], [2]),
        (["0=*:53:UDP"], [3]),
        (["10.0.0.1"], []),
    ):
        watch(*words, told=Told(reply(*shown)))
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == len(numbers), words
        for line, number in zip(lines, numbers, strict=True):
            assert shown[number]["packet"] in line


@pytest.mark.parametrize(
    "text", ["@bad=0", "container:web=*", "service:a.service=*", "a.example=0"]
)
def test_what_goes_by_name_is_refused(text: str) -> None:
    """Only the daemon knows what that is; it says what to do."""
    with pytest.raises(UsageError, match="only the daemon knows"):
        watch(text, told=Told())


def test_packets_are_written_as_pcapng(tmp_path: Path) -> None:
    """Read again by a reader that was written from the draft."""
    path = tmp_path / "drops.pcapng"
    raw = seen(interface=None, link_type=101, head=b64encode(b"\x45abc").decode(), direction="out")
    told = Told(reply(seen(length=1400), raw, seen(rule=HOSTILE), lost=9))
    assert watch("--pcap", str(path), told=told) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    data = path.read_bytes()
    first, second, third = packets(data)
    assert first == {
        "interface": "eth0",
        "link_type": 1,
        "us": 1_796_053_212_123_456,
        "data": bytes(range(54)),
        "length": 1414,
        "comment": "block: Web / Block web (*=0:80:TCP)",
        "inbound": True,
    }
    assert (second["interface"], second["link_type"], second["data"]) == ("", 101, b"\x45abc")
    assert (second["inbound"], second["length"]) == (False, 40)
    assert third["comment"] == f"block: Web / {HOSTILE} (*=0:80:TCP)"
    last = blocks(data)[-1]
    assert last.kind == 5
    assert last.options[5] == (9).to_bytes(8, "little")


def test_a_packet_is_written_in_one_way(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--json and --pcap exclude each other"):
        watch("--json", "--pcap", str(tmp_path / "file"), told=Told())
    assert not (tmp_path / "file").exists()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Before anything is watched."""
    with pytest.raises(UsageError, match="cannot be written"):
        watch("--pcap", str(tmp_path), told=Told())
