"""Accuracy of a checkpoint on a labelled video data set."""

from flux_hf.evaluation.accuracy import evaluate
from flux_hf.evaluation.report import markdown_table, plot_accuracy

__all__ = ["evaluate", "markdown_table", "plot_accuracy"]
