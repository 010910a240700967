"""The pages, a module for each, and what they have in common; none knows how it is sent."""
