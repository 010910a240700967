"""Owns who makes a change: what the socket, the kernel and the caller himself tell of it."""

from __future__ import annotations

import asyncio
import pwd

from ipsecd.engine.caller import Caller, ChangeOptions
from ipsecd.service.access import Peer


async def caller_of(peer: Peer, options: ChangeOptions) -> Caller:
    """Who is at the other end, with `options`; names of users may have to be looked up."""
    login_uid, command = peer.process
    told = options.login_uid if login_uid is None else login_uid
    login_user = ""
    if told is not None:
        is_same = told == peer.uid
        login_user = peer.user if is_same else await asyncio.to_thread(_user_name, told)
    return Caller(peer.uid, peer.pid, peer.user, options, login_uid, login_user, command)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
