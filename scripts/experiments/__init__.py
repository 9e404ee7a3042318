"""Experiments: a folder each, run from a clone, with its results beside it."""
