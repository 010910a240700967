"""Owns the daemon's settings: reads ``ipsecd.yaml``; must not know what they do.

Every key has a default, so the file may be absent. An unknown key or value is refused, and the
error names its line: a setting that is silently ignored would be a security hole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from ipsecd.backend.registry import AUTO, NAMES
from ipsecd.config.domain import DomainSettings, interval_s, read_domain
from ipsecd.config.listen import read_listen
from ipsecd.config.protect import read_protect
from ipsecd.config.reading import SettingsReader, absolute_path, integer, one_of
from ipsecd.errors import InvalidInput, NotFound, StoreFailed
from ipsecd.language.yamltree import Node, load_tree
from ipsecd.model.exemptions import ESSENTIALS, NO_DEFAULT_EXEMPT, Exemption
from ipsecd.model.protected import Protected
from ipsecd.model.values import Filter
from ipsecd.protocol.frames import MAX_FRAME_BYTES
from ipsecd.quoting import quote, quote_path

DEFAULT_CONFIG = Path("/etc/ipsecd/ipsecd.yaml")
MAX_CONFIG_BYTES = 64 << 10

CONTAINER_ENGINES = (Path("/run/podman/podman.sock"), Path("/run/docker.sock"))
"""The sockets of Podman and Docker."""


RECORDER_BYTES = 64 << 20
LEAST_RECORDER_BYTES, MOST_RECORDER_BYTES = 4 << 20, 64 << 30
_SIZE = re.compile(r"([0-9]{1,6})([KMG])")
_SHIFTS = {"K": 10, "M": 20, "G": 30}


class Unparsable(Enum):
    """What happens to packets whose headers cannot be parsed, while anything is blocked."""

    DROP = "drop"
    LET_THROUGH = "pass"


class OnStop(Enum):
    """What stopping the daemon on purpose does with what it enforces."""

    WITHDRAW = "withdraw"
    KEEP = "keep"


class Boot(Enum):
    """What is in force while the host boots, until the assigned policy is."""

    PERMIT = "permit"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much clients may ask for; ``idle_timeout_s`` is in seconds."""

    connections_per_user: int = 64
    connections: int = 512
    frame_bytes: int = MAX_FRAME_BYTES
    dynamic_rules: int = 200_000
    idle_timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Config:
    """All settings.

    ``backend`` is one of ``registry.NAMES``, ``default_exempt`` a value of Windows'
    NoDefaultExempt, or None; without a ``domain`` policies come from this host only; ``protected``
    is what no dynamic rule may block, and what ``protected_filters`` match passes in both
    directions, whatever blocks it. DNS names are looked up again every ``names_every_s``
    seconds, None for only when somebody asks for it. With ``guard``, changes that would cut
    connections to ``guard_ports``, through which people administer this host, are refused.
    The flight recorder takes up to ``recorder_bytes`` of disk; 0: there is none.
    ``metrics`` is where ipsecd-metrics is asked: an address with a port, or a path.
    """

    backend: str = AUTO
    unparsable: Unparsable = Unparsable.DROP
    essentials: tuple[str, ...] = tuple(essential.name for essential in ESSENTIALS)
    default_exempt: int | None = None
    on_stop: OnStop = OnStop.WITHDRAW
    boot: Boot = Boot.PERMIT
    container_engines: tuple[Path, ...] = CONTAINER_ENGINES
    limits: Limits = field(default_factory=Limits)
    domain: DomainSettings | None = None
    protected: tuple[Protected, ...] = ()
    names_every_s: float | None = None
    guard: bool = True
    guard_ports: tuple[int, ...] = (22,)
    protected_filters: tuple[Filter, ...] = ()
    recorder_bytes: int = RECORDER_BYTES
    metrics: str | None = None

    @property
    def exemptions(self) -> tuple[Exemption, ...]:
        """What passes before any filter: the essentials that are on, then those of Windows."""
        essentials = tuple(
            essential for essential in ESSENTIALS if essential.name in self.essentials
        )
        if self.default_exempt is None:
            return essentials
        return essentials + NO_DEFAULT_EXEMPT[self.default_exempt]

    def with_backend(self, text: str) -> Config:
        """The settings with another backend; raises as the key ``backend`` does."""
        return replace(self, backend=_backend(text))


@dataclass(frozen=True, slots=True)
class Directories:
    """Where the daemon keeps things: what people edit, what it caches, and its socket."""

    config: Path = Path("/etc/ipsecd")
    state: Path = Path("/var/lib/ipsecd")
    runtime: Path = Path("/run/ipsecd")
    bpffs: Path = Path("/sys/fs/bpf/ipsecd")


def load_config(path: Path | None = None, default: Path | None = None) -> Config:
    """The settings in the file `path`, which must exist, or else in the `default` file, if any.

    Raises ``InvalidInput`` with file and line, ``Refused`` for the backend that this version
    lacks, ``NotFound`` for a file that was named and is absent, ``StoreFailed`` if it is not
    readable.
    """
    config_path = path or default or DEFAULT_CONFIG
    try:
        with config_path.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError as error:
        if path is None:
            return Config()
        raise NotFound(
            f"there is no configuration file {quote_path(str(path))}",
            "leave --config out to run with the defaults",
        ) from error
    except OSError as error:
        raise StoreFailed(
            f"the configuration file {quote_path(str(config_path))} cannot be read: "
            f"{error.strerror}",
            "look at its owner and mode",
        ) from error
    return parse_config(content, str(config_path))


