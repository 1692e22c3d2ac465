"""Metrics, one file each. `catalogue` says which there are and what they need."""
