"""The unprivileged fetcher of the domain policy: sources, doorbell, talk with the daemon."""