_BLOCKS = re.compile(rb"""^boot\s*:\s*["']?block["']?\s*(#.*)?$""", re.MULTILINE)


def boot_despite_errors(path: Path | None = None, default: Path | None = None) -> Boot:
    """The setting ``boot`` of a file with errors, if it can be found in the text."""
    try:
        with (path or default or DEFAULT_CONFIG).open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES)
    except OSError:
        return Boot.PERMIT
    return Boot.BLOCK if _BLOCKS.search(content) else Boot.PERMIT


def parse_config(content: bytes, source: str = "<configuration>") -> Config:
    """The settings in `content`; raises as ``load_config`` does."""
    tree = load_tree(content, source, max_bytes=MAX_CONFIG_BYTES)
    if tree is None:
        return Config()
    reader = SettingsReader(source)
    default = Config()
    keys = reader.members(
        tree,
        "the configuration",
        (
            "backend",
            "unparsable",
            "essentials",
            "default-exempt",
            "on-stop",
            "boot",
            "container-engines",
            "protect",
            "names",
            "limits",
            "domain",
            "guard",
            "guard-ports",
            "recorder",
            "metrics",
        ),
    )
    protected, protected_filters = read_protect(reader, keys.get("protect"))
    return Config(
        reader.scalar(keys, "backend", _backend, default.backend),
        reader.scalar(keys, "unparsable", one_of(Unparsable), default.unparsable),
        reader.texts(keys, "essentials", _essential, default.essentials),
        reader.scalar(keys, "default-exempt", _default_exempt, default.default_exempt),
        reader.scalar(keys, "on-stop", one_of(OnStop), default.on_stop),
        reader.scalar(keys, "boot", one_of(Boot), default.boot),
        reader.texts(keys, "container-engines", absolute_path, default.container_engines, "paths"),
        _limits(reader, keys.get("limits")),
        read_domain(reader, keys["domain"]) if "domain" in keys else None,
        protected,
        reader.scalar(keys, "names", _names_every_s, default.names_every_s),
        reader.scalar(keys, "guard", _on_or_off, default.guard),
        reader.texts(keys, "guard-ports", integer(1, 65535), default.guard_ports, "ports"),
        protected_filters,
        reader.scalar(keys, "recorder", _recorder_bytes, default.recorder_bytes),
        reader.scalar(keys, "metrics", read_listen, default.metrics),
    )


def _limits(reader: SettingsReader, node: Node | None) -> Limits:
    default = Limits()
    if node is None:
        return default
    keys = reader.members(
        node,
        "limits",
        ("connections-per-user", "connections", "frame-bytes", "dynamic-rules", "idle-timeout"),
    )
    return Limits(
        reader.scalar(
            keys, "connections-per-user", integer(1, 10_000), default.connections_per_user
        ),
        reader.scalar(keys, "connections", integer(1, 100_000), default.connections),
        reader.scalar(keys, "frame-bytes", integer(4096, 16 << 20), default.frame_bytes),
        reader.scalar(keys, "dynamic-rules", integer(0, 10_000_000), default.dynamic_rules),
        float(reader.scalar(keys, "idle-timeout", integer(1, 86_400), int(default.idle_timeout_s))),
    )


def _backend(text: str) -> str:
    if text not in NAMES:
        raise InvalidInput(f"{quote(text)} is not {' or '.join(NAMES)}")
    return text


def _names_every_s(text: str) -> float | None:
    if text == "on-reload":
        return None
    every, _, span = text.partition(" ")
    if every != "every":
        raise InvalidInput(f"{quote(text)} is not when to look", "write every 5m, or on-reload")
    return interval_s(span.strip())


def _recorder_bytes(text: str) -> int:
    if text == "off":
        return 0
    match = _SIZE.fullmatch(text)
    size = int(match[1]) << _SHIFTS[match[2]] if match and text.isascii() else 0
    if not LEAST_RECORDER_BYTES <= size <= MOST_RECORDER_BYTES:
        raise InvalidInput(
            f"{quote(text)} is no size of the flight recorder", "write off, or 64M; 4M to 64G"
        )
    return size


def _on_or_off(text: str) -> bool:
    if text not in ("on", "off"):
        raise InvalidInput(f"{quote(text)} is neither on nor off")
    return text == "on"


def _essential(text: str) -> str:
    names = [essential.name for essential in ESSENTIALS]
    if text not in names:
        raise InvalidInput(
            f"there is no essential {quote(text)}", f"the names are {', '.join(names)}"
        )
    return text


def _default_exempt(text: str) -> int | None:
    if text == "none":
        return None
    if text not in ("0", "1", "2", "3"):
        raise InvalidInput(
            f"{quote(text)} is not 0, 1, 2, 3 or none", "the values are those of NoDefaultExempt"
        )
    return int(text)
