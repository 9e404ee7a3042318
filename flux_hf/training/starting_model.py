"""The model that fine-tuning starts from: random weights, or a checkpoint fitted to the labels of the data set."""

from collections.abc import Callable
from dataclasses import dataclass

from transformers import AutoConfig, PreTrainedConfig
from transformers.utils import logging

from flux_hf.checkpoints import checkpoint_path, reading_weights
from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
from flux_hf.modeling.flux_model_fluxvit import FluxModel
from flux_hf.modeling.modeling_fluxvit import FluxViTForVideoClassification, FluxViTPreTrainedModel
from flux_hf.modeling.modeling_fluxvit_pretraining import FluxViTForPreTraining
from flux_hf.options.recipes import read_model_config
from flux_hf.plugin import enable_flux, load_video_classifier
from flux_hf.training.budgets import set_budgets

logger = logging.get_logger(__name__)

OF_PRE_TRAINING = ("aligned_layers", "teacher_hidden_size", "teacher_projection_dim")
"""Fields of a configuration that a classifier has no use for."""

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
) -> FluxModel:
    """A classifier for `label_names`: of a checkpoint of any family that `enable_flux` knows, or a new FluxViT.

    A checkpoint keeps its classifiers when it has the same labels. When its labels include all of ours (Kinetics-710 to
    Kinetics-400), each of our classes takes the weights of the class of the same name; otherwise the classifiers start
    at random. The log says which of these happened. A pre-trained checkpoint has no classifiers yet. What
    `token_budget="auto"` answers by goes: it belongs to the weights.

    Args:
        checkpoint: folder, Hub id, or `default` for the one in the package.
        config_file: JSON configuration or the name of one in the package (`fluxvit_nano`), to start from random weights
            when there is no checkpoint.
        say: is told when the classifiers start at random, or the number of heads changes.

    Raises:
        ValueError: when neither is given, no configuration has that name, or the model has not what `changes` sets.
        UnsupportedModelError: tokens cannot be left out in this model; a ValueError.
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
    with reading_weights(checkpoint):
        if isinstance(config := AutoConfig.from_pretrained(checkpoint), FluxViTConfig):
            model = _fluxvit(checkpoint, config, changes, say)
        else:
            model = _other_model(checkpoint, config, changes)
    model.config.adaptive_budget = None  # weights that learn on are sure in another way
    if isinstance(model, FluxViTForPreTraining):
        model.config.update(names | dict.fromkeys(OF_PRE_TRAINING))
        classifier = FluxViTForVideoClassification(model.config)
        classifier.fluxvit = model.fluxvit
        return classifier
    known = {name: index for index, name in enumerate(model.label_names)}
    taken = [known.get(name) for name in label_names]
    if None in taken:
        model.set_labels(label_names)
        say(f"new classifiers for {len(label_names)} labels: the checkpoint does not have them all")
    else:
        model.set_labels(label_names, taken)
        logger.info(f"classifiers of {len(label_names)} of the {len(known)} labels of {checkpoint} taken by name")
    return model


def _fluxvit(checkpoint: str, config: FluxViTConfig, changes: ModelChanges, say) -> FluxViTPreTrainedModel:
    """Heads for as many budgets as before go on in their places, others start as the nearest."""
    settings, budgets = changes.as_dict(), changes.head_token_budgets
    if budgets is not None and len(budgets) != len(config.head_token_budgets):
        del settings["head_token_budgets"]  # no head would find the weights of its own
    if config.architectures == [FluxViTForPreTraining.__name__]:
        model = FluxViTForPreTraining.from_pretrained(checkpoint, **settings)
    else:
        model = load_video_classifier(checkpoint, **settings)
    set_budgets(model, budgets or model.token_budgets, say)
    return model


def _other_model(checkpoint: str, config: PreTrainedConfig, changes: ModelChanges) -> FluxModel:
    """With `head_token_budgets` a head for each of them, which starts as the one there is."""
    settings = {}
    if changes.drop_path_rate is not None:
        if not hasattr(config, "drop_path_rate"):
            raise ValueError(f"--drop_path_rate: a model of the type {config.model_type} drops no layers")
        settings["drop_path_rate"] = changes.drop_path_rate
    model, budgets = load_video_classifier(checkpoint, **settings), changes.head_token_budgets
    if budgets is None:
        return model
    if model.head_budget(budgets[0]) is None:
        enable_flux(
            model,
            model.config.token_budget,
            token_budgets=budgets,
            heads_per_budget=True,
            token_selection=model.config.token_selection,
        )
    model.set_token_budgets(budgets)
    return model
