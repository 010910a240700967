"""Domain policy: one policy for a fleet, signed, from one place.

Everything that knows The Update Framework is in here, apart from the daemon: its library costs
more time and memory than the daemon itself.
"""

import sys
from pathlib import Path

# Where a distribution has no package of that library, ours brings it, and nobody else finds it.
# One that is installed goes first.
sys.path.append(str(Path(__file__).with_name("shipped")))
