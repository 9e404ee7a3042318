"""Class names for converted checkpoints, and classifiers cut down to some of their classes."""

import re

import torch

from flux_hf.modeling.configuration_fluxvit import FluxViTConfig

_HEAD = re.compile(r"head\.(\d+\.)?(weight|bias)")


def select_classes(
    state_dict: dict[str, torch.Tensor], source_names: list[str], names: list[str]
) -> dict[str, torch.Tensor]:
    """Cut every classifier (`head.weight`, `head.0.weight`, ...) down to the rows of `names`, in their order.

    The official code would drop the whole classifier of a 710-class checkpoint without a word when it is fine-tuned on
    400 classes.

    Args:
        source_names: class names of the classifier's rows.
        names: class names to keep, each of them one of `source_names`.

    Raises:
        ValueError: the counts do not fit, or names are unknown; they are listed.
    """
    rows = {name: row for row, name in enumerate(source_names)}
    if unknown := [name for name in names if name not in rows]:
        raise ValueError(f"{len(unknown)} of {len(names)} labels are none of the source's: {', '.join(unknown[:10])}")
    chosen = torch.tensor([rows[name] for name in names])
    selected = dict(state_dict)
    for key, tensor in state_dict.items():
        if _HEAD.fullmatch(key):
            if len(tensor) != len(source_names):
                raise ValueError(f"{key} has {len(tensor)} classes, but {len(source_names)} source labels are given")
            selected[key] = tensor[chosen]
    return selected


def name_classes(config: FluxViTConfig, num_classes: int | None, id2label: dict[int, str] | None) -> None:
    """Give a config its classes: as many as the classifier has (None: as the names say), under the names given.

    Raises:
        ValueError: there are names for another number of classes.
    """
    if id2label is None:
        if num_classes is not None:
            config.num_labels = num_classes
        return
    if num_classes is not None and len(id2label) != num_classes:
        raise ValueError(
            f"id2label names {len(id2label)} classes, the classifier has {num_classes}; "
            "to keep some of its classes, name all of them too (source_label_names)"
        )
    config.id2label = dict(id2label)
    config.label2id = {name: index for index, name in id2label.items()}
