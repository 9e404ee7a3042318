"""FluxViT configuration."""

import functools
import re
from pathlib import Path
from typing import Literal

import torch
from huggingface_hub.dataclasses import strict, validated_field
from huggingface_hub.errors import (
    StrictDataclassClassValidationError,
    StrictDataclassError,
    StrictDataclassFieldValidationError,
)
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from .adaptive_budget_fluxvit import check_adaptive_budget
from .token_selection_fluxvit import GROUP_DYNAMIC, check_selection_name

# Upper bounds are several times what any published video or image transformer has (ViT-22B: 48 layers of width 6144, 48
# heads; InternVideo2: 6e9 parameters; clips of some thousand tokens; JFT: 30,000 classes). They are there so that a
# damaged or hostile config.json is an error that names the field, and not a process that computes or allocates until
# it is killed. A size may be in its bounds and the whole still too large: MOST_PARAMETERS bounds what they come to.
MOST_LAYERS = 256
LARGEST_WIDTH = 2**15
LARGEST_PATCH = 256
LARGEST_TUBELET = 64
MOST_CHANNELS = 1024
MOST_FRAMES = 2**16
LARGEST_SIDE = 2**14
MOST_TOKENS = 2**20
MOST_HEADS = 32
MOST_LABELS = 2**16
MOST_PARAMETERS = 2**33
LONGEST_MESSAGE = 500


class FluxViTConfigError(
    StrictDataclassFieldValidationError, StrictDataclassClassValidationError, StrictDataclassError, ValueError
):
    """A value that a configuration does not accept; the message names the field, the value and what is accepted. What
    `@strict` raises is no ValueError; this is both."""

    def __init__(self, message: str):
        Exception.__init__(self, message)


def _value_errors(method):
    """`method`, whose `@strict` errors are FluxViTConfigErrors of one line."""

    @functools.wraps(method)
    def wrapped(self, *args, **kwargs):
        try:
            return method(self, *args, **kwargs)
        except FluxViTConfigError:
            raise
        except StrictDataclassError as error:
            raise FluxViTConfigError(_in_one_line(error)) from error.__cause__

    return wrapped


def _in_one_line(error: StrictDataclassError) -> str:
    field = re.match(r"Validation error for field '(\w+)'", str(error))
    message = " ".join(str(error.__cause__).split())
    if field and not isinstance(error.__cause__, TypeError):  # which names it
        message = f"{field[1]} {message}"
    half = LONGEST_MESSAGE // 2
    return message if len(message) <= LONGEST_MESSAGE else f"{message[:half]} ... {message[-half:]}"


def raises_value_errors(cls):
    for name in ("__init__", "__setattr__", "validate"):
        setattr(cls, name, _value_errors(getattr(cls, name)))
    return cls


def within(least: float, most: float, *, default, length: int = 1, descending: bool = False):
    """A field whose number lies in [least, most]. A list of numbers holds 1 to `length`, different and in order. None,
    where the type allows it, is not given."""

    def check(value):
        numbers = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
        for number in numbers:
            if not least <= number <= most:
                side = f"at most {most}" if number > most else f"at least {least}"
                raise ValueError(f"must be {side}, got {number}; accepted is {least} to {most}")
        if numbers is value:
            if not 1 <= len(value) <= length:
                raise ValueError(f"must hold 1 to {length} numbers, got {len(value)}")
            if sorted(set(value), reverse=descending) != list(value):
                order = "descending" if descending else "ascending"
                raise ValueError(f"must be different and {order}, got {list(value)}")

    return validated_field(check, default=default)


def _activation(name: str):
    if name not in ACT2FN:
        raise ValueError(f"must be one of {', '.join(sorted(ACT2FN))}, got {name!r}")


def check_dtype(name: str | torch.dtype | None):
    if isinstance(name, str) and not isinstance(getattr(torch, name, None), torch.dtype):
        raise ValueError(f"must be the name of a type of torch, as float32, got {name!r}")


