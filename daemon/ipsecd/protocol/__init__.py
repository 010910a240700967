"""The control protocol: varlink frames, the interface description, and errors on the wire."""
