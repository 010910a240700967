"""A repository as its operator has it: a directory that any web server can serve, and keys.

Nothing in here runs on the hosts that take a policy from it.
"""
