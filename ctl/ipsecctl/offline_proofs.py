"""Owns what a proof is given where no daemon is asked: filters of policies, and a host for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ipsecctl.given_lists import given_lists
from ipsecctl.options import Options, own_addresses_of
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.list_names import lists_named_by
from ipsecd.model.packets import Host
from ipsecd.model.values import InForce, Policy, Store, filters_of
from ipsecd.proof.changes import Surroundings
from ipsecd.proof.standing import with_stand_ins


class Given(NamedTuple):
    """The filters of each policy, the host, and the names that stand for addresses of their own."""

    filters: Sequence[Sequence[InForce]]
    surroundings: Surroundings
    names: tuple[str, ...]


def given(policies: Sequence[Policy | None], options: Options) -> Given:
    """What a proof about policies is given by the options of a command; None is no policy."""
    named = frozenset[str]().union(*(lists_named_by(policy) for policy in policies if policy))
    host = Host(own_addresses_of(options), lists=given_lists(options, named))
    states = [filters_of(policy, Store.STATIC) if policy else () for policy in policies]
    filters, host, names = with_stand_ins(states, host)
    return Given(filters, Surroundings(host, ESSENTIALS), names)
