"""Owns varlink interfaces as values, and checks parameters by them; must not know their text.

Only types and names are checked here. The model checks what the values mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ipsecd.protocol.errors import invalid_parameter, method_not_found

INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Primitive:
    """One of ``bool``, ``int``, ``float``, ``string`` and ``object`` (any JSON)."""

    name: str


@dataclass(frozen=True, slots=True)
class Nullable:
    """A value or null; an absent parameter counts as null."""

    of: Type


@dataclass(frozen=True, slots=True)
class Array:
    """A list of values of one type."""

    of: Type


@dataclass(frozen=True, slots=True)
class Map:
    """An object with any names, and values of one type."""

    of: Type


@dataclass(frozen=True, slots=True)
class Named:
    """A type that the interface defines elsewhere, by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Enumeration:
    """One of some strings."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Struct:
    """An object with exactly these members."""

    fields: Mapping[str, Type]


Check = Callable[[Any], Any]
"""Gives a value as its type has it."""
Type = Primitive | Nullable | Array | Map | Named | Enumeration | Struct


@dataclass(frozen=True, slots=True)
class Method:
    """The parameters of a method and of its reply."""

    parameters: Struct
    reply: Struct


@dataclass(frozen=True, slots=True)
class Interface:
    """One parsed interface; ``description`` is the text that it was parsed from."""

    name: str
    description: str
    types: Mapping[str, Type] = field(default_factory=dict)
    methods: Mapping[str, Method] = field(default_factory=dict)
    errors: Mapping[str, Struct] = field(default_factory=dict)
    _checks: dict[tuple[str, bool], Check] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """What checks the calls (True) and the replies of methods, made when it is first needed."""

    def check_call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """The parameters of a call as `method` declares them.

        Every declared name is present (None where a nullable one was left out) and a ``float``
        is a float. Raises ``VarlinkError``: MethodNotFound, or InvalidParameter with the path of
        the first parameter that is missing, unknown or of another type.
        """
        return self._checked(method, parameters, is_call=True)

    def check_reply(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """As ``check_call``, for the parameters of a reply."""
        return self._checked(method, parameters, is_call=False)

    def _checked(self, method: str, parameters: dict[str, Any], *, is_call: bool) -> dict[str, Any]:
        check = self._checks.get((method, is_call))
        if check is None:
            if method not in self.methods:
                raise method_not_found(f"{self.name}.{method}")
            declared = self.methods[method]
            struct = declared.parameters if is_call else declared.reply
            check = self._checks[method, is_call] = _check_of(struct, self.types)
        try:
            checked: dict[str, Any] = check(parameters)
        except _Mismatch as error:
            raise invalid_parameter(error.path[1:], error.reason) from None
        return checked


class _Mismatch(Exception):
    """A value is not of its type; ``path`` leads to it, as in ``.put[3].name``."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path

    def inside(self, place: str) -> _Mismatch:
        """The same, seen from the value around it, which has it at `place`."""
        return _Mismatch(self.reason, place + self.path)


def _check_of(kind: Type, types: Mapping[str, Type]) -> Check:
    """What checks values of a type.

    It is made once, and knows no path but that of a mismatch: calls may have thousands of values.
    """
    match kind:
        case Primitive(name):
            return _PRIMITIVES[name]
        case Nullable(of):
            check = _check_of(of, types)
            return lambda value: None if value is None else check(value)
        case Array(of):
            return _check_of_array(_check_of(of, types))
        case Map(of):
            return _check_of_map(_check_of(of, types))
        case Named(name):
            return _check_of_named(name, types)
        case Enumeration(names):
            return _check_of_enumeration(names)
        case Struct(members):
            return _check_of_struct(
                {
                    name: (_check_of(of, types), isinstance(of, Nullable))
                    for name, of in members.items()
                }
            )


def _check_of_named(name: str, types: Mapping[str, Type]) -> Check:
    """What checks values of a type by its name, which may stand in its own definition."""
    checks: list[Check] = []

    def check(value: Any) -> Any:
        if not checks:
            checks.append(_check_of(types[name], types))
        return checks[0](value)

    return check


def _check_of_array(check_item: Check) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, list):
            raise _Mismatch("is not a list")
        checked: list[Any] = []
        try:
            for item in value:
                checked.append(check_item(item))  # noqa: PERF401 - its length tells the place
        except _Mismatch as error:
            raise error.inside(f"[{len(checked)}]") from None
        return checked

    return check


def _check_of_map(check_item: Check) -> Check:
    def check(value: Any) -> Any:
        checked = {}
        for key, item in _object(value).items():
            try:
                checked[key] = check_item(item)
            except _Mismatch as error:
                raise error.inside(f".{key}") from None
        return checked

    return check


def _check_of_enumeration(names: tuple[str, ...]) -> Check:
    def check(value: Any) -> Any:
        if value not in names:
            raise _Mismatch(f"is not one of {', '.join(names)}")
        return value

    return check


def _check_of_struct(members: Mapping[str, tuple[Check, bool]]) -> Check:
    """What checks objects whose members have these checks, and may be left out or not."""

    def check(value: Any) -> Any:
        if not _object(value).keys() <= members.keys():
            unknown = next(name for name in value if name not in members)
            raise _Mismatch("is not known here", f".{unknown}")
        checked: dict[str, Any] = {}
        for name, (check_member, may_be_absent) in members.items():
            if name not in value:
                if not may_be_absent:
                    raise _Mismatch("is missing", f".{name}")
                checked[name] = None
                continue
            try:
                checked[name] = check_member(value[name])
            except _Mismatch as error:
                raise error.inside(f".{name}") from None
        return checked

    return check


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Mismatch("is not an object")
    return value


def _bool(value: Any) -> Any:
    if not isinstance(value, bool):
        raise _Mismatch("is not true or false")
    return value


def _int(value: Any) -> Any:
    # In Python a bool is an int; in JSON it is not.
    if not isinstance(value, int) or isinstance(value, bool) or not INT_MIN <= value <= INT_MAX:
        raise _Mismatch("is not an integer of 64 bits")
    return value


def _float(value: Any) -> Any:
    # JSON has only one kind of number: 600.0 is often written as 600.
    if not isinstance(value, float):
        try:
            value = float(_int(value))
        except _Mismatch:
            raise _Mismatch("is not a number of 64 bits") from None
    return value


def _string(value: Any) -> Any:
    if not isinstance(value, str):
        raise _Mismatch("is not a string")
    return value


def _anything(value: Any) -> Any:
    return value


_PRIMITIVES: Mapping[str, Check] = {
    "bool": _bool,
    "int": _int,
    "float": _float,
    "string": _string,
    "object": _anything,
}
