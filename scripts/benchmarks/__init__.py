"""Measurements of speed and memory: one command a file, run from a clone, with its results beside it."""
