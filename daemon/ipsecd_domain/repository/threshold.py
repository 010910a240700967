"""Owns from how many hosts on that fail a canary is halted; must not know which fail, or why."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ipsecd.errors import InvalidInput
from ipsecd.quoting import quote

_HOSTS = re.compile(r"[0-9]{1,9}")
_SHARE = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?%")


def _must(holds: bool, given: str) -> None:
    if not holds:
        raise InvalidInput(
            f"{quote(given)} is no number of hosts that a canary could be halted after",
            "write 3 for three hosts, or 2% for a share of those that are given the policy",
        )


@dataclass(frozen=True)
class Threshold:
    """So many hosts, or so many percent of those that are given a policy; always one at least."""

    hosts: int = 1
    percent: float | None = None

    def __post_init__(self) -> None:
        if self.percent is None:
            _must(self.hosts > 0, f"{self.hosts:,} hosts")
        else:
            _must(0 < self.percent <= 100, f"{self.percent:g}%")

    def number(self, given: int) -> int:
        """How many hosts it is where `given` hosts are given the policy."""
        if self.percent is None:
            return self.hosts
        return max(1, math.ceil(given * self.percent / 100))


DEFAULT = Threshold(percent=1.0)
"""One host up to a hundred; one odd host of a thousand is no reason to take a policy back."""


def parse_threshold(text: str) -> Threshold:
    """The threshold that a text such as ``3`` or ``2%`` is; raises ``InvalidInput``."""
    if _SHARE.fullmatch(text):
        return Threshold(percent=float(text.removesuffix("%")))
    _must(bool(_HOSTS.fullmatch(text)), text)
    return Threshold(int(text))
