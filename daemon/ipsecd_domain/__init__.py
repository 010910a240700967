"""Domain policy: one policy for a fleet, signed, from one place.

Everything that knows The Update Framework is in here, apart from the daemon: its library costs
more time and memory than the daemon itself.
"""
