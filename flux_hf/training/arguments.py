"""How clips are sampled and models are trained: the arguments of the HF Trainer and those of Flux training."""

from dataclasses import dataclass, field, fields
from enum import Enum

from transformers import SchedulerType, TrainingArguments


@dataclass
class ClipTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` and what fine-tuning and pre-training share: grids, loading, augmentation.

    `remove_unused_columns` is False here: the columns of a video data set are read by our loader, not by the model's
    forward.
    """

    weight_decay: float = field(
        default=0.05, metadata={"help": "Not of norms, biases, positions, cls and per-channel affine maps."}
    )
    lr_scheduler_type: SchedulerType | str = field(default="cosine", metadata={"help": "Learning rate schedule."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay off for video data sets."})
    layer_decay: float = field(default=1.0, metadata={"help": "Learning rate of a layer over that of the next one."})

    token_budgets: list[int] | None = field(
        default=None,
        metadata={
            "help": "Budgets trained in one step: one is Flux-Single, several are Flux-Multi. Default: the heads'."
        },
    )

    min_frames: int = field(default=4, metadata={"help": "Fewest frames of a grid."})
    max_frames: int = field(default=24, metadata={"help": "Most frames of a grid."})
    frames_step: int = field(default=2, metadata={"help": "Step between numbers of frames."})
    min_size: int = field(default=168, metadata={"help": "Smallest side of a grid in pixels."})
    max_size: int = field(default=252, metadata={"help": "Largest side of a grid in pixels."})
    size_step: int = field(default=28, metadata={"help": "Step between sides in pixels."})
    min_pool_tokens: int = field(default=2048, metadata={"help": "Fewest tokens of a grid before selection."})
    max_pool_tokens: int = field(default=4096, metadata={"help": "Most tokens of a grid before selection."})

    views_per_video: int = field(
        default=1, metadata={"help": "Clips made of one decoded video; batches grow by it (repeated augmentation)."}
    )
    decode_short_side: int = field(
        default=320, metadata={"help": "Larger training videos are scaled down to this short side when decoded."}
    )
    snap_to_keyframes: bool = field(
        default=False,
        metadata={
            "help": "Move the frame drawn from a segment to the nearest key frame of that segment, where it has one: "
            "faster, with less variety. Video files only, not for clips of a cache."
        },
    )
    max_unreadable_in_a_row: int = field(
        default=10, metadata={"help": "Training stops after this many unreadable videos in a row."}
    )
    shuffle_buffer: int = field(default=1000, metadata={"help": "Videos among which a streamed data set is shuffled."})

    multi_scale_crop: list[float] | None = field(
        default=None,
        metadata={
            "help": "Crop with sides drawn from these shares of the short side, at one of 13 places (MultiScaleCrop), "
            "instead of a random crop by area and aspect."
        },
    )
    min_crop_area: float = field(
        default=0.08, metadata={"help": "Smallest share of the frame's area that a random crop takes; 1 takes all."}
    )
    max_crop_aspect: float = field(
        default=4 / 3, metadata={"help": "Width over height, or height over width, of a random crop is at most this."}
    )
    flip: bool = field(default=True, metadata={"help": "Mirror half of the clips; off where labels name directions."})
    rand_augment_ops: int = field(default=2, metadata={"help": "Operations of RandAugment, each done with p = 0.5."})
    rand_augment_magnitude: float = field(default=9.0, metadata={"help": "Mean strength of RandAugment, 0 to 10."})
    rand_augment_std: float = field(default=0.5, metadata={"help": "Standard deviation of that strength."})
    random_erasing: float = field(default=0.0, metadata={"help": "Probability that a box of a clip is erased."})
    random_colors: bool = field(
        default=False, metadata={"help": "Random order of the colour channels, inversion, brightness and contrast."}
    )

    def __post_init__(self):
        super().__post_init__()
        # Pinned memory speeds up copies to a GPU; without one torch only warns.
        self.dataloader_pin_memory = self.dataloader_pin_memory and self.device.type not in ("cpu", "mps")
        limits = {
            "views_per_video": (1, None),
            "decode_short_side": (1, None),
            "max_unreadable_in_a_row": (1, None),
            "shuffle_buffer": (1, None),
            "min_crop_area": (0.0, 1.0),
            "max_crop_aspect": (1.0, None),
            "rand_augment_ops": (0, None),
            "rand_augment_magnitude": (0.0, 10.0),
            "rand_augment_std": (0.0, None),
            "random_erasing": (0.0, 1.0),
            "layer_decay": (0.0, 1.0),
        }
        check_limits(self, limits)
        check_budgets(self, "token_budgets")
        scales = self.multi_scale_crop
        if scales is not None and (not scales or min(scales) <= 0 or max(scales) > 1):
            raise ValueError(f"multi_scale_crop must be shares of the short side above 0 and at most 1, got {scales}")


@dataclass
class FluxTrainingArguments(ClipTrainingArguments):
    """`transformers.TrainingArguments` and the options of Flux fine-tuning.

    Defaults are those of the paper's fine-tuning (arXiv 2503.14237, Table 15, Kinetics; sampling Tables 14 and 16).
    What those tables do not list is off: mixup, cutmix, random erasing, layer-wise learning rates, EMA. Some defaults
    of `TrainingArguments` differ:

    - `learning_rate` 2e-4, `weight_decay` 0.05, `lr_scheduler_type` cosine, `warmup_steps` 0.125 (5 of 40 epochs):
      Table 15. The rate belongs to its batch size of 512 to 1024 clips.
    - `remove_unused_columns` False, as in [`ClipTrainingArguments`].
    """

    learning_rate: float = field(default=2e-4, metadata={"help": "Peak learning rate, that of the heads."})
    warmup_steps: float = field(default=0.125, metadata={"help": "Steps of linear warm-up; below 1 a share of all."})

    one_budget_per_step: bool = field(
        default=False,
        metadata={"help": "Train one of token_budgets in each step, drawn at random: cheaper, without alignment."},
    )
    alignment_weight: float = field(
        default=1.0, metadata={"help": "Weight of the alignment of smaller budgets to the largest one."}
    )
    eval_token_budgets: list[int] | None = field(
        default=None, metadata={"help": "Budgets of evaluation during training. Default: those of token_budgets."}
    )

    label_symmetries: str | None = field(
        default=None,
        metadata={
            "help": "YAML table, or name of a shipped one (ssv2), that says what each label becomes when a clip is "
            "mirrored, turned or played backwards; half of the clips are then."
        },
    )
    mixup_alpha: float = field(default=0.0, metadata={"help": "Parameter of mixup on batches; 0 is off."})
    cutmix_alpha: float = field(default=0.0, metadata={"help": "Parameter of cutmix on batches; 0 is off."})

    ema_decay: float | None = field(
        default=None, metadata={"help": "Evaluate and save a moving average of the weights with this decay."}
    )
    freeze: str = field(
        default="nothing",
        metadata={"help": "backbone: train pooling heads and classifiers only.", "choices": ["nothing", "backbone"]},
    )

    def __post_init__(self):
        super().__post_init__()
        limits = {
            "alignment_weight": (0.0, None),
            "mixup_alpha": (0.0, None),
            "cutmix_alpha": (0.0, None),
            "ema_decay": (0.0, 1.0),
        }
        check_limits(self, limits)
        check_budgets(self, "eval_token_budgets")
        if self.freeze not in ("nothing", "backbone"):
            raise ValueError(f"freeze must be nothing or backbone, got {self.freeze!r}")


def check_limits(args: TrainingArguments, limits: dict[str, tuple[float, float | None]]) -> None:
    """Raise ValueError naming the first argument that is set and not within (lowest, highest or None)."""
    for name, (low, high) in limits.items():
        value = getattr(args, name)
        if value is not None and (value < low or (high is not None and value > high)):
            raise ValueError(f"{name} must be at least {low}" + f" and at most {high}" * (high is not None))


def check_budgets(args: TrainingArguments, name: str) -> None:
    """Raise ValueError unless the argument is None or positive numbers of tokens."""
    budgets = getattr(args, name)
    if budgets is not None and (not budgets or min(budgets) < 1):
        raise ValueError(f"{name} must be positive numbers of tokens, got {budgets}")


OF_A_RECIPE = (
    "seed",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "max_grad_norm",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "label_smoothing_factor",
    "bf16",
    "fp16",
)
"""Arguments of `TrainingArguments` that a result depends on."""


def recipe_of(args: FluxTrainingArguments) -> dict:
    """The arguments that a result depends on, in the types of YAML; those of Flux training where they are not the
    default."""
    inherited = {one.name for one in fields(TrainingArguments)}
    own = [one for one in fields(args) if one.name not in inherited and getattr(args, one.name) != one.default]
    values = {name: getattr(args, name) for name in (*OF_A_RECIPE, *(one.name for one in own))}
    return {name: value.value if isinstance(value, Enum) else value for name, value in values.items()}
