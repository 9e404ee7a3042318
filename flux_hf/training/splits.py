"""The clips that fine-tuning trains and is evaluated on: splits, a share kept back, and a count of every class."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from datasets import Dataset
from transformers.utils import logging

from flux_hf.tables import printable

logger = logging.get_logger(__name__)

MOST_ROWS = 30
MOST_NAMES = 5


def keep_share(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """(training, validation) clips of a training split: of every class the same share, at least one clip, drawn by
    seed; a class of one clip keeps it for training.

    Raises:
        ValueError: `share` is not between 0 and 1, or no class has two clips.
    """
    if not 0 < share < 1:
        raise ValueError(f"validation_share must be between 0 and 1, got {share}")
    labels, generator = np.asarray(dataset["label"][:]), np.random.default_rng(seed)
    kept = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        kept += members[: min(max(1, round(share * len(members))), len(members) - 1)].tolist()
    if not kept:
        raise ValueError("validation_share needs a class with two clips, every class has one")
    return dataset.select(sorted(set(range(len(labels))) - set(kept))), dataset.select(sorted(kept))


def clip_table(label_names: list[str], splits: dict[str, Sequence[int] | None]) -> str:
    """How many clips each split has of each class. Of many classes those with the fewest clips are shown.

    Args:
        splits: name -> label of every clip; None where the clips cannot be counted (streamed).
    """
    counts = {name: None if labels is None else Counter(labels) for name, labels in splits.items()}
    counted = [found for found in counts.values() if found is not None]
    order = range(len(label_names))
    if left_out := max(0, len(label_names) - MOST_ROWS):
        order = sorted(sorted(order, key=lambda label: sum(found[label] for found in counted))[:MOST_ROWS])
    rows = [["clips", *counts]]
    rows += [[printable(label_names[label]), *(_count(found, label) for found in counts.values())] for label in order]
    if left_out:
        rows.append([f"{left_out} more classes", *("" for _ in counts)])
    rows.append(["all", *(_count(found) for found in counts.values())])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    )


def check_classes(label_names: list[str], train: Sequence[int], validation: Sequence[int] | None) -> None:
    """Warn of classes with one training clip or none, and of those that the evaluation does not see.

    Raises:
        ValueError: a class has clips in the evaluation and none in training, so that it cannot be learned.
    """
    trained, evaluated = Counter(train), Counter(validation or ())
    labels = range(len(label_names))
    if unlearned := [label for label in labels if evaluated[label] and not trained[label]]:
        raise ValueError(
            f"only the evaluation has clips of {_names(label_names, unlearned)}: no training clip shows them. Is a "
            "folder or a label misspelt? Add training clips, or take these out of the evaluation"
        )
    problems = {
        "no clip of": [label for label in labels if not trained[label]],
        "only one training clip of": [label for label in labels if trained[label] == 1],
    }
    if validation is not None:
        problems["no clip to evaluate of"] = [label for label in labels if trained[label] and not evaluated[label]]
    for problem, found in problems.items():
        if found:
            logger.warning(f"warning: {problem} {_names(label_names, found)}")


def _count(found: Counter | None, label: int | None = None) -> str:
    if found is None:
        return "streamed"
    return str(found.total() if label is None else found[label])


def _names(label_names: list[str], labels: list[int]) -> str:
    shown = ", ".join(printable(label_names[label]) for label in labels[:MOST_NAMES])
    return shown + f" and {len(labels) - MOST_NAMES} more" * (len(labels) > MOST_NAMES)
