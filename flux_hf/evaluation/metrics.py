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
        super().__init__(**{"keep_in_memory": True} | options)

    def _info(self) -> EvaluationModuleInfo:
        return EvaluationModuleInfo(
            description="Share of clips whose label is among the k highest logits.",
            citation="",
            inputs_description=self.__doc__,
            features=datasets.Features(
                {"predictions": datasets.Sequence(datasets.Value("float32")), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions, references, k: int = 1) -> dict[str, float]:
        logits, labels = np.asarray(predictions, dtype=np.float32), np.asarray(references)
        logits, labels = logits[labels != UNREADABLE], labels[labels != UNREADABLE]
        if not len(labels):
            return {f"top{k}": float("nan")}
        others = logits >= logits[np.arange(len(labels)), labels][:, None]
        return {f"top{k}": float((others.sum(1) <= k).mean())}


def accuracy_at_budgets(logits: np.ndarray, labels: np.ndarray, token_budgets: list[int]) -> dict[str, float]:
    """`top1_{budget}` and, with more than 5 classes, `top5_{budget}`; `unreadable` where videos could not be read.

    Args:
        logits: (clips, budgets, classes).
        labels: (clips,), -100 for a video that could not be read.
    """
    figures = {}
    for index, budget in enumerate(token_budgets):
        for k in (1, 5) if logits.shape[-1] > 5 else (1,):
            top = TopK().compute(predictions=logits[:, index].tolist(), references=labels.tolist(), k=k)
            figures[f"top{k}_{budget}"] = top[f"top{k}"]
    if unreadable := int((labels == UNREADABLE).sum()):
        figures["unreadable"] = unreadable
    return figures
