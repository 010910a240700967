"""IPsec-style block and permit rules for Linux hosts, enforced in the kernel."""

__version__ = "0.1.1"
