"""All that a script may change, in memory: it is changed at will, and asked for as one change."""
