"""Owns varlink calls and replies as JSON objects; must not know bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ipsecd.protocol.frames import ProtocolError


@dataclass(frozen=True, slots=True)
class Call:
    """One call: the full name of a method, its parameters, and how the caller wants the reply."""

    method: str
    parameters: dict[str, Any] = field(default_factory=dict)
    oneway: bool = False
    more: bool = False
    upgrade: bool = False

    @property
    def interface(self) -> str:
        """The interface that the method's name begins with."""
        return self.method.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The method's name without its interface."""
        return self.method.rpartition(".")[2]


def call_of(message: dict[str, Any]) -> Call:
    """The call in `message`; raises ``ProtocolError`` if it is not a call."""
    method = message.get("method")
    if not isinstance(method, str):
        raise ProtocolError('a call names its "method", as a string')
    parameters = message.get("parameters")
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, dict):
        raise ProtocolError('the "parameters" of a call are an object')
    return Call(
        method,
        parameters,
        _flag(message, "oneway"),
        _flag(message, "more"),
        _flag(message, "upgrade"),
    )


def reply_of(parameters: dict[str, Any], *, continues: bool = False) -> dict[str, Any]:
    """The reply with these `parameters`; if it `continues`, more replies follow."""
    reply: dict[str, Any] = {"parameters": parameters}
    return {**reply, "continues": True} if continues else reply


def _flag(message: dict[str, Any], name: str) -> bool:
    value = message.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise ProtocolError(f'"{name}" of a call is true or false')
    return value
