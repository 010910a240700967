"""Tests of the settings file: every key, every way to get one wrong, and where that is."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipsecd.config import (
    Boot,
    Config,
    Limits,
    OnStop,
    Unparsable,
    load_config,
    parse_config,
)
from ipsecd.config.domain import DomainSettings
from ipsecd.errors import InvalidInput, NotFound, StoreFailed
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Network
from ipsecd.model.protected import Protected
from ipsecd.quoting import without_password

EVERYTHING = b"""\
# Settings of ipsecd.
backend: nftables
unparsable: pass
essentials: [dhcp-client]
default-exempt: 3
on-stop: keep
boot: block
container-engines: [/run/x.sock]
limits:
  connections-per-user: 5
  connections: 50
  frame-bytes: 65536
  dynamic-rules: 1000
  idle-timeout: 10
domain:
  source: https://policy.example.net/fleet/
  doorbell: etcds://fleet:secret@h1:2379,h2:2379/ipsecd
  host: web1
  groups: [web, paris]
  labels: {site: paris, role: front}
  interval: 15m
  ca: /etc/ca.pem
  certificate: /etc/web1.pem
  key: /etc/web1.key
  proxy: http://proxy:3128
  reports: file:///srv/reports
protect: [192.0.2.7, 2001:db8::/32, "*=0:22:TCP"]
names: every 5m
guard: off
guard-ports: [22, 9090, 22]
"""
DOMAIN = DomainSettings(
    "https://policy.example.net/fleet",
    "etcds://fleet:secret@h1:2379,h2:2379/ipsecd",
    "web1",
    ("web", "paris"),
    (("role", "front"), ("site", "paris")),
    900.0,
    Path("/etc/ca.pem"),
    Path("/etc/web1.pem"),
    Path("/etc/web1.key"),
    "http://proxy:3128",
    "file:///srv/reports",
)


def test_every_key_is_read() -> None:
    """Each key reaches its setting."""
    assert parse_config(EVERYTHING) == Config(
        "nftables",
        Unparsable.LET_THROUGH,
        ("dhcp-client",),
        3,
        OnStop.KEEP,
        Boot.BLOCK,
        (Path("/run/x.sock"),),
        Limits(5, 50, 65536, 1000, 10.0),
        DOMAIN,
        (
            Protected(Network(Family.IPV4, 0xC0000207, 32), "192.0.2.7", "<configuration>:27"),
            Protected(
                Network(Family.IPV6, 0x20010DB8 << 96, 32), "2001:db8::/32", "<configuration>:27"
            ),
        ),
        300.0,
        guard=False,
        guard_ports=(22, 9090),
        protected_filters=(parse_filter("*+0:22:TCP"),),
    )


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"---\n", b"{}\n"])
def test_nothing_means_the_defaults(content: bytes) -> None:
    """A file without keys changes nothing."""
    assert parse_config(content) == Config()


def test_the_defaults_are_safe() -> None:
    """What cannot be parsed is dropped, both essentials are kept, and no exemption is set."""
    config = Config()
    assert config.unparsable is Unparsable.DROP
    assert [e.name for e in config.exemptions] == [
        "neighbour-discovery",
        "dhcp-client",
        "path-mtu",
    ]
    assert config.on_stop is OnStop.WITHDRAW
    assert config.boot is Boot.PERMIT


def test_exemptions_add_up() -> None:
    """What passes is the essentials that are kept and what NoDefaultExempt stands for."""
    config = parse_config(b"essentials: []\ndefault-exempt: 1\n")
    assert [e.name for e in config.exemptions] == ["multicast", "broadcast", "ike"]
    assert parse_config(b"essentials: []\ndefault-exempt: none\n").exemptions == ()


@pytest.mark.parametrize(
    ("content", "line", "message", "hint"),
    [
        (b"backend: nft\n", 1, "'nft' is not auto or nftables", ""),
        (b"\nunparsable: allow\n", 2, "'allow' is not drop or pass", ""),
        (b"on_stop: keep\n", 1, "no key 'on_stop'", "did you mean 'on-stop'?"),
        (b"zzz: 1\n", 1, "no key 'zzz'", "it has backend"),
        (b"names: 5m\n", 1, "'5m' is not when to look", "every 5m"),
        (b"names: every day\n", 1, "'day' is not a time between", "90m"),
        (b"essentials: dhcp-client\n", 1, "not a list", "[]"),
        (b"essentials:\n  - ssh\n", 2, "no essential 'ssh'", "dhcp-client"),
        (b"essentials: [[a]]\n", 1, "not a name", ""),
        (b"default-exempt: 4\n", 1, "'4' is not 0, 1, 2, 3 or none", ""),
        (b"default-exempt: [1]\n", 1, "not a single value", ""),
        (b"limits: 5\n", 1, "limits is not a mapping", "connections"),
        (b"limits:\n  conections: 5\n", 2, "no key 'conections'", "'connections'"),
        (b"limits: {connections: 0}\n", 1, "'0' is not a whole number from 1 to", ""),
        (b"limits: {connections: 1e3}\n", 1, "'1e3' is not a whole number", ""),
        ("limits: {connections: '٣'}\n".encode(), 1, "is not a whole number", ""),
        (b"limits: {frame-bytes: -1}\n", 1, "'-1' is not a whole number", ""),
        (b"limits: {idle-timeout: " + b"9" * 5000 + b"}\n", 1, "is not a whole number", ""),
        (b"- a\n", 1, "not a mapping", "backend"),
        (b"text\n", 1, "not a mapping", ""),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    content: bytes, line: int, message: str, hint: str
) -> None:
    """Unknown keys and values that cannot be are refused, with the line and what to write."""
    with pytest.raises(InvalidInput) as caught:
        parse_config(content, "test.yaml")
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert (caught.value.source, caught.value.line) == ("test.yaml", line)


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"backend: &a auto\n", 1, "anchor &a is not allowed"),
        (b"backend: *a\n", 1, "alias *a is not allowed"),
        (b"backend: !!str auto\n", 1, "tag"),
        (b"backend: ! auto\n", 1, "tag"),
        (b"backend: auto\nbackend: auto\n", 2, "first in line 1"),
        (b"backend: auto\n---\nbackend: auto\n", 2, "second document"),
        (b"? [a]\n: b\n", 1, "a key is not a plain word"),
        (b"a: [\n", 2, "not YAML"),
        (b"a: b: c\n", 1, "not YAML"),
        (b"a: b\n\tc: d\n", 2, "not YAML"),
        (b"a: b\nc: \xff\n", 2, "not UTF-8"),
        (b"a: b\nc: \x01\n", 2, "not YAML"),
        (b"[" * 17 + b"]" * 17, 1, "nested deeper than 16"),
        (b"[" * 60_000, 1, "nested deeper than 16"),
        (b"#" * 70_000, 0, "larger than 65536 bytes"),
    ],
)
def test_yaml_is_read_without_its_dangers(content: bytes, line: int, message: str) -> None:
    """No anchors, aliases, tags, doubles or depth; what is not YAML says its line."""
    with pytest.raises(InvalidInput) as caught:
        parse_config(content, "test.yaml")
    assert message in caught.value.message
    assert caught.value.line == line


def test_a_domain_needs_a_source_only() -> None:
    """All else has a default: the host name, no groups, a look every 90 minutes."""
    settings = parse_config(b"domain: {source: 'file:///srv/fleet'}").domain
    assert settings == DomainSettings("file:///srv/fleet")
    assert settings.interval_s == 90 * 60
    assert parse_config(b"").domain is None


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{}", "no source"),
        ("[]", "not a mapping"),
        ("x", "not a mapping"),
        ("{source: 'file:///x', sorce: y}", "no key 'sorce'"),
        ("{source: [x]}", "not a single value"),
        ("{source: 'http://h/x'}", "no place for policies"),
        ("{source: 'file:///'}", "no place for policies"),
        ("{source: 'file:x'}", "no place for policies"),
        ("{source: 'file://h/x'}", "no place for policies"),
        ("{source: '/srv/fleet'}", "no place for policies"),
        ("{source: 'https://u:p@h/x'}", "no place for policies"),
        ("{source: 'https://h/x?y'}", "no place for policies"),
        ("{source: 'https:///x'}", "no place for policies"),
        ("{source: 'https://h:port/x'}", "no URL"),
        ("{source: 'https://h/x y'}", "no URL"),
        ("{source: 'file:///x', doorbell: 'etcd://u:hidden@h/k'}", "no place in etcd"),
        ("{source: 'file:///x', doorbell: 'http://h:1/k'}", "no place in etcd"),
        ("{source: 'file:///x', doorbell: 'etcd://h:1'}", "no place in etcd"),
        ("{source: 'file:///x', host: 'a b'}", "cannot name a host"),
        ("{source: 'file:///x', groups: web}", "not a list"),
        ("{source: 'file:///x', groups: [../x]}", "cannot name a group"),
        ("{source: 'file:///x', groups: [[x]]}", "not a name"),
        ("{source: 'file:///x', labels: [x]}", "not a mapping"),
        ("{source: 'file:///x', labels: {' x': y}}", "cannot be a label"),
        ("{source: 'file:///x', labels: {x: [y]}}", "not a single value"),
        ("{source: 'file:///x', interval: 90}", "not a time between"),
        ("{source: 'file:///x', interval: 0s}", "not a time between"),
        ("{source: 'file:///x', interval: 32d}", "not a time between"),
        ("{source: 'file:///x', ca: ca.pem}", "not an absolute path"),
        ("{source: 'file:///x', key: /k}", "one of certificate and key"),
        ("{source: 'file:///x', proxy: 'socks://h'}", "no web proxy"),
        ("{source: 'file:///x', proxy: 'http://us:hidden@h:port'}", "no web proxy"),
        ("{source: 'file:///x', proxy: 'http://us:hidden @h:1'}", "no web proxy"),
        ("{source: 'file:///x', reports: nowhere}", "no place for policies"),
    ],
)
def test_a_wrong_domain_is_told(section: str, message: str) -> None:
    """With the line, and never with the password of a doorbell."""
    with pytest.raises(InvalidInput) as caught:
        parse_config(f"boot: block\ndomain: {section}\n".encode(), "test.yaml")
    assert message in caught.value.message
    assert caught.value.line == 2
    assert "hidden" not in str(caught.value)


def test_passwords_are_for_who_needs_them() -> None:
    """A doorbell and a proxy are shown without theirs."""
    assert DOMAIN.doorbell is not None
    assert without_password(DOMAIN.doorbell) == "etcds://fleet:…@h1:2379,h2:2379/ipsecd"
    assert without_password("etcd://h1:2379/ipsecd") == "etcd://h1:2379/ipsecd"
    assert without_password("http://us:p@w@proxy:3128") == "http://us:…@proxy:3128"


def test_words_are_words() -> None:
    """YAML's other words for true and false stay what was written."""
    with pytest.raises(InvalidInput, match="'no' is not auto"):
        parse_config(b"backend: no\n")


