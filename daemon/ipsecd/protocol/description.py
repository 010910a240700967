"""Owns parsing the text of varlink interfaces; must not know calls.

The grammar is https://varlink.org/Interface-Definition. The texts are part of this package, so an
error in one is a bug, and raises a plain ``ValueError`` that names the line.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache
from importlib import resources

from ipsecd.protocol.interface import (
    Array,
    Enumeration,
    Interface,
    Map,
    Method,
    Named,
    Nullable,
    Primitive,
    Struct,
    Type,
)

CONTROL = "io.ipsecd.control"
SERVICE = "org.varlink.service"

_PRIMITIVES = ("bool", "int", "float", "string", "object")
_TOKEN = re.compile(
    r"(?P<space>\s+|\#[^\n]*)"
    r"|(?P<word>[A-Za-z][A-Za-z0-9_]*(?:[.-][A-Za-z0-9_]+)*)"
    r"|(?P<sign>->|\[string\]|\[\]|[?():,])"
)


@cache
def load_interface(name: str) -> Interface:
    """The interface called `name`, whose text is part of this package."""
    return parse_interface(interface_text(name))


def interface_text(name: str) -> str:
    """The text that describes the interface called `name`, with its comments."""
    return resources.files(__package__).joinpath(f"{name}.varlink").read_text("utf-8")


def parse_interface(text: str) -> Interface:
    """The interface that `text` describes; raises ``ValueError`` with the line."""
    return _Parser(text).interface()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._next = 0
        self._references: list[tuple[str, int]] = []

    def interface(self) -> Interface:
        self._expect("interface")
        name = self._word()
        types: dict[str, Type] = {}
        methods: dict[str, Method] = {}
        errors: dict[str, Struct] = {}
        while self._next < len(self._tokens):
            keyword = self._word()
            member = self._word()
            kinds: dict[str, Collection[str]] = {
                "type": types,
                "method": methods,
                "error": errors,
            }
            members_of_kind = kinds.get(keyword)
            if members_of_kind is None:
                raise self._wrong(f"{keyword!r} is not type, method or error")
            if member in members_of_kind:
                raise self._wrong(f"{keyword} {member!r} is defined twice")
            if keyword == "type":
                types[member] = self._parenthesis()
            elif keyword == "method":
                parameters = self._struct()
                self._expect("->")
                methods[member] = Method(parameters, self._struct())
            else:
                errors[member] = self._struct()
        for reference, line in self._references:
            if reference not in types:
                raise ValueError(f"line {line}: there is no type {reference!r}")
        return Interface(name, self._text, types, methods, errors)

    def _struct(self) -> Struct:
        struct = self._parenthesis()
        if not isinstance(struct, Struct):
            raise self._wrong("a list of names stands where fields with types must")
        return struct

    def _parenthesis(self) -> Struct | Enumeration:
        """``(name: type, …)`` or ``(name, …)``; ``()`` is a struct without members."""
        self._expect("(")
        if self._take(")"):
            return Struct({})
        first = self._word()
        if self._take(":"):
            fields = {first: self._type()}
            while not self._take(")"):
                self._expect(",")
                name = self._word()
                self._expect(":")
                if name in fields:
                    raise self._wrong(f"{name!r} stands twice")
                fields[name] = self._type()
            return Struct(fields)
        names = [first]
        while not self._take(")"):
            self._expect(",")
            names.append(self._word())
        return Enumeration(tuple(names))

    def _type(self) -> Type:
        if self._take("?"):
            if self._peek() == "?":
                raise self._wrong("a type is nullable twice")
            return Nullable(self._type())
        if self._take("[]"):
            return Array(self._type())
        if self._take("[string]"):
            return Map(self._type())
        if self._peek() == "(":
            return self._parenthesis()
        line = self._line()
        name = self._word()
        if name in _PRIMITIVES:
            return Primitive(name)
        self._references.append((name, line))
        return Named(name)

    def _peek(self) -> str:
        return self._tokens[self._next][0] if self._next < len(self._tokens) else ""

    def _line(self) -> int:
        return self._tokens[min(self._next, len(self._tokens) - 1)][1] if self._tokens else 1

    def _take(self, sign: str) -> bool:
        if self._peek() != sign:
            return False
        self._next += 1
        return True

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise self._wrong(f"{self._peek()!r} stands where {token!r} must")

    def _word(self) -> str:
        token = self._peek()
        if not token or not token[0].isalpha():
            raise self._wrong(f"{token!r} stands where a name must")
        self._next += 1
        return token

    def _wrong(self, reason: str) -> ValueError:
        return ValueError(f"line {self._line()}: {reason}")


def _tokens(text: str) -> list[tuple[str, int]]:
    """The words and signs of `text`, each with its line, counted from 1."""
    tokens = []
    position, line = 0, 1
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"line {line}: {text[position]!r} is not expected here")
        if match.lastgroup != "space":
            tokens.append((match.group(), line))
        line += match.group().count("\n")
        position = match.end()
    return tokens
