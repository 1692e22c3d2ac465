"""Stages, a file each: what they measure of a source; their settings stand beside them."""
