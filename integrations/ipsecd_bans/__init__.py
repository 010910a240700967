"""Bans of other programs, kept in force by ipsecd: what the integrations share."""
