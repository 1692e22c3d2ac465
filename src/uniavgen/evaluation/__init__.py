"""Measurements: one file a metric, one protocol that makes and keeps clips, one report. See `uniavgen evaluate`."""
