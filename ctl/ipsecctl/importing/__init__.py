"""Owns the translation of other firewalls' rules into policies; must not know the daemon.

A source is read into its own rules. Those are translated by one module and judged by another, which
share nothing but the rules that were read; what both say is compared, packet by packet.
"""
