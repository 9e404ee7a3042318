"""Options of pre-training: what to train on what, by whom, and how."""

from dataclasses import dataclass, field
from typing import ClassVar

from flux_hf.checkpoints import checkpoint_path
from flux_hf.options.training import ClipTrainingOptions

OPTICAL_FLOW = "optical_flow"
"""The teacher that is no checkpoint; a folder of that name is `./optical_flow`."""


@dataclass
class PretrainOptions:
    """What to train on what, and by whom. How to train is in [`FluxPreTrainingArguments`]."""

    dataset: list[str] = field(
        metadata={"help": "Data sets, as flux-hf finetune takes them; their labels are not read. Several are mixed."}
    )
    teacher: str = field(
        metadata={
            "help": "Teacher: FluxViT, CLIP, SigLIP, DINOv2, VideoMAE, V-JEPA 2, a model with its own code, or "
            "optical_flow: no checkpoint but the motion in the clip (needs OpenCV)."
        }
    )
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Run the code that comes with the teacher's checkpoint."}
    )
    model: str | None = field(
        default=None, metadata={"help": "Checkpoint to start from: folder, Hub id, or default: the one in the package."}
    )
    model_config: str | None = field(
        default=None,
        metadata={"help": "Without model: random weights of this configuration, a name (fluxvit_small) or JSON file."},
    )
    dataset_weights: list[float] | None = field(
        default=None, metadata={"help": "How often clips of each data set come. Default: by size (streamed: equally)."}
    )
    dataset_without_flip: list[str] | None = field(
        default=None, metadata={"help": "Those of the data sets whose clips are never mirrored, whatever flip says."}
    )
    train_split: list[str] = field(
        default_factory=lambda: ["train"], metadata={"help": "Split to train on; one, or one for each data set."}
    )
    video_root: list[str] | None = field(
        default=None, metadata={"help": "Folder of the videos of a list file; one, or one for each data set."}
    )
    streaming: bool = field(default=False, metadata={"help": "Read videos as they come; needs max_steps."})
    cache_dir: str | None = field(
        default=None,
        metadata={"help": "Decode all videos once and keep their clips here (uint8, frames x side^2 x 3 bytes each)."},
    )
    cached_frames: int = field(default=16, metadata={"help": "Frames kept of each video; training draws from them."})
    cached_size: int = field(default=256, metadata={"help": "Side of cached clips in pixels."})
    drop_path_rate: float | None = field(default=None, metadata={"help": "Stochastic depth. Default: the model's."})
    head_token_budgets: list[int] | None = field(
        default=None, metadata={"help": "Budgets of the heads of the model, descending. Default: the model's."}
    )
    student_layers: list[int] | None = field(
        default=None, metadata={"help": "Layers to align, from 1. Default: the model's, else the last half, at most 6."}
    )
    teacher_layers: list[int] | None = field(
        default=None,
        metadata={"help": "The teacher's layer for each student layer. Default: the one at the same depth."},
    )
    overwrite: bool = field(
        default=False, metadata={"help": "Begin anew where output_dir holds another run; deletes its checkpoints."}
    )


def teacher_checkpoint(teacher: str) -> str | None:
    """The folder or Hub id that the option `teacher` means, None for optical flow."""
    return None if teacher == OPTICAL_FLOW else checkpoint_path(teacher)


@dataclass
class FluxPreTrainingOptions(ClipTrainingOptions):
    """How to pre-train: what [`FluxPreTrainingArguments`] adds to those of the HF Trainer."""

    completed_by: ClassVar[str] = "flux_hf.pretraining.arguments:FluxPreTrainingArguments"

    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate."})
    adam_beta2: float = field(default=0.98, metadata={"help": "Second beta of Adam."})
    num_train_epochs: float = field(default=100, metadata={"help": "Epochs; an epoch is as many clips as videos."})
    warmup_steps: float = field(default=0.2, metadata={"help": "Steps of linear warm-up; below 1 a share of all."})
    teacher_tokens: int = field(
        default=2048, metadata={"help": "Tokens that the selector leaves of a grid; the students' are among them."}
    )
    multi_scale_crop: list[float] | None = field(
        default_factory=lambda: [1.0, 0.875, 0.75, 0.66],
        metadata={
            "help": "Crop with sides drawn from these shares of the short side, at one of 13 places (MultiScaleCrop)."
        },
    )
    rand_augment_ops: int = field(default=0, metadata={"help": "Operations of RandAugment, each done with p = 0.5."})
    teacher_bf16: bool = field(default=False, metadata={"help": "Hold the teacher's weights in bf16."})
    teacher_cache: str | None = field(
        default=None,
        metadata={"help": "Folder that keeps the teacher's outputs for views that come again; needs view_epochs."},
    )
    view_epochs: int | None = field(
        default=None,
        metadata={"help": "Views (not the tokens drawn of them) repeat after this many epochs. Default: never."},
    )
