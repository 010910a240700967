"""Owns ``monitor``: what is dropped, packet by packet, for people, programs, and in files."""

from __future__ import annotations

import os
import time
from typing import Any, BinaryIO

from ipsecctl.client import Client
from ipsecctl.failures import DONE, UsageError
from ipsecctl.options import Options
from ipsecd.output import broken, columns, complain, flush, say, say_json, write_bytes
from ipsecd.quoting import quote, quote_path, visible

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipsecctl.pcapng import Pcapng

PATIENCE_S = 20 * 86_400.0
"""How long to wait for the next packet: as long as a socket can."""
PACKET_COLUMNS = 46
"""The width of most packets of IPv4, with their link."""
_LEAST_COLUMNS = 16
BLOCK = "block"
_FOR_FILES = ("head", "link_type")


class _EnoughError(Exception):
    """As much as was asked for has been shown."""


def run(client: Client, options: Options) -> int:
    """Show what is dropped until enough was shown, or somebody ends it."""
    count, rate = _number(options, "--count"), _number(options, "--rate")
    shows = _selection(client, options)
    monitor = _Monitor(_view(options), shows, count)
    rules = options.values.get("--rule")
    _note_strangers(client, rules or ())
    client.wait_longer(PATIENCE_S)
    try:
        client.call("Monitor", {"rules": rules, "rate": rate}, hear=monitor.hear)
    except (_EnoughError, KeyboardInterrupt):
        client.close()
    finally:
        monitor.end()
    return DONE


def _note_strangers(client: Client, names: Iterable[str]) -> None:
    """Say which of these rules are not in force: one that is misspelt would be waited for."""
    if names:
        there = {rule["rule"] for rule in client.call("Stats")["rules"]}
        for name in names:
            if name not in there:
                complain(f"note: no rule {quote(name)} is in force now; names are case-sensitive")


