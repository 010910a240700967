"""Owns that no policy is put in force that does not do what its author expects.

What was judged when it came is not judged again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ipsecd.engine.state import State
from ipsecd.errors import IpsecdError
from ipsecd.language.expectations import must_be_met
from ipsecd.sources.reading import Loaded, StoredPolicy


def judged_documents(state: State) -> Collection[str | None]:
    """The documents of what is in force, and of what is assigned behind another source."""
    assigned = None if state.loaded.assigned_error else _assigned(state.loaded)
    return state.compiled.document, assigned.text if assigned else None


def expectations_must_be_met(loaded: Loaded, judged_before: Collection[str | None]) -> None:
    """Raise ``Refused`` if the assigned policy does not meet its expectations.

    Raises ``LimitExceeded`` if it has too many to be judged.
    """
    stored = _assigned(loaded)
    if stored and stored.policy.expect and stored.text not in judged_before:
        must_be_met(stored.policy)


def judged(loaded: Loaded, judged_before: Collection[str | None]) -> Loaded:
    """What was read, with an assigned policy that does not meet them as one that cannot be used."""
    if loaded.assigned_error:
        return loaded
    try:
        expectations_must_be_met(loaded, judged_before)
    except IpsecdError as error:
        return replace(loaded, assigned_error=error)
    return loaded


def _assigned(loaded: Loaded) -> StoredPolicy | None:
    return loaded.policies[loaded.assigned] if loaded.assigned else None
