"""Owns the daemon's settings: reads ``ipsecd.yaml``; must not know what they do.

Every key has a default, so the file may be absent. An unknown key or value is refused, and the
error names its line: a setting that is silently ignored would be a security hole.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TypeVar

from ipsecd.backend.registry import AUTO, NAMES
from ipsecd.errors import InvalidInput, IpsecdError, NotFound, Refused, StoreFailed
from ipsecd.language.yamltree import Mapping, Node, Scalar, Sequence, load_tree
from ipsecd.model.exemptions import ESSENTIALS, NO_DEFAULT_EXEMPT, Exemption
from ipsecd.protocol.frames import MAX_FRAME_BYTES
from ipsecd.quoting import quote, quote_path

DEFAULT_CONFIG = Path("/etc/ipsecd/ipsecd.yaml")
MAX_CONFIG_BYTES = 64 << 10

CONTAINER_ENGINES = (Path("/run/podman/podman.sock"), Path("/run/docker.sock"))
"""The sockets of Podman and Docker."""

T = TypeVar("T")
E = TypeVar("E", bound=Enum)


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
    NoDefaultExempt, or None.
    """

    backend: str = AUTO
    unparsable: Unparsable = Unparsable.DROP
    essentials: tuple[str, ...] = tuple(essential.name for essential in ESSENTIALS)
    default_exempt: int | None = None
    on_stop: OnStop = OnStop.WITHDRAW
    boot: Boot = Boot.PERMIT
    container_engines: tuple[Path, ...] = CONTAINER_ENGINES
    limits: Limits = field(default_factory=Limits)

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


def load_config(path: Path | None = None) -> Config:
    """The settings in the file `path`, which must exist, or else in the default file, if any.

    Raises ``InvalidInput`` with file and line, ``Refused`` for the backend that this version
    lacks, ``NotFound`` for a file that was named and is absent, ``StoreFailed`` if it is not
    readable.
    """
    config_path = path or DEFAULT_CONFIG
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


def boot_despite_errors(path: Path | None = None) -> Boot:
    """The setting ``boot`` of a file with errors, if it can be found in the text."""
    try:
        with (path or DEFAULT_CONFIG).open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES)
    except OSError:
        return Boot.PERMIT
    return Boot.BLOCK if _BLOCKS.search(content) else Boot.PERMIT


def parse_config(content: bytes, source: str = "<configuration>") -> Config:
    """The settings in `content`; raises as ``load_config`` does."""
    tree = load_tree(content, source, max_bytes=MAX_CONFIG_BYTES)
    if tree is None:
        return Config()
    reader = _Reader(source)
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
            "limits",
        ),
    )
    return Config(
        reader.scalar(keys, "backend", _backend, default.backend),
        reader.scalar(keys, "unparsable", _member_of(Unparsable), default.unparsable),
        reader.essentials(keys, default.essentials),
        reader.scalar(keys, "default-exempt", _default_exempt, default.default_exempt),
        reader.scalar(keys, "on-stop", _member_of(OnStop), default.on_stop),
        reader.scalar(keys, "boot", _member_of(Boot), default.boot),
        reader.paths(keys, "container-engines", default.container_engines),
        _limits(reader, keys.get("limits")),
    )


class _Reader:
    """Takes values out of the tree, and says the file and line when one is wrong."""

    def __init__(self, source: str) -> None:
        self._source = source

    def members(self, node: Node, what: str, key_names: tuple[str, ...]) -> dict[str, Node]:
        """The members of a mapping, whose keys must all be among `key_names`."""
        if not isinstance(node, Mapping):
            raise self._wrong(
                node, f"{what} is not a mapping", f"its keys are {', '.join(key_names)}"
            )
        for key in node.members:
            if key.text not in key_names:
                near = difflib.get_close_matches(key.text, key_names, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(key_names)}"
                raise self._wrong(key, f"{what} has no key {quote(key.text)}", hint)
        return {key.text: value for key, value in node.members.items()}

    def scalar(self, keys: dict[str, Node], name: str, parse: Callable[[str], T], default: T) -> T:
        """The value of `name`, or `default` where it is absent."""
        if name not in keys:
            return default
        node = keys[name]
        if not isinstance(node, Scalar):
            raise self._wrong(node, f"{name} is not a single value")
        return self._parsed(node, name, parse)

    def essentials(self, keys: dict[str, Node], default: tuple[str, ...]) -> tuple[str, ...]:
        """The names under ``essentials``: a list, which may be empty."""
        if "essentials" not in keys:
            return default
        node = keys["essentials"]
        if not isinstance(node, Sequence):
            raise self._wrong(
                node,
                "essentials is not a list of names",
                f"write [] for none, or [{', '.join(default)}]",
            )
        names = []
        for item in node.items:
            if not isinstance(item, Scalar):
                raise self._wrong(item, "essentials holds something that is not a name")
            names.append(self._parsed(item, "essentials", _essential))
        return tuple(dict.fromkeys(names))

    def paths(
        self, keys: dict[str, Node], name: str, default: tuple[Path, ...]
    ) -> tuple[Path, ...]:
        """The absolute paths under `name`: a list, which may be empty."""
        if name not in keys:
            return default
        node = keys[name]
        if not isinstance(node, Sequence):
            raise self._wrong(node, f"{name} is not a list of paths", "write [] for none")
        paths = []
        for item in node.items:
            if not isinstance(item, Scalar) or not item.text.startswith("/"):
                raise self._wrong(item, f"{name} holds something that is not an absolute path")
            paths.append(Path(item.text))
        return tuple(dict.fromkeys(paths))

    def _parsed(self, node: Scalar, name: str, parse: Callable[[str], T]) -> T:
        try:
            return parse(node.text)
        except InvalidInput as error:
            raise self._wrong(node, f"{name}: {error.message}", error.hint) from error
        except Refused as error:
            where = f"{self._source}:{node.line}: "
            raise Refused(where + error.message, error.hint) from error

    def _wrong(self, node: Node, message: str, hint: str = "") -> IpsecdError:
        return InvalidInput(message, hint, source=self._source, line=node.line)


def _limits(reader: _Reader, node: Node | None) -> Limits:
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
            keys, "connections-per-user", _integer(1, 10_000), default.connections_per_user
        ),
        reader.scalar(keys, "connections", _integer(1, 100_000), default.connections),
        reader.scalar(keys, "frame-bytes", _integer(4096, 16 << 20), default.frame_bytes),
        reader.scalar(keys, "dynamic-rules", _integer(0, 10_000_000), default.dynamic_rules),
        float(
            reader.scalar(keys, "idle-timeout", _integer(1, 86_400), int(default.idle_timeout_s))
        ),
    )


def _integer(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        # isdecimal() accepts digits of every script, and int() raises for very long numbers.
        if text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most:
            return int(text)
        raise InvalidInput(f"{quote(text)} is not a whole number from {least} to {most}")

    return parse


def _member_of(kind: type[E]) -> Callable[[str], E]:
    def parse(text: str) -> E:
        for member in kind:
            if member.value == text:
                return member
        names = " or ".join(member.value for member in kind)
        raise InvalidInput(f"{quote(text)} is not {names}")

    return parse


def _backend(text: str) -> str:
    if text not in NAMES:
        raise InvalidInput(f"{quote(text)} is not {' or '.join(NAMES)}")
    return text


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
