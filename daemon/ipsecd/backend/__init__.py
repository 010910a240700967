"""What enforces a classifier: one contract, and its implementations."""
