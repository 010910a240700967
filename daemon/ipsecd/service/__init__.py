"""The daemon as a service: its socket, who gets in, what it does by itself, and its end."""
