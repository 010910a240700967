"""Owns varlink interfaces as values, and checks parameters by them; must not know their text.

Only types and names are checked here. The model checks what the values mean.
"""

from __future__ import annotations

from collections.abc import Mapping
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

    def check_call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """The parameters of a call as `method` declares them.

        Every declared name is present (None where a nullable one was left out) and a ``float``
        is a float. Raises ``VarlinkError``: MethodNotFound, or InvalidParameter with the path of
        the first parameter that is missing, unknown or of another type.
        """
        if method not in self.methods:
            raise method_not_found(f"{self.name}.{method}")
        return self._struct(self.methods[method].parameters, parameters, "")

    def check_reply(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """As ``check_call``, for the parameters of a reply."""
        if method not in self.methods:
            raise method_not_found(f"{self.name}.{method}")
        return self._struct(self.methods[method].reply, parameters, "")

    def _struct(self, struct: Struct, value: dict[str, Any], path: str) -> dict[str, Any]:
        dot = f"{path}." if path else ""
        for name in value:
            if name not in struct.fields:
                raise invalid_parameter(dot + name, "is not known here")
        checked = {}
        for name, kind in struct.fields.items():
            if name not in value and not isinstance(kind, Nullable):
                raise invalid_parameter(dot + name, "is missing")
            checked[name] = self._value(kind, value.get(name), dot + name)
        return checked

    def _value(self, kind: Type, value: Any, path: str) -> Any:
        match kind:
            case Primitive(name):
                return _primitive(name, value, path)
            case Nullable(of):
                return None if value is None else self._value(of, value, path)
            case Array(of):
                if not isinstance(value, list):
                    raise invalid_parameter(path, "is not a list")
                return [
                    self._value(of, item, f"{path}[{index}]") for index, item in enumerate(value)
                ]
            case Map(of):
                members = _object(value, path)
                return {
                    key: self._value(of, item, f"{path}.{key}") for key, item in members.items()
                }
            case Named(name):
                return self._value(self.types[name], value, path)
            case Enumeration(names):
                if value not in names:
                    raise invalid_parameter(path, f"is not one of {', '.join(names)}")
                return value
            case Struct():
                return self._struct(kind, _object(value, path), path)


def _object(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid_parameter(path, "is not an object")
    return value


def _primitive(name: str, value: Any, path: str) -> Any:
    # In Python a bool is an int; in JSON it is not.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match name:
        case "bool":
            if not isinstance(value, bool):
                raise invalid_parameter(path, "is not true or false")
        case "int":
            if not number or not isinstance(value, int) or not INT_MIN <= value <= INT_MAX:
                raise invalid_parameter(path, "is not an integer of 64 bits")
        case "float":
            # JSON has only one kind of number: 600.0 is often written as 600.
            if not number or (isinstance(value, int) and not INT_MIN <= value <= INT_MAX):
                raise invalid_parameter(path, "is not a number of 64 bits")
            return float(value)
        case "string":
            if not isinstance(value, str):
                raise invalid_parameter(path, "is not a string")
    return value
