"""The process in which a backend is tried: ``python -m ipsecd.backend.trial_process NAME``."""

from __future__ import annotations

import sys
from dataclasses import asdict

from ipsecd.backend.registry import BY_NAME
from ipsecd.backend.trial import Trial, leave_network
from ipsecd.errors import IpsecdError
from ipsecd.output import say_json


def main(arguments: list[str]) -> int:
    """Try one backend here and print the outcome; returns 0 in any case."""
    offer = BY_NAME[arguments[0]].offer
    assert offer is not None
    untried = leave_network()
    try:
        trial = offer.attempt(untried)
    except IpsecdError as error:
        trial = Trial(refusal=error.message)
    except OSError as error:
        trial = Trial(refusal=error.strerror or str(error))
    say_json(asdict(trial))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
