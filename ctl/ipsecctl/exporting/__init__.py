"""Owns writing down what is in force, or a stored policy, in the words of other programs."""
