"""What is known of a checkpoint's accuracy: from the metadata of its card and from results of `flux-hf evaluate`."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import ModelCard
from transformers.utils import cached_file

from flux_hf.hub.model_card import dataset_name

METRIC = re.compile(r"top-1, (\d+) tokens")
"""How `flux-hf push` names an accuracy in the metadata of a card."""


@dataclass(frozen=True)
class KnownAccuracy:
    """Top-1 accuracy on one data set.

    Attributes:
        dataset: its name.
        top1: token budget -> share of videos that are right, from 0 to 1, smallest budget first.
    """

    dataset: str
    top1: dict[int, float] = field(default_factory=dict)


def card_accuracy(checkpoint: str) -> list[KnownAccuracy]:
    """What the metadata of a checkpoint's card (folder or Hub id) says, a data set each; nothing where it says none."""
    card = cached_file(
        checkpoint,
        "README.md",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if card is None:
        return []
    found: dict[str, dict[int, float]] = {}
    for result in ModelCard.load(Path(card), ignore_metadata_errors=True).data.eval_results or ():
        budget = METRIC.match(result.metric_name or "")
        if result.metric_type == "accuracy" and budget:
            found.setdefault(result.dataset_name, {})[int(budget[1])] = float(result.metric_value) / 100
    return [_sorted(dataset, top1) for dataset, top1 in found.items()]


def evaluated_accuracy(evaluations: list[dict]) -> list[KnownAccuracy]:
    """What results of `flux-hf evaluate` (see `flux_hf.hub.model_card.read_evaluation`) say, one each."""
    return [
        _sorted(
            dataset_name(evaluation),
            {int(budget): each["top1"] for budget, each in evaluation["budgets"].items() if each["top1"] is not None},
        )
        for evaluation in evaluations
    ]


def _sorted(dataset: str, top1: dict[int, float]) -> KnownAccuracy:
    return KnownAccuracy(dataset, dict(sorted(top1.items())))
