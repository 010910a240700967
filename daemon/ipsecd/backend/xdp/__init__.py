"""Enforcement by XDP and tc programs."""
