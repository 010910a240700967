"""Proofs about filters: which packets two states decide differently, and what never decides."""
