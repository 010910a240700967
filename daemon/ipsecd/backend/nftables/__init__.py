"""Enforcement with nftables: one table, written over netlink."""
