"""Metrics, one file each; `evaluation.registry.METRICS` lists them."""
