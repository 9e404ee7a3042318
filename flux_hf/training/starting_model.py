"""The model that fine-tuning starts from: random weights, or a checkpoint fitted to the labels of the data set."""

from collections.abc import Callable
from dataclasses import dataclass

from transformers.utils import logging

from flux_hf.checkpoints import checkpoint_path, reading_weights
from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
from flux_hf.modeling.modeling_fluxvit import FluxViTForVideoClassification
from flux_hf.modeling.modeling_fluxvit_pretraining import FluxViTForPreTraining
from flux_hf.options.recipes import read_model_config
from flux_hf.training.budgets import set_budgets

logger = logging.get_logger(__name__)

NOTHING_TO_START_FROM = (
    "nothing to start from: give a RECIPE (`flux-hf recipes` lists them, own_clips is the one for your own clips), "
    "--model CHECKPOINT, or --model_config (a name or JSON file, random weights)"
)


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
    say: Callable[[str], None] = logger.warning,
) -> FluxViTForVideoClassification:
    """A classifier for `label_names`.

    A checkpoint keeps its classifiers when it has the same labels. When its labels include all of ours (Kinetics-710 to
    Kinetics-400), each of our classes takes the weights of the class of the same name; otherwise the classifiers start
    at random. The log says which of these happened. A pre-trained checkpoint has no classifiers yet.

    Args:
        checkpoint: folder, Hub id, or `default` for the one in the package.
        config_file: JSON configuration or the name of one in the package (`fluxvit_nano`), to start from random weights
            when there is no checkpoint.
        say: is told when the classifiers start at random, or the number of heads changes.

    Raises:
        ValueError: when neither is given, or no configuration has that name.
    """
    if checkpoint is None and config_file is None:
        raise ValueError(NOTHING_TO_START_FROM)
    names = {
        "id2label": dict(enumerate(label_names)),
        "label2id": {name: index for index, name in enumerate(label_names)},
    }
    if checkpoint is None:
        config = FluxViTConfig.from_dict(read_model_config(config_file))
        config.update(names | changes.as_dict())
        return FluxViTForVideoClassification(config)

    checkpoint = checkpoint_path(checkpoint)
    config, settings, budgets = FluxViTConfig.from_pretrained(checkpoint), changes.as_dict(), changes.head_token_budgets
    if budgets is not None and len(budgets) != len(config.head_token_budgets):
        del settings["head_token_budgets"]  # no head would find the weights of its own
    else:
        budgets = None
    if config.architectures == [FluxViTForPreTraining.__name__]:
        with reading_weights(checkpoint):
            pretrained = FluxViTForPreTraining.from_pretrained(checkpoint, **settings)
        set_budgets(pretrained, budgets or pretrained.token_budgets, say)
        pretrained.config.update(names)
        model = FluxViTForVideoClassification(pretrained.config)
        model.fluxvit = pretrained.fluxvit
        return model
    with reading_weights(checkpoint):
        model = FluxViTForVideoClassification.from_pretrained(checkpoint, **settings)
    set_budgets(model, budgets or model.token_budgets, say)
    known = model.config.label2id
    taken = [known.get(name) for name in label_names]
    if None in taken:
        model.set_labels(label_names)
        say(f"new classifiers for {len(label_names)} labels: the checkpoint does not have them all")
    else:
        model.set_labels(label_names, taken)
        logger.info(f"classifiers of {len(label_names)} of the {len(known)} labels of {checkpoint} taken by name")
    return model
