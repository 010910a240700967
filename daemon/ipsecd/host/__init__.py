"""What this host is at the moment, asked of its kernel and of the container engines on it."""
