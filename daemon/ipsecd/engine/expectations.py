"""Owns that no policy is put in force that does not do what its author expects.

What is in force was judged when it was put there, and is not judged again.
"""

from __future__ import annotations

from dataclasses import replace

from ipsecd.errors import IpsecdError
from ipsecd.language.expectations import must_be_met
from ipsecd.sources.last_good import CompiledPolicy
from ipsecd.sources.reading import Loaded


def expectations_must_be_met(loaded: Loaded, in_force: CompiledPolicy | None) -> None:
    """Raise ``Refused`` if the assigned policy does not meet its expectations.

    Raises ``LimitExceeded`` if it has too many to be judged.
    """
    stored = loaded.policies[loaded.assigned] if loaded.assigned else None
    if stored and stored.policy.expect and not (in_force and in_force.document == stored.text):
        must_be_met(stored.policy)


def judged(loaded: Loaded, in_force: CompiledPolicy | None) -> Loaded:
    """What was read, with an assigned policy that does not meet them as one that cannot be used."""
    if loaded.assigned_error:
        return loaded
    try:
        expectations_must_be_met(loaded, in_force)
    except IpsecdError as error:
        return replace(loaded, assigned_error=error)
    return loaded
