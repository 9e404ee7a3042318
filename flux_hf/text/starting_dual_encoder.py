"""The dual encoder that aligning starts from: one that was aligned before, or two towers."""

from collections.abc import Callable

from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from flux_hf.checkpoints import checkpoint_path, reading_weights
from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
from flux_hf.modeling.configuration_fluxvit_clip import FluxViTClipConfig
from flux_hf.modeling.modeling_fluxvit import FluxViTForVideoClassification, FluxViTModel, FluxViTPreTrainedModel
from flux_hf.modeling.modeling_fluxvit_clip import FluxViTClipModel, pretrained_text_encoder
from flux_hf.modeling.modeling_fluxvit_pretraining import FluxViTForPreTraining
from flux_hf.options.errors import naming_option
from flux_hf.options.recipes import read_model_config
from flux_hf.processing.processing_fluxvit_clip import FluxViTClipProcessor

logger = logging.get_logger(__name__)

NO_TOWERS = (
    "nothing to start from: give --model CHECKPOINT of flux-hf align, or --text_model with --model (a FluxViT) or "
    "--model_config (random weights)"
)
VIDEO_TOWERS = {model.__name__: model for model in (FluxViTForPreTraining, FluxViTForVideoClassification)}


def starting_dual_encoder(
    *,
    checkpoint: str | None = None,
    config_file: str | None = None,
    text_checkpoint: str | None = None,
    changes: dict | None = None,
    drop_path_rate: float | None = None,
    say: Callable[[str], None] = logger.warning,
) -> tuple[FluxViTClipModel, PreTrainedTokenizerBase, dict]:
    """The model, the tokenizer of its text tower, and the options of a `FluxViTClipProcessor` about the length of
    sentences: those of the dual encoder's own, else what the text tower needs.

    Args:
        checkpoint: of a dual encoder, which goes on; or, with `text_checkpoint`, of the video tower, a FluxViT of any
            kind. Folder, Hub id, or `default` for the FluxViT in the package.
        config_file: without `checkpoint`, a FluxViT with random weights: JSON file or name of a configuration.
        text_checkpoint: of the text tower, with its tokenizer; a text encoder of transformers, or a dual encoder of
            text and images whose text tower is taken.
        changes: options of `FluxViTClipConfig` to set. In a dual encoder `loss` and `projection_dim` stay as they are.
        drop_path_rate: of the video tower; None leaves it.
        say: is told what starts at random.

    Raises:
        ValueError: naming the option that is missing or does not fit.
    """
    changes = {name: value for name, value in (changes or {}).items() if value is not None}
    if checkpoint is None and (config_file is None or text_checkpoint is None):
        raise ValueError(NO_TOWERS)
    path = None if checkpoint is None else checkpoint_path(checkpoint)
    if path is not None:
        with naming_option("model", path):
            config = AutoConfig.from_pretrained(path)
            if isinstance(config, FluxViTClipConfig):
                return _dual_encoder(path, config, text_checkpoint, changes, drop_path_rate)
            if not isinstance(config, FluxViTConfig):
                raise ValueError(
                    f"it is a {config.model_type}; accepted are a FluxViT and what flux-hf align writes (fluxvit_clip)"
                )
            if text_checkpoint is None:
                raise ValueError("a FluxViT has no text encoder: give --text_model, too")
            video = _video_tower(path, config, drop_path_rate)
    else:
        config = FluxViTConfig.from_dict(read_model_config(config_file))
        if drop_path_rate is not None:
            config.drop_path_rate = drop_path_rate
        video = FluxViTModel(config)
    with naming_option("text_model", text_checkpoint):
        text, tokenizer = _text_tower(text_checkpoint)
    say("the projections of videos and texts start at random")
    model = FluxViTClipModel.from_towers(video, text, **changes)
    length = model.config.fixed_text_length
    return model, tokenizer, {} if length is None else {"max_length": length, "fixed_length": True}


def _dual_encoder(path: str, config: FluxViTClipConfig, text_checkpoint, changes: dict, drop_path_rate):
    if text_checkpoint is not None:
        raise ValueError("it has a text encoder, --text_model would take its place: give one of them")
    for name in ("loss", "projection_dim"):
        if changes.get(name, getattr(config, name)) != getattr(config, name):
            raise ValueError(f"--{name} {changes[name]}: the checkpoint has {getattr(config, name)}, which stays")
    config.freeze_text = changes.get("freeze_text", config.freeze_text)
    if drop_path_rate is not None:
        config.vision_config.drop_path_rate = drop_path_rate
    model = FluxViTClipModel.from_pretrained(path, config=config)
    processor = FluxViTClipProcessor.from_pretrained(path)
    return model, processor.tokenizer, {name: getattr(processor, name) for name in ("max_length", "fixed_length")}


def _video_tower(path: str, config: FluxViTConfig, drop_path_rate: float | None) -> FluxViTPreTrainedModel:
    if drop_path_rate is not None:
        config.drop_path_rate = drop_path_rate
    kind = VIDEO_TOWERS.get((config.architectures or [None])[0], FluxViTModel)
    with reading_weights(path):
        return kind.from_pretrained(path, config=config)


def _text_tower(checkpoint: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    with reading_weights(checkpoint):
        model = pretrained_text_encoder(checkpoint)
    if model.main_input_name != "input_ids":
        raise ValueError(f"it is a {model.config.model_type}, no text encoder")
    return model, AutoTokenizer.from_pretrained(checkpoint)
