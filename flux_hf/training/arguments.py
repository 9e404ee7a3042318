"""How clips are sampled and models are trained: the arguments of the HF Trainer and those of Flux training."""

from dataclasses import dataclass, field, fields
from enum import Enum

from transformers import SchedulerType, TrainingArguments

from flux_hf.options.parsing import arguments_from_recipe
from flux_hf.options.training import ClipTrainingOptions, FinetuneOptions, FluxTrainingOptions


@dataclass
class ClipTrainingArguments(ClipTrainingOptions, TrainingArguments):
    """`transformers.TrainingArguments` and what fine-tuning and pre-training share: grids, loading, augmentation.

    `remove_unused_columns` is False here: the columns of a video data set are read by our loader, not by the model's
    forward.
    """

    lr_scheduler_type: SchedulerType | str = field(default="cosine", metadata={"help": "Learning rate schedule."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay off for video data sets."})

    def __post_init__(self):
        super().__post_init__()
        # Pinned memory speeds up copies to a GPU; without one torch only warns.
        on_gpu = self.device.type not in ("cpu", "mps")
        self.dataloader_pin_memory = self.dataloader_pin_memory and on_gpu and not self.augment_on_device
        limits = {
            "views_per_video": (1, None),
            "decode_short_side": (1, None),
            "max_unreadable_in_a_row": (1, None),
            "shuffle_buffer": (1, None),
            "min_clip_span": (0.0, 1.0),
            "min_crop_area": (0.0, 1.0),
            "max_zoom_out": (1.0, None),
            "max_crop_aspect": (1.0, None),
            "rand_augment_ops": (0, None),
            "rand_augment_magnitude": (0.0, 10.0),
            "rand_augment_std": (0.0, None),
            "random_erasing": (0.0, 1.0),
            "random_degradation": (0.0, 1.0),
            "layer_decay": (0.0, 1.0),
        }
        check_limits(self, limits)
        check_budgets(self, "token_budgets")
        if self.augment_on_device and self.dataloader_num_workers:
            raise ValueError(
                f"augment_on_device needs dataloader_num_workers 0, got {self.dataloader_num_workers}: loading "
                "processes do not share the device"
            )
        if self.min_clip_span < 1 and self.snap_to_keyframes:
            raise ValueError(
                f"min_clip_span {self.min_clip_span} draws frames from parts of a video, snap_to_keyframes from "
                "segments of all of it; leave one of them out"
            )
        scales = self.multi_scale_crop
        if scales is not None and (not scales or min(scales) <= 0 or max(scales) > 1):
            raise ValueError(f"multi_scale_crop must be shares of the short side above 0 and at most 1, got {scales}")


@dataclass
class FluxTrainingArguments(FluxTrainingOptions, ClipTrainingArguments):
    """`transformers.TrainingArguments` and the options of Flux fine-tuning.

    Defaults are those of the paper's fine-tuning (arXiv 2503.14237, Table 15, Kinetics; sampling Tables 14 and 16).
    What those tables do not list is off: mixup, cutmix, random erasing, layer-wise learning rates, EMA. Some defaults
    of `TrainingArguments` differ:

    - `learning_rate` 2e-4, `weight_decay` 0.05, `lr_scheduler_type` cosine, `warmup_steps` 0.125 (5 of 40 epochs):
      Table 15. The rate belongs to its batch size of 512 to 1024 clips.
    - `remove_unused_columns` False, as in [`ClipTrainingArguments`].
    """

    def __post_init__(self):
        super().__post_init__()
        limits = {
            "mixup_alpha": (0.0, None),
            "cutmix_alpha": (0.0, None),
            "ema_decay": (0.0, 1.0),
        }
        check_limits(self, limits)
        check_several_budgets(self)

    @classmethod
    def from_recipe(cls, recipe: str, **overrides) -> "FluxTrainingArguments":
        """The training arguments of a recipe, a name (`flux-hf recipes` lists them) or the path of a YAML file. What it
        says about data and model (the options of [`FinetuneOptions`]) is left out.

        Args:
            overrides: training arguments that win over those of the recipe, `bf16=False` for instance.

        Raises:
            ValueError: there is no such recipe; it has options that fine-tuning does not know, or values that are none.
        """
        return arguments_from_recipe(cls, recipe, overrides, beside=FinetuneOptions)


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


def check_several_budgets(args: TrainingArguments) -> None:
    """Raise ValueError naming the first of the options of `SeveralBudgetsOptions` that makes no sense."""
    check_limits(args, {"alignment_weight": (0.0, None), "min_steps": (0, None)})
    check_budgets(args, "eval_token_budgets")
    if args.freeze not in ("nothing", "backbone"):
        raise ValueError(f"freeze must be nothing or backbone, got {args.freeze!r}")


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
    own = [
        one
        for one in fields(args)
        if (one.name not in inherited or one.name == "lr_scheduler_kwargs") and getattr(args, one.name) != one.default
    ]
    values = {name: getattr(args, name) for name in (*OF_A_RECIPE, *(one.name for one in own))}
    return {name: value.value if isinstance(value, Enum) else value for name, value in values.items()}