def test_the_command_line_says_which_backend() -> None:
    """A backend on the command line replaces the one of the settings."""
    assert parse_config(b"backend: xdp\n", "test.yaml").backend == "xdp"
    assert Config().with_backend("xdp").backend == "xdp"
    assert Config().with_backend("nftables").backend == "nftables"


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    """Only the default file may be absent; a directory is no file."""
    path = tmp_path / "ipsecd.yaml"
    with pytest.raises(NotFound, match="there is no configuration file"):
        load_config(path)
    with pytest.raises(StoreFailed, match="cannot be read"):
        load_config(tmp_path)
    path.write_bytes(EVERYTHING)
    assert load_config(path) == parse_config(EVERYTHING, str(path))


def test_the_default_file_may_be_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file the daemon runs with its defaults."""
    monkeypatch.setattr("ipsecd.config.DEFAULT_CONFIG", tmp_path / "absent.yaml")
    assert load_config() == Config()


@pytest.mark.parametrize("where", ["127.0.0.1:9633", "[::1]:9633", "/run/ipsecd-metrics/sock"])
def test_metrics_are_had_at_an_address_or_a_socket(where: str) -> None:
    """The setting is what the exporter is told."""
    assert parse_config(f'metrics: "{where}"\n'.encode()).metrics == where


@pytest.mark.parametrize(
    "where",
    [
        *("9633", ":9633", "*:9633", "me:9633", "localhost:9633", "127.0.0.1", "127.0.0.1:0"),
        *("127.0.0.1:65536", "10.0.0.0/8:9633", "::1:9633", "run/sock", "/" + "x" * 107, "on"),
    ],
)
def test_where_no_metrics_can_be_had_is_refused(where: str) -> None:
    """Nobody must believe that metrics are there, or have them where he did not mean."""
    with pytest.raises(InvalidInput, match="metrics: "):
        parse_config(f'metrics: "{where}"\n'.encode())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"guard: maybe\n", "guard: 'maybe' is neither on nor off"),
        (b"guard-ports: [0]\n", "guard-ports: '0'"),
        (b"guard-ports: 22\n", "guard-ports is not a list of ports"),
    ],
)
def test_a_guard_that_is_not_meant_is_refused(content: bytes, message: str) -> None:
    """Nobody must believe that he is guarded."""
    with pytest.raises(InvalidInput, match=message):
        parse_config(content)


@pytest.mark.parametrize(
    ("text", "size"), [("off", 0), ("64M", 64 << 20), ("4096K", 4 << 20), ("64G", 64 << 30)]
)
def test_the_flight_recorder_takes_what_it_is_given(text: str, size: int) -> None:
    """The default is 64 MiB."""
    assert parse_config(f"recorder: {text}\n".encode()).recorder_bytes == size
    assert parse_config(b"").recorder_bytes == 64 << 20


@pytest.mark.parametrize("text", ["on", "3M", "65G", "64", "64 MiB", "-1M", "٦٤M", "0M", "[64M]"])
def test_other_sizes_of_the_flight_recorder_are_refused(text: str) -> None:
    """With the line."""
    with pytest.raises(InvalidInput, match="recorder"):
        parse_config(f"recorder: {text}\n".encode())
