"""Top-1 and top-5 as metrics of the evaluate library."""

import math
import tracemalloc

import evaluate
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
    metric.add(prediction=logits[0].tolist(), reference=int(labels[0]))
    for start in range(1, 20, 7):
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


def test_beside_other_metrics_of_the_library():
    both = evaluate.combine([TopK(), TopK()])
    figures = both.compute(predictions=[[0.0, 1.0], [0.0, 1.0]], references=[1, 0])
    assert set(figures.values()) == {0.5}


def test_memory_is_that_of_the_logits():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2000, 3, 400)).astype(np.float32)
    labels = rng.integers(400, size=2000)
    tracemalloc.start()
    accuracy_at_budgets(logits, labels, [64, 32, 16])
    of_budgets = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    TopK().compute(predictions=logits[:, 0], references=labels, k=5)
    of_metric = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert of_budgets < logits.nbytes
    assert of_metric < logits.nbytes
