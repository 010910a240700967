"""The flight recorder: what was in force, and what was dropped, at any moment of the last days."""
