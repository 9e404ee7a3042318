"""Accuracy as metrics of the `evaluate` library, without a download."""

import datasets
import evaluate
import numpy as np
from evaluate import EvaluationModuleInfo

UNREADABLE = -100


class TopK(evaluate.Metric):
    """Share of clips whose label is among the k highest logits (of equal logits the label's comes last).

    `TopK().compute(predictions=logits, references=labels, k=5)` gives {"top5": ...}; a label of -100 (a video that
    could not be read) does not count. Without a label that counts the share is nan.
    """

    def __init__(self, **options):
        super().__init__(**options)
        self._batches = []

    def _info(self) -> EvaluationModuleInfo:
        return EvaluationModuleInfo(
            description="Share of clips whose label is among the k highest logits.",
            citation="",
            inputs_description=self.__doc__,
            features=datasets.Features(
                {"predictions": datasets.Sequence(datasets.Value("float32")), "references": datasets.Value("int64")}
            ),
        )

    def add_batch(self, *, predictions, references) -> None:
        """Keep these clips for `compute`: logits (clips, classes) and labels (clips,), arrays or lists."""
        self._batches.append((np.asarray(predictions, np.float32), np.asarray(references)))

    def add(self, *, prediction, reference) -> None:
        """Keep one clip for `compute`."""
        self.add_batch(predictions=[prediction], references=[reference])

    def compute(self, *, predictions=None, references=None, k: int = 1) -> dict[str, float]:
        """Share of the clips kept and of those given here, `{"top{k}": ...}`; forgets them."""
        if predictions is not None:
            self.add_batch(predictions=predictions, references=references)
        logits, labels = (np.concatenate(parts) for parts in zip(*self._batches, strict=True))
        self._batches = []
        return {f"top{k}": share_in_top(logits, labels, k)}


def share_in_top(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of the rows of `logits` (clips, classes) whose label is in the k highest; `TopK` says what counts."""
    readable = labels != UNREADABLE
    logits, labels = logits[readable], labels[readable]
    if not len(labels):
        return float("nan")
    not_below = logits >= np.take_along_axis(logits, labels[:, None], axis=1)
    return float((not_below.sum(axis=1) <= k).mean())


def accuracy_at_budgets(logits: np.ndarray, labels: np.ndarray, token_budgets: list[int]) -> dict[str, float]:
    """`top1_{budget}` and, with more than 5 classes, `top5_{budget}`; `unreadable` where videos could not be read.

    Args:
        logits: (clips, budgets, classes).
        labels: (clips,), -100 for a video that could not be read.
    """
    figures = {
        f"top{k}_{budget}": share_in_top(logits[:, index], labels, k)
        for index, budget in enumerate(token_budgets)
        for k in ((1, 5) if logits.shape[-1] > 5 else (1,))
    }
    if unreadable := int((labels == UNREADABLE).sum()):
        figures["unreadable"] = unreadable
    return figures
