"""Options of fine-tuning: what to train on what, and how."""

from dataclasses import dataclass, field
from typing import ClassVar

from flux_hf.options.decoding import decoding_option


@dataclass
class SplitOptions:
    """What fine-tuning and aligning share: which model learns from which split, and how its videos are seen. What each
    says of the first four itself, it says in its own class."""

    dataset: str
    model: str | None = None
    model_config: str | None = None
    validation_share: float | None = None
    train_split: str = field(default="train", metadata={"help": "Split to train on."})
    eval_split: str | None = field(
        default="validation",
        metadata={"help": "Split to evaluate on. Nothing is evaluated if it is empty or there is no split validation."},
    )
    video_root: str | None = field(
        default=None, metadata={"help": "Folder of the videos of a list file. Default: the folder of the list."}
    )
    streaming: bool = field(
        default=False,
        metadata={"help": "Read training (not evaluation) videos as they come; needs max_steps."},
    )
    cache_dir: str | None = field(
        default=None,
        metadata={"help": "Decode all videos once and keep their clips here (uint8, frames x side^2 x 3 bytes each)."},
    )
    cached_frames: int = field(default=16, metadata={"help": "Frames kept of each video; training draws from them."})
    cached_size: int = field(default=256, metadata={"help": "Side of cached clips in pixels."})
    drop_path_rate: float | None = field(default=None, metadata={"help": "Stochastic depth. Default: the model's."})
    token_budget: int | None = field(
        default=None, metadata={"help": "Default budget of the trained model. Default: the largest of token_budgets."}
    )
    num_frames: int | None = field(
        default=None, metadata={"help": "With size: grid of evaluation and of the saved processor, at every budget."}
    )
    size: int | None = field(default=None, metadata={"help": "Side of that grid in pixels. Default: the processor's."})
    decoding: str | None = decoding_option("Frames of evaluation and of the saved processor")
    overwrite: bool = field(
        default=False, metadata={"help": "Begin anew where output_dir holds another run; deletes its checkpoints."}
    )


@dataclass
class FinetuneOptions(SplitOptions):
    """What to train on what. How to train is in [`FluxTrainingArguments`]."""

    dataset: str = field(
        metadata={
            "help": "Id of a data set on the Hub, or folder: list files of Kinetics, SSv2 or COIN, webdataset shards, "
            "parquet, or videofolder layout (SPLIT/LABEL/clip.mp4).",
        }
    )
    model: str | None = field(
        default=None, metadata={"help": "Checkpoint to start from: folder, Hub id, or default: the one in the package."}
    )
    model_config: str | None = field(
        default=None,
        metadata={"help": "Without model: random weights of this configuration, a name (fluxvit_small) or JSON file."},
    )
    validation_share: float | None = field(
        default=None,
        metadata={"help": "Evaluate on this share of the training clips of every class, not on a split."},
    )
    labels_file: str | None = field(
        default=None, metadata={"help": "File with the names of the labels, where the data set has numbers only."}
    )
    head_token_budgets: list[int] | None = field(
        default=None,
        metadata={
            "help": "Budgets of the heads of the model, descending. Default: the model's; another family has "
            "one head for all."
        },
    )


