"""From filters in force to a classifier: pure, deterministic, and blind to any kernel."""
