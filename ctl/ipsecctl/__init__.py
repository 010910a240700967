"""The command line: what a person types, sent to the daemon, and its answers made readable."""
