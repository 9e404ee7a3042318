"""Accuracy of a checkpoint on a labelled video data set."""

from flux_hf.evaluation.accuracy import evaluate

__all__ = ["evaluate"]