def _number(options: Options, name: str) -> int | None:
    text = options.value(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise UsageError(f"{name} {quote(text)} is not a number of packets", f"as in {name} 100")
    return int(text)


class _Monitor:
    """What was told so far, and what shows it."""

    def __init__(
        self, view: _View, shows: Callable[[dict[str, Any]], bool], count: int | None
    ) -> None:
        self._view = view
        self._shows = shows
        self._left = count
        self._shown = 0
        self._began = self._told_of_loss_at = time.monotonic()
        self._blocked = self._lost = self._lost_told = 0
        self._is_watching = False

    def hear(self, reply: dict[str, Any]) -> None:
        """Show the packets of a reply; raises ``_EnoughError`` when that is enough."""
        if not self._is_watching:
            self._is_watching = True
            self._view.begin()
        self._blocked, self._lost = reply["blocked"], reply["lost"]
        for packet in reply["packets"]:
            if self._shows(packet):
                self._shown += 1
                self._view.show(packet)
                if self._shown == self._left:
                    raise _EnoughError
        if self._lost > self._lost_told and time.monotonic() >= self._told_of_loss_at:
            self._told_of_loss_at = time.monotonic() + self._view.loss_pause_s
            self._lost_told = self._lost
            self._view.tell_of_loss(self._lost)
        flush()
        if broken():
            raise _EnoughError

    def end(self) -> None:
        """Say what came of it."""
        if not self._is_watching or broken():
            return
        if self._lost > self._lost_told:
            self._view.tell_of_loss(self._lost)
        self._view.end(self._lost)
        flush()
        seconds = max(1, round(time.monotonic() - self._began))
        complain(
            f"{self._shown:,} shown; {self._blocked:,} blocked in {seconds:,} s, "
            f"{self._lost:,} of them lost"
        )


class _View:
    """Shows packets as lines for people."""

    loss_pause_s = 1.0
    """The time between two lines about losses."""

    def begin(self) -> None:
        """Packets are told of from now on."""
        complain("watching what is blocked; Ctrl-C ends that")

    def show(self, packet: dict[str, Any]) -> None:
        """Show one packet."""
        # Nearly all are blocked, and the word would take the room of a name.
        action = "" if packet["action"] == BLOCK else f"{packet['action']} "
        words = f"{action}{packet['packet']} {packet['flags'] or ''}".rstrip()
        line = f"{_clock(packet['at'])} {visible(words):<{PACKET_COLUMNS}}  "
        # The line is cut and not wrapped, but never so that it would not say what decided.
        most = columns()
        say(line + _cut(what_decided(packet), most and most - len(line)))

    def tell_of_loss(self, lost: int) -> None:
        """Say how many packets were not told of so far."""
        complain(f"{lost:,} packets were lost: they were blocked, and there were too many to show")

    def end(self, lost: int) -> None:
        """No more packets are told of."""


class _JsonView(_View):
    """Writes packets as JSON, an object a line."""

    loss_pause_s = 0.0

    def show(self, packet: dict[str, Any]) -> None:
        """Write one packet."""
        told = {name: value for name, value in packet.items() if name not in _FOR_FILES}
        say_json(told, indent=None)

    def tell_of_loss(self, lost: int) -> None:
        """Write how many packets were not told of so far."""
        say_json({"lost": lost}, indent=None)


class _FileView(_View):
    """Writes packets as pcapng, to a file or standard output."""

    def __init__(self, pcapng: Pcapng, file: BinaryIO | None) -> None:
        self._pcapng, self._file = pcapng, file
        self._last: str | None = None
        self._write(pcapng.begin())

    def show(self, packet: dict[str, Any]) -> None:
        """Write one packet."""
        self._last = packet["at"]
        self._write(self._pcapng.packet(packet, f"{packet['action']}: {what_decided(packet)}"))

    def end(self, lost: int) -> None:
        """Write how many packets are not in the file, and close it."""
        self._write(self._pcapng.end(lost, self._last))
        if self._file:
            self._file.close()

    def _write(self, data: bytes) -> None:
        if self._file is None:
            write_bytes(data)
            return
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise _unwritable(self._file.name, error) from error


def _view(options: Options) -> _View:
    path = options.value("--pcap")
    if path is None:
        return _JsonView() if options.has("--json") else _View()
    if options.has("--json"):
        raise UsageError("--json and --pcap exclude each other", "leave one of them out")
    from ipsecctl.pcapng import Pcapng

    if path != "-":
        try:
            return _FileView(Pcapng(), open(path, "wb", opener=_for_oneself))
        except OSError as error:
            raise _unwritable(path, error) from error
    if columns() is not None:
        raise UsageError(
            "packets are not for a terminal", "name a file, or a pipe: --pcap - | tcpdump -r -"
        )
    return _FileView(Pcapng(), None)


def _for_oneself(path: str, flags: int) -> int:
    # Whoever may not watch may not read it in a file either.
    return os.open(path, flags, 0o600)


def _unwritable(path: str, error: OSError) -> UsageError:
    return UsageError(
        f"{quote_path(path)} cannot be written: {error.strerror}", "name another file"
    )


def what_decided(packet: dict[str, Any]) -> str:
    """The rule that decided about a packet, its filter, and the entry of the list in that."""
    if packet["rule"] is None and packet["store"] is None:
        return "by no rule that is known"
    policy = f"{packet['policy']} / " if packet["policy"] else ""
    parts = [packet["filter"]]
    if packet["list"]:
        parts.append(f"@{packet['list']} has {packet['entry']}")
    where = [packet["container"] and f"container {packet['container']}", packet["process"]]
    named = "; ".join(part for part in (*parts, *where) if part)
    name = packet["rule"] or packet["store"]
    return f"{policy}{name} ({named})" if named else f"{policy}{name}"


def _clock(at: str) -> str:
    """The time of day here, to the millisecond, of a time as RFC 3339 has it."""
    from datetime import datetime

    local = datetime.fromisoformat(at).astimezone()
    return f"{local:%H:%M:%S}.{local.microsecond // 1000:03}"


def _cut(text: str, room: int | None) -> str:
    """`text` as it is shown, cut to so many columns, but not to fewer than say anything."""
    shown = visible(text)
    most = None if room is None else max(room, _LEAST_COLUMNS)
    return shown if most is None or len(shown) <= most else f"{shown[: most - 1]}…"


def _selection(client: Client, options: Options) -> Callable[[dict[str, Any]], bool]:
    """What tells whether a packet is to be shown, by the filters that were given."""
    if not options.arguments:
        return lambda _: True
    from ipsecctl.selecting import selection

    return selection(client, options.arguments)
