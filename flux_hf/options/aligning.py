"""Options of aligning videos with text: what to train on which pairs, and how."""

from dataclasses import dataclass, field
from typing import ClassVar

from flux_hf.options.training import ClipTrainingOptions, SeveralBudgetsOptions, SplitOptions


@dataclass
class AlignOptions(SplitOptions):
    """What to train on which pairs. How to train is in [`FluxAligningArguments`]."""

    dataset: str = field(
        metadata={
            "help": "Pairs of videos and captions: a list (.csv, .tsv, .jsonl, .json) with columns for video and "
            "caption, a folder with such a list for each split or with metadata.csv beside the videos, webdataset "
            "shards, parquet, or the id of a data set on the Hub.",
        }
    )
    model: str | None = field(
        default=None,
        metadata={
            "help": "Checkpoint to start from: one of flux-hf align, or with text_model a FluxViT; folder, Hub id, or "
            "default: the FluxViT in the package."
        },
    )
    model_config: str | None = field(
        default=None,
        metadata={
            "help": "Without model: random weights of this FluxViT configuration, a name (fluxvit_small) or JSON file."
        },
    )
    text_model: str | None = field(
        default=None, metadata={"help": "Text encoder of transformers with its tokenizer: folder or Hub id."}
    )
    freeze_text: bool | None = field(
        default=None,
        metadata={"help": "The text encoder does not learn; what follows it does. Default: the model's, else true."},
    )
    projection_dim: int | None = field(
        default=None, metadata={"help": "Width of the embeddings. Default: the model's, else 512."}
    )
    loss: str | None = field(
        default=None,
        metadata={
            "help": "softmax: every video finds its text among all, and every text its video; sigmoid: every pair for "
            "itself. Default: the model's, else softmax.",
            "choices": ["softmax", "sigmoid"],
        },
    )
    caption_column: str | None = field(
        default=None, metadata={"help": "Column of the captions. Default: caption, text, sentence and the like."}
    )
    eval_dataset: str | None = field(
        default=None, metadata={"help": "Pairs to evaluate on where dataset is one list: another list, or a folder."}
    )
    validation_share: float | None = field(
        default=None, metadata={"help": "Evaluate on this share of the training videos, not on a split."}
    )


@dataclass
class FluxAligningOptions(SeveralBudgetsOptions, ClipTrainingOptions):
    """How to align: what [`FluxAligningArguments`] adds to those of the HF Trainer."""

    completed_by: ClassVar[str] = "flux_hf.text.arguments:FluxAligningArguments"
    shown_first: ClassVar[tuple[str, ...]] = ("text_model", *ClipTrainingOptions.shown_first)

    learning_rate: float = field(default=4e-4, metadata={"help": "Peak learning rate."})
    weight_decay: float = field(
        default=0.02,
        metadata={"help": "Weight decay. Norms, biases, positions, cls and per-channel affine maps have none."},
    )
    adam_beta2: float = field(default=0.98, metadata={"help": "Second beta of Adam."})
    warmup_steps: float = field(default=0.2, metadata={"help": "Steps of linear warm-up; below 1 a share of all."})
    pairs_per_chunk: int | None = field(
        default=None,
        metadata={
            "help": "Compute a batch in chunks of as many pairs, each twice: memory of a chunk, loss and gradients of "
            "the whole batch. Default: at once."
        },
    )
    multi_scale_crop: list[float] | None = field(
        default_factory=lambda: [1.0, 0.5],
        metadata={
            "help": "Crop with sides drawn from these shares of the short side, at one of 13 places (MultiScaleCrop)."
        },
    )
    flip: bool = field(
        default=False, metadata={"help": "Mirror half of the clips; captions that say left and right are wrong then."}
    )
    rand_augment_ops: int = field(default=0, metadata={"help": "Operations of RandAugment, each done with p = 0.5."})