def _label_numbers(names: dict | None):
    if names is not None and not 1 <= len(names) <= MOST_LABELS:
        raise ValueError(f"must name 1 to {MOST_LABELS} labels, got {len(names)}")
    if names is not None and {str(number) for number in names} != {str(number) for number in range(len(names))}:
        raise ValueError(f"must have the numbers 0 to {len(names) - 1}, got {list(names)[:10]}")


class CheckedConfig:
    """What a configuration with checked fields has beside them."""

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """As in transformers; what `kwargs` change is checked together with the rest, too. `dtype="auto"` means that of
        the configuration."""
        if kwargs.get("dtype") == "auto":
            kwargs.pop("dtype")
        made = super().from_dict(config_dict, **kwargs)
        (made[0] if isinstance(made, tuple) else made).validate()
        return made

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As in transformers; `custom_pipelines` whose file is not in the folder are left out."""
        shipped = {path.stem for path in Path(save_directory).glob("*.py")}
        if pipelines := getattr(self, "custom_pipelines", None):
            self.custom_pipelines = {k: v for k, v in pipelines.items() if v["impl"].partition(".")[0] in shipped}
        super().save_pretrained(save_directory, *args, **kwargs)


@raises_value_errors
@strict
class FluxViTConfig(CheckedConfig, PreTrainedConfig):
    r"""
    Configuration of a FluxViT. The defaults are FluxViT-S/14 with the position table of the released checkpoint
    (sizes: paper Table 6 and `models/fluxvit.py` of the official repository).

    Args:
        hidden_size (`int`, defaults to 384): Width of the tokens.
        num_hidden_layers (`int`, defaults to 12): Number of encoder layers.
        num_attention_heads (`int`, defaults to 6): Attention heads of a layer; divides `hidden_size`.
        mlp_ratio (`float`, defaults to 4.0): Width of the MLP over `hidden_size`.
        hidden_act (`str`, defaults to `"gelu"`): MLP activation. Released official checkpoints need
            `"gelu_pytorch_tanh"`, which their fused MLP used in training.
        patch_size (`int`, defaults to 14): Side of a patch in pixels.
        tubelet_size (`int`, defaults to 1): Frames that a token covers; the official models have 1. With 2 a token
            shows how its place changes, which a small model of random weights otherwise has to find out.
        num_channels (`int`, defaults to 3): Colour channels.
        position_frames (`int`, defaults to 24): Frames of the stored position table, a multiple of `tubelet_size`.
        position_size (`int`, defaults to 252): Image side of the stored position table in pixels. Other grids, square
            or not, interpolate the table.
        layer_norm_eps (`float`, defaults to 1e-6): Epsilon of the RMS norms.
        layer_scale_init (`float`, defaults to 1e-5): Initial value of LayerScale.
        initializer_range (`float`, defaults to 0.02): Standard deviation of the linear layers' initial weights.
        drop_path_rate (`float`, defaults to 0.0): Stochastic depth of the last layer; grows linearly from 0.
        projection_dim (`int`, defaults to 768): Width of the pooled feature.
        pooler_num_attention_heads (`int`, defaults to 16): Heads of the pooling attention; divides `hidden_size`.
        head_token_budgets (`list[int]`, defaults to `[3072, 2048, 1024]`): Token budget each pooling head and
            classifier was trained at, descending.
        token_budget (`int`, *optional*): Tokens the selector keeps when the forward is given no budget.
            `None` keeps all.
        token_selection (`str`, defaults to `"group_dynamic"`): Name of the rule that selects tokens, see
            `selection_rules` and `register_selection_rule`. A configuration may hold any name; a model is made of it
            only where the rule is known.
        adaptive_budget (`dict`, *optional*): What `token_budget="auto"` answers by, see `AdaptiveBudget`; its
            `token_budgets`, `confidences` and `changes`. `None`: not calibrated.
        aligned_layers (`list[int]`, *optional*): Pre-training only: encoder layers, counted from 1, whose outputs are
            aligned with a teacher. `None`: the last half of them, rounded up, at most 6.
        teacher_hidden_size (`int`, *optional*): Pre-training only: width of the teacher's tokens. `None`:
            `hidden_size`.
        teacher_projection_dim (`int`, *optional*): Pre-training only: width of the teacher's pooled feature. `None`:
            `projection_dim`.
        num_frames (`int`, *optional*): Read by the stock video-classification pipeline, which hands it to the
            processor. `None` lets the processor choose the grid.
    """

    model_type = "fluxvit"
    # The Trainer's predictions are the logits.
    keys_to_ignore_at_inference = ["pooler_output", "keep_mask", "answered_budgets", "changes"]

    hidden_size: int = within(1, LARGEST_WIDTH, default=384)
    num_hidden_layers: int = within(1, MOST_LAYERS, default=12)
    num_attention_heads: int = within(1, LARGEST_WIDTH, default=6)
    mlp_ratio: float | int = within(2**-10, 2**10, default=4.0)
    hidden_act: str = validated_field(_activation, default="gelu")
    patch_size: int = within(1, LARGEST_PATCH, default=14)
    tubelet_size: int = within(1, LARGEST_TUBELET, default=1)
    num_channels: int = within(1, MOST_CHANNELS, default=3)
    position_frames: int = within(1, MOST_FRAMES, default=24)
    position_size: int = within(1, LARGEST_SIDE, default=252)
    layer_norm_eps: float = within(0.0, 1.0, default=1e-6)
    layer_scale_init: float = within(-1e3, 1e3, default=1e-5)
    initializer_range: float = within(1e-10, 1e3, default=0.02)
    drop_path_rate: float | int = within(0.0, 1 - 2**-10, default=0.0)
    projection_dim: int = within(1, LARGEST_WIDTH, default=768)
    pooler_num_attention_heads: int = within(1, LARGEST_WIDTH, default=16)
    head_token_budgets: list[int] | tuple[int, ...] = within(
        1, MOST_TOKENS, default=(3072, 2048, 1024), length=MOST_HEADS, descending=True
    )
    token_budget: int | None = within(1, MOST_TOKENS, default=None)
    token_selection: str = validated_field(check_selection_name, default=GROUP_DYNAMIC)
    adaptive_budget: dict | None = validated_field(check_adaptive_budget, default=None)
    aligned_layers: list[int] | tuple[int, ...] | None = within(1, MOST_LAYERS, default=None, length=MOST_LAYERS)
    teacher_hidden_size: int | None = within(1, LARGEST_WIDTH, default=None)
    teacher_projection_dim: int | None = within(1, LARGEST_WIDTH, default=None)
    num_frames: int | None = within(1, MOST_FRAMES, default=None)

    # Fields of every configuration, whose types the base class only writes down.
    architectures: list[str] | None = None
    dtype: str | torch.dtype | None = validated_field(check_dtype, default=None)
    id2label: dict[int | str, str] | None = validated_field(_label_numbers, default=None)
    label2id: dict[str, int | str] | None = None
    output_hidden_states: bool | None = False
    problem_type: Literal["regression", "single_label_classification", "multi_label_classification"] | None = None
    return_dict: bool | None = True
    transformers_version: str | None = None

    def __post_init__(self, **kwargs):
        self.head_token_budgets = list(self.head_token_budgets)
        if self.aligned_layers is not None:
            self.aligned_layers = list(self.aligned_layers)
        if kwargs.get("torch_dtype") is not None:
            check_dtype(kwargs["torch_dtype"])
        super().__post_init__(**kwargs)
        if self.label2id is None and self.id2label is not None:
            self.label2id = {name: index for index, name in self.id2label.items()}

    def __setattr__(self, name, value):
        # No field but a property, which makes as many names at once.
        if name == "num_labels" and not (type(value) is int and 1 <= value <= MOST_LABELS):
            raise FluxViTConfigError(f"num_labels must be an integer from 1 to {MOST_LABELS}, got {value!r}")
        super().__setattr__(name, value)

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As in transformers; a saved classifier also tells `AutoModel` where its base model is. Pipelines and models
        for pre-training whose file is not in the folder are left out."""
        shipped = {path.stem for path in Path(save_directory).glob("*.py")}
        if self._auto_class is not None:
            self.auto_map = {"AutoModel": "modeling_fluxvit.FluxViTModel", **(getattr(self, "auto_map", None) or {})}
            if self.auto_map.get("AutoModelForPreTraining", "").partition(".")[0] not in shipped:
                self.auto_map.pop("AutoModelForPreTraining", None)
        super().save_pretrained(save_directory, *args, **kwargs)

    def validate_architecture(self):
        """Part of `@strict`: checks that the sizes fit each other."""
        for heads in ("num_attention_heads", "pooler_num_attention_heads"):
            if self.hidden_size % getattr(self, heads):
                raise ValueError(
                    f"hidden_size ({self.hidden_size}) is not a multiple of {heads} ({getattr(self, heads)})"
                )
        if self.position_size % self.patch_size:
            raise ValueError(
                f"position_size ({self.position_size}) is not a multiple of patch_size ({self.patch_size})"
            )
        if self.position_frames % self.tubelet_size:
            raise ValueError(
                f"position_frames ({self.position_frames}) is not a multiple of tubelet_size ({self.tubelet_size})"
            )
        side, times = self.position_size // self.patch_size, self.position_frames // self.tubelet_size
        if times * side**2 > MOST_TOKENS:
            raise ValueError(
                f"position_frames ({self.position_frames}) of {side} x {side} patches (position_size "
                f"{self.position_size}, patch_size {self.patch_size}) are more than {MOST_TOKENS} positions"
            )
        if int(self.hidden_size * self.mlp_ratio) < 1:
            raise ValueError(f"mlp_ratio ({self.mlp_ratio}) leaves no width of hidden_size ({self.hidden_size})")
        layers = self.aligned_layers
        if layers is not None and layers[-1] > self.num_hidden_layers:
            raise ValueError(f"aligned_layers must be in 1..{self.num_hidden_layers}, got {layers}")
        if (parameters := self._parameters()) > MOST_PARAMETERS:
            raise ValueError(
                f"the sizes come to {parameters:.2g} parameters, accepted are {MOST_PARAMETERS:.2g}: hidden_size "
                f"{self.hidden_size}, num_hidden_layers {self.num_hidden_layers}, mlp_ratio {self.mlp_ratio}, "
                f"patch_size {self.patch_size}, tubelet_size {self.tubelet_size}, num_channels {self.num_channels}, "
                f"position_frames {self.position_frames}, position_size {self.position_size}, projection_dim "
                f"{self.projection_dim}, teacher_hidden_size {self.teacher_hidden_size}, teacher_projection_dim "
                f"{self.teacher_projection_dim}, {len(self.head_token_budgets)} head_token_budgets, "
                f"{self.num_labels} num_labels"
            )

    @property
    def values_of_patch(self) -> int:
        """Numbers that the patch embedding makes a token of."""
        return self.tubelet_size * self.patch_size**2 * self.num_channels

    def _parameters(self) -> int:
        """Weights of the largest matrices, of classifier and pre-training model together."""
        width, pooled, heads = self.hidden_size, self.projection_dim, len(self.head_token_budgets)
        layer = 4 * width**2 + 2 * width * int(width * self.mlp_ratio)
        side = self.position_size // self.patch_size
        positions = self.position_frames // self.tubelet_size * side**2 * width
        patches = self.values_of_patch * width
        head = 3 * width**2 + (width + self.num_labels + pooled) * pooled
        teacher = (self.teacher_hidden_size or width) * width * len(self.aligned_layers or [])
        teacher += (self.teacher_projection_dim or pooled) * pooled
        return self.num_hidden_layers * layer + positions + patches + heads * head + teacher


__all__ = ["FluxViTConfig"]
