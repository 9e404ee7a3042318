"""The model that fine-tuning starts from: random weights, or a checkpoint fitted to the labels of the data set."""

from dataclasses import dataclass

import torch
from transformers.utils import logging

from flux_hf.checkpoints import checkpoint_path
from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
from flux_hf.modeling.modeling_fluxvit import FluxViTForVideoClassification
from flux_hf.options.recipes import model_config_path

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class ModelChanges:
    """What to set in the configuration of the model; None leaves it."""

    drop_path_rate: float | None = None
    head_token_budgets: list[int] | None = None

    def as_dict(self) -> dict:
        return {name: value for name, value in vars(self).items() if value is not None}


def starting_model(
    label_names: list[str],
    *,
    checkpoint: str | None = None,
    config_file: str | None = None,
    changes: ModelChanges = ModelChanges(),  # noqa: B008 (frozen)
) -> FluxViTForVideoClassification:
    """A classifier for `label_names`.

    A checkpoint keeps its classifiers when it has the same labels. When its labels include all of ours (Kinetics-710 to
    Kinetics-400), each of our classes takes the weights of the class of the same name; otherwise the classifiers start
    at random. Which of it happened is logged.

    Args:
        checkpoint: folder, Hub id, or `default` for the one in the package.
        config_file: JSON configuration or the name of one in the package (`fluxvit_nano`), to start from random weights
            when there is no checkpoint.

    Raises:
        ValueError: when neither is given, or no configuration has that name.
    """
    if checkpoint is None and config_file is None:
        raise ValueError("give model (a checkpoint) or model_config (a name or JSON file, random weights)")
    names = {
        "id2label": dict(enumerate(label_names)),
        "label2id": {name: index for index, name in enumerate(label_names)},
    }
    if checkpoint is None:
        config = FluxViTConfig.from_json_file(model_config_path(config_file))
        config.update(names | changes.as_dict())
        return FluxViTForVideoClassification(config)

    checkpoint = checkpoint_path(checkpoint)
    known = FluxViTConfig.from_pretrained(checkpoint).label2id
    model = FluxViTForVideoClassification.from_pretrained(
        checkpoint, ignore_mismatched_sizes=True, **names, **changes.as_dict()
    )
    if not set(label_names) <= known.keys():
        if [known.get(name) for name in label_names] != list(range(len(known))):
            _new_classifiers(model)
            logger.warning(f"{checkpoint} does not have all {len(label_names)} labels: the classifiers start at random")
        return model
    if [known[name] for name in label_names] != list(range(len(known))):
        _take_classes(model, checkpoint, [known[name] for name in label_names])
        logger.info(f"classifiers of {len(label_names)} of the {len(known)} labels of {checkpoint} taken by name")
    return model


@torch.no_grad()
def _take_classes(model: FluxViTForVideoClassification, checkpoint: str, classes: list[int]) -> None:
    larger = FluxViTForVideoClassification.from_pretrained(checkpoint)
    for mine, theirs in zip(model.classifiers, larger.classifiers, strict=True):
        mine.weight.copy_(theirs.weight[classes])
        mine.bias.copy_(theirs.bias[classes])


@torch.no_grad()
def _new_classifiers(model: FluxViTForVideoClassification) -> None:
    for classifier in model.classifiers:
        torch.nn.init.trunc_normal_(classifier.weight, std=model.config.initializer_range)
        classifier.bias.zero_()
