"""Where filters live: on disk (static), and in memory (dynamic)."""
