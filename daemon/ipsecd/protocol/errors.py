"""Owns errors in replies: those of the project, and those of varlink itself."""

from __future__ import annotations

from typing import Any

from ipsecd.errors import (
    BackendFailed,
    Changed,
    Cut,
    InvalidInput,
    IpsecdError,
    LimitExceeded,
    NotFound,
    Refused,
    StoreFailed,
    WouldCut,
)
from ipsecd.quoting import MAX_PATH, cut, excerpt, quote

PREFIX = "io.ipsecd.control."
VARLINK_PREFIX = "org.varlink.service."


class AccessDenied(IpsecdError):
    """The peer may only read, and asked for a change."""

    wire = "AccessDenied"


_KINDS: dict[str, type[IpsecdError]] = {
    kind.wire: kind
    for kind in (
        IpsecdError,
        NotFound,
        Refused,
        Changed,
        LimitExceeded,
        StoreFailed,
        BackendFailed,
        AccessDenied,
    )
}


class VarlinkError(Exception):
    """An error of ``org.varlink.service``: its name and parameters, and words for the log."""

    def __init__(self, name: str, parameters: dict[str, str], message: str) -> None:
        super().__init__(message)
        self.name = name
        self.parameters = parameters
        self.message = message


def interface_not_found(interface: str) -> VarlinkError:
    """The call names an interface that this service does not have."""
    return VarlinkError(
        "InterfaceNotFound",
        {"interface": cut(interface, MAX_PATH)},
        f"there is no interface {quote(interface)}",
    )


def method_not_found(method: str) -> VarlinkError:
    """The call names a method that its interface does not have; `method` is its full name."""
    return VarlinkError(
        "MethodNotFound", {"method": cut(method, MAX_PATH)}, f"there is no method {quote(method)}"
    )


def invalid_parameter(parameter: str, reason: str) -> VarlinkError:
    """A parameter is missing, unknown or of the wrong type; `parameter` is written as a path."""
    return VarlinkError(
        "InvalidParameter",
        {"parameter": cut(parameter, MAX_PATH)},
        f"parameter {quote(parameter)} {reason}",
    )


def to_wire(error: IpsecdError | VarlinkError) -> dict[str, Any]:
    """The reply that carries `error`."""
    if isinstance(error, VarlinkError):
        return {"error": VARLINK_PREFIX + error.name, "parameters": dict(error.parameters)}
    parameters: dict[str, Any] = {"message": error.message, "hint": error.hint}
    if isinstance(error, InvalidInput):
        source, position = error.source, error.position
        if error.line > 0 or position < 0:
            source = cut(source, MAX_PATH)
        else:
            source, position = excerpt(source, position)
        parameters |= {"source": source, "line": error.line, "position": position}
    if isinstance(error, WouldCut):
        parameters["cuts"] = [cut.fields() for cut in error.cuts]
    return {"error": PREFIX + error.wire, "parameters": parameters}


def from_wire(name: str, parameters: dict[str, Any]) -> IpsecdError:
    """The error that a reply carries; an unknown one is an ``IpsecdError`` that names it."""
    wire = name.removeprefix(PREFIX)
    message = str(parameters.get("message", ""))
    hint = str(parameters.get("hint", ""))
    if wire == InvalidInput.wire:
        return InvalidInput(
            message,
            hint,
            source=str(parameters.get("source", "")),
            line=int(parameters.get("line", 0)),
            position=int(parameters.get("position", -1)),
        )
    if wire == WouldCut.wire:
        return WouldCut(message, hint, _cuts(parameters.get("cuts")))
    if wire in _KINDS:
        return _KINDS[wire](message, hint)
    details = ", ".join(f"{key} {quote(str(value))}" for key, value in parameters.items())
    return IpsecdError(
        f"the daemon answered {name}" + (f" ({details})" if details else ""),
        "the daemon and this command may be of different versions",
    )


def _cuts(given: object) -> tuple[Cut, ...]:
    """The connections in an error; what is not of their form is left out."""
    return tuple(
        Cut(*(str(each.get(name, "")) for name in Cut.NAMES))
        for each in (given if isinstance(given, list) else [])
        if isinstance(each, dict)
    )
