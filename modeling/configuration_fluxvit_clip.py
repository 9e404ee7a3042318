"""Configuration of FluxViT beside a text encoder."""

from typing import Literal

import torch
from huggingface_hub.dataclasses import strict, validated_field
from transformers import AutoConfig, PreTrainedConfig

from .configuration_fluxvit import LARGEST_WIDTH, CheckedConfig, FluxViTConfig, check_dtype, raises_value_errors, within

LARGEST_LOGIT_SCALE = 1e4
LOGIT_SCALE_INIT = {"softmax": 100.0, "sigmoid": 10.0}
READ_AT_THE_END = ("siglip_text_model", "siglip2_text_model")
LOGIT_BIAS_INIT = {"softmax": 0.0, "sigmoid": -10.0}


def default_text_pooling(model_type: str) -> str:
    """How a text encoder of that type is pooled where nothing else is known: the text towers of other dual encoders
    (`clip_text_model`, `siglip_text_model`, ...) have learned a pooled output, for the others it is the mean."""
    return "pooler" if model_type.endswith("_text_model") else "mean"


@raises_value_errors
@strict
class FluxViTClipConfig(CheckedConfig, PreTrainedConfig):
    r"""
    Configuration of a dual encoder: FluxViT for videos, any text encoder of transformers for words.

    Args:
        vision_config (`FluxViTConfig` or `dict`, *optional*): The video tower. Default: that of `FluxViTConfig()`.
        text_config (`PreTrainedConfig` or `dict`, *optional*): The text tower; a dictionary names its `model_type`.
            Default: that of `BertConfig()`.
        projection_dim (`int`, defaults to 512): Width of the space that both share (InternVideo2-CLIP: 512).
        text_pooling (`str`, *optional*): What stands for a sentence: `"cls"`, the first token's last hidden state;
            `"mean"`, the mean over the tokens that are no padding; `"pooler"`, the text model's own pooled output.
            Default: `"pooler"` for the text tower of another dual encoder, else `"mean"`.
        freeze_text (`bool`, defaults to `True`): The text tower does not learn and stays in evaluation mode; its
            projection learns.
        loss (`str`, defaults to `"softmax"`): `"softmax"`, the symmetric cross-entropy over the batch, or `"sigmoid"`,
            every pair for itself (SigLIP).
        logit_scale_init (`float`, *optional*): What similarities are multiplied by at first, 1 / temperature. Default:
            100 with softmax (InternVideo2-CLIP), 10 with sigmoid (SigLIP).
        logit_scale_max (`float`, defaults to 100.0): The learned factor goes no higher.
        logit_bias_init (`float`, *optional*): With the sigmoid loss what is added to every logit at first. Default: -10
            (SigLIP). The softmax loss has no bias.
    """

    model_type = "fluxvit_clip"
    sub_configs = {"vision_config": FluxViTConfig, "text_config": AutoConfig}
    keys_to_ignore_at_inference = ["keep_mask", "pooler_output", "aligned", "logit_scale", "logit_bias"]

    vision_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    projection_dim: int = within(1, LARGEST_WIDTH, default=512)
    text_pooling: Literal["cls", "mean", "pooler"] | None = None
    freeze_text: bool = True
    loss: Literal["softmax", "sigmoid"] = "softmax"
    logit_scale_init: float | int | None = within(1e-4, LARGEST_LOGIT_SCALE, default=None)
    logit_scale_max: float | int = within(1e-4, LARGEST_LOGIT_SCALE, default=100.0)
    logit_bias_init: float | int | None = within(-LARGEST_LOGIT_SCALE, LARGEST_LOGIT_SCALE, default=None)

    # Fields of every configuration, whose types the base class only writes down.
    architectures: list[str] | None = None
    dtype: str | torch.dtype | None = validated_field(check_dtype, default=None)
    output_hidden_states: bool | None = False
    return_dict: bool | None = True
    transformers_version: str | None = None

    def __post_init__(self, **kwargs):
        self.vision_config = _vision_config(self.vision_config)
        self.text_config = _text_config(self.text_config)
        if self.text_pooling is None:
            self.text_pooling = default_text_pooling(self.text_config.model_type)
        if self.logit_scale_init is None:
            self.logit_scale_init = LOGIT_SCALE_INIT[self.loss]
        if self.logit_bias_init is None:
            self.logit_bias_init = LOGIT_BIAS_INIT[self.loss]
        super().__post_init__(**kwargs)

    def validate_scale(self):
        """Part of `@strict`."""
        if self.logit_scale_init > self.logit_scale_max:
            raise ValueError(
                f"logit_scale_init ({self.logit_scale_init}) is more than logit_scale_max ({self.logit_scale_max})"
            )

    @property
    def fixed_text_length(self) -> int | None:
        """Tokens that every sentence must have, padding included, where the text tower's pooled output is read off its
        last position (SigLIP); None: any number."""
        if self.text_pooling != "pooler" or self.text_config.model_type not in READ_AT_THE_END:
            return None
        return self.text_config.max_position_embeddings

    def check_text_length(self, length: int) -> None:
        """Raises ValueError where the text tower cannot read sentences of so many tokens, padding included."""
        wanted, name = self.fixed_text_length, self.text_config.model_type
        if wanted is not None and length != wanted:
            raise ValueError(
                f"a {name} reads a sentence off the last of its {wanted} positions, so that all sentences must be "
                f"padded to as many tokens, got {length}: make the processor with max_length={wanted}, "
                "fixed_length=True"
            )
        most = getattr(self.text_config, "max_position_embeddings", None)
        if length < 1 or (most is not None and length > most):
            upward = "or more" if most is None else f"to {most}"
            raise ValueError(f"a sentence must have 1 {upward} tokens for this {name}, got {length}")

    @property
    def token_selection(self) -> str:
        """Name of the rule that selects the video's tokens."""
        return self.vision_config.token_selection


def _vision_config(given) -> FluxViTConfig:
    values = {} if given is None else given if isinstance(given, dict) else given.to_dict()
    if values.get("model_type", FluxViTConfig.model_type) != FluxViTConfig.model_type:
        raise ValueError(f"vision_config must be that of a fluxvit, got model_type {values['model_type']!r}")
    # A configuration made by another copy of this file, as checkpoints bring one, becomes one of this copy.
    return given if isinstance(given, FluxViTConfig) else FluxViTConfig(**values)


def _text_config(given) -> PreTrainedConfig:
    if given is None:
        given = {"model_type": "bert"}
    if isinstance(given, dict):
        values = dict(given)
        model_type = values.pop("model_type", None)
        if model_type is None:
            raise ValueError("text_config must name its model_type, as bert")
        given = AutoConfig.for_model(model_type, **values)
    if getattr(given, "is_encoder_decoder", False):
        raise ValueError(f"text_config must be that of an encoder, {given.model_type} has a decoder, too")
    if not isinstance(getattr(given, "hidden_size", None), int):
        raise ValueError(f"text_config must be that of a text encoder, {given.model_type} has no hidden_size")
    return given


__all__ = ["FluxViTClipConfig"]
