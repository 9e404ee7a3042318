"""Fights or none, in clips of surveillance cameras that others collected: FluxViT beside simple classifiers."""
