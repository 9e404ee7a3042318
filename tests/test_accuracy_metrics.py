"""Top-1 and top-5 as metrics of the evaluate library."""

import math

import numpy as np
import pytest

from flux_hf.evaluation.metrics import TopK, accuracy_at_budgets


def test_top_k_by_hand():
    logits = [[0.1, 0.9, 0.5], [0.8, 0.1, 0.7], [0.3, 0.2, 0.1]]
    assert TopK().compute(predictions=logits, references=[1, 2, 2]) == {"top1": pytest.approx(1 / 3)}
    assert TopK().compute(predictions=logits, references=[1, 2, 2], k=2) == {"top2": pytest.approx(2 / 3)}


def test_in_parts_as_in_one():
    logits = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    labels = np.arange(20) % 8
    metric = TopK()
    for start in range(0, 20, 7):
        metric.add_batch(predictions=logits[start : start + 7].tolist(), references=labels[start : start + 7].tolist())
    best = np.argsort(-logits, axis=1)[:, :5]
    assert metric.compute(k=5)["top5"] == pytest.approx(
        np.mean([label in row for label, row in zip(labels, best, strict=True)])
    )


def test_unreadable_videos_and_ties_do_not_help():
    assert TopK().compute(predictions=[[1.0, 1.0], [0.0, 2.0]], references=[0, -100])["top1"] == 0.0
    assert math.isnan(TopK().compute(predictions=[[1.0, 2.0]], references=[-100])["top1"])


def test_figures_of_every_budget():
    logits = np.zeros((3, 2, 7), np.float32)
    logits[:, 0, 0], logits[:, 1, 1] = 1.0, 1.0
    figures = accuracy_at_budgets(logits, np.array([0, 1, -100]), [64, 32])
    assert figures == {"top1_64": 0.5, "top5_64": 0.5, "top1_32": 0.5, "top5_32": 0.5, "unreadable": 1}
