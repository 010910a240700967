"""The commands of ``netsh ipsec``: filter lists, filter actions, rules and policies, by line."""

from __future__ import annotations

from ipsecctl.netsh.calling import carry_out
from ipsecctl.netsh.session import Answer, Session

__all__ = ["Answer", "Session", "carry_out"]
