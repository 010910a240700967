"""Owns who asks for a change, and how he wants it made; must not know what is changed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChangeOptions:
    """How a change is to be made, as the one who asks for it says.

    ``confirm_s`` is after how many seconds everything is put back as it was unless somebody
    confirms the change, None if nobody has to. With ``force`` it is made even if it would cut the
    connection it is made through. ``message`` says what it is for. ``terminal`` is the path of the
    terminal that it is made from, ``login`` tells the login apart from others, and ``sudo_user`` is
    who became another user for it: all three are what the caller says, and nothing that is known.
    """

    confirm_s: float | None = None
    force: bool = False
    message: str = ""
    terminal: str = ""
    login: str = ""
    sudo_user: str = ""


NO_OPTIONS = ChangeOptions()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the process at the other end of the socket, and what he wants.

    ``pid`` is 0 where the daemon changes something by itself.
    """

    uid: int = 0
    pid: int = 0
    user: str = ""
    options: ChangeOptions = NO_OPTIONS


DAEMON = Caller()
"""Who asks where the daemon does something by itself."""