@dataclass
class ClipTrainingOptions:
    """What fine-tuning and pre-training share: what every run needs of the HF Trainer, grids, loading, augmentation."""

    shown_first: ClassVar[tuple[str, ...]] = (
        "dataset",
        "teacher",
        "model",
        "output_dir",
        "num_train_epochs",
        "max_steps",
        "per_device_train_batch_size",
        "learning_rate",
        "seed",
        "resume_from_checkpoint",
        "dataloader_num_workers",
        "use_cpu",
        "push_to_hub",
    )

    output_dir: str | None = field(
        default=None, metadata={"help": "Folder of the run, its checkpoints and the trained model."}
    )
    num_train_epochs: float = field(default=3.0, metadata={"help": "How often training sees every clip."})
    max_steps: int = field(
        default=-1, metadata={"help": "Steps of training, in place of num_train_epochs; -1: not given."}
    )
    per_device_train_batch_size: int = field(
        default=8, metadata={"help": "Clips of a step on one device; fewer need less memory."}
    )
    learning_rate: float = field(default=5e-5, metadata={"help": "Peak learning rate."})
    seed: int = field(default=42, metadata={"help": "The same seed gives the same model."})
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={"help": "Go on with a run: last, or the folder of a checkpoint in output_dir."},
    )
    dataloader_num_workers: int = field(
        default=0, metadata={"help": "Processes that decode videos beside the training."}
    )
    use_cpu: bool = field(default=False, metadata={"help": "Train on the CPU although there is a GPU."})
    push_to_hub: bool = field(default=False, metadata={"help": "Upload the trained model to the Hub."})

    attn_implementation: str | None = field(
        default=None,
        metadata={
            "help": "Attention of this training: sdpa, eager, flash_attention_2, … Default: the model's, mostly sdpa."
        },
    )
    weight_decay: float = field(
        default=0.05,
        metadata={"help": "Weight decay. Norms, biases, positions, cls and per-channel affine maps have none."},
    )
    layer_decay: float = field(default=1.0, metadata={"help": "Learning rate of a layer divided by that of the next."})

    token_budgets: list[int] | None = field(
        default=None,
        metadata={
            "help": "Budgets trained in one step: one is Flux-Single, several are Flux-Multi. Default: the heads'."
        },
    )

    min_frames: int = field(default=4, metadata={"help": "Fewest frames of a grid."})
    max_frames: int = field(default=24, metadata={"help": "Most frames of a grid."})
    frames_step: int = field(default=2, metadata={"help": "Step between numbers of frames."})
    min_size: int | None = field(
        default=None,
        metadata={"help": "Smallest side of a grid in pixels. Default: 12 patches, of 14 pixels 168."},
    )
    max_size: int | None = field(
        default=None, metadata={"help": "Largest side of a grid in pixels. Default: 18 patches, of 14 pixels 252."}
    )
    size_step: int | None = field(
        default=None, metadata={"help": "Step between sides in pixels. Default: 2 patches, of 14 pixels 28."}
    )
    min_pool_tokens: int | None = field(
        default=None,
        metadata={
            "help": "Fewest tokens of a grid before selection. Default: 2048, by the frames that a token covers."
        },
    )
    max_pool_tokens: int | None = field(
        default=None,
        metadata={"help": "Most tokens of a grid before selection. Default: 4096, by the frames that a token covers."},
    )

    views_per_video: int = field(
        default=1, metadata={"help": "Clips made of one decoded video; batches grow by it (repeated augmentation)."}
    )
    decode_short_side: int = field(
        default=320, metadata={"help": "Larger training videos are scaled down to this short side when decoded."}
    )
    snap_to_keyframes: bool = field(
        default=False,
        metadata={
            "help": "Move the frame drawn from a segment to the nearest key frame of that segment, where that leaves "
            "out frames: faster, with less variety. Video files only, not for clips of a cache."
        },
    )
    max_unreadable_in_a_row: int = field(
        default=10, metadata={"help": "Training stops after this many unreadable videos in a row."}
    )
    shuffle_buffer: int = field(default=1000, metadata={"help": "Videos among which a streamed data set is shuffled."})

    min_clip_span: float = field(
        default=1.0,
        metadata={
            "help": "Draw the frames of a clip from a part of its video, this share of it or more: slower motions. A "
            "cache holds cached_frames of the whole video, so a part of it should have as many as a grid."
        },
    )
    max_zoom_out: float = field(
        default=1.0,
        metadata={
            "help": "Half of the clips are made smaller, on grey, by up to this factor, before they are cropped: "
            "smaller objects and slower motions."
        },
    )
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
    random_erasing: float = field(
        default=0.0, metadata={"help": "Probability that a box of a clip is erased, with new noise in every frame."}
    )
    random_colors: bool = field(
        default=False, metadata={"help": "Random order of the colour channels, inversion, brightness and contrast."}
    )
    random_degradation: float = field(
        default=0.0,
        metadata={
            "help": "Probability of each of trembling, blur, poor light, noise and JPEG compression, as of poor "
            "cameras and codecs."
        },
    )
    augment_on_device: bool = field(
        default=False,
        metadata={
            "help": "Augment clips on the device that trains, not in loading processes: for a GPU that waits for its "
            "clips and a cache of them. Needs dataloader_num_workers 0."
        },
    )


@dataclass
class SeveralBudgetsOptions:
    """What trainings with several budgets in a step share: fine-tuning, and aligning with text."""

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
    min_steps: int = field(
        default=0,
        metadata={"help": "Train at least this many steps, a small set in more epochs. Not with max_steps."},
    )
    freeze: str = field(
        default="nothing",
        metadata={
            "help": "backbone: train only what lies behind the encoder, as pooling heads and classifiers.",
            "choices": ["nothing", "backbone"],
        },
    )


@dataclass
class FluxTrainingOptions(SeveralBudgetsOptions, ClipTrainingOptions):
    """How to fine-tune: what [`FluxTrainingArguments`] adds to those of the HF Trainer."""

    completed_by: ClassVar[str] = "flux_hf.training.arguments:FluxTrainingArguments"

    learning_rate: float = field(default=2e-4, metadata={"help": "Peak learning rate, that of the heads."})
    warmup_steps: float = field(default=0.125, metadata={"help": "Steps of linear warm-up; below 1 a share of all."})
    label_symmetries: str | None = field(
        default=None,
        metadata={
            "help": "YAML table, or name of a shipped one (ssv2), that says what each label becomes when a clip is "
            "mirrored, turned or played backwards; half of the clips are mirrored, and half played backwards."
        },
    )
    mixup_alpha: float = field(default=0.0, metadata={"help": "Parameter of mixup on batches; 0 is off."})
    cutmix_alpha: float = field(default=0.0, metadata={"help": "Parameter of cutmix on batches; 0 is off."})

    ema_decay: float | None = field(
        default=None, metadata={"help": "Evaluate and save a moving average of the weights with this decay."}
    )
