"""Fine-tuning a FluxViT classifier on a labelled video data set, from the options to the saved checkpoint."""

from dataclasses import dataclass, field

from datasets import IterableDataset
from transformers import set_seed

from flux_hf.data import cache_clips, load_video_dataset
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.training.arguments import FluxTrainingArguments
from flux_hf.training.starting_model import ModelChanges, starting_model
from flux_hf.training.trainer import FluxTrainer


@dataclass
class FinetuneOptions:
    """What to train on what. How to train is in [`FluxTrainingArguments`]."""

    dataset: str = field(
        metadata={
            "help": "Id of a data set on the Hub, or folder: list files of Kinetics, SSv2 or COIN, webdataset shards, "
            "parquet, or videofolder layout."
        }
    )
    model: str | None = field(default=None, metadata={"help": "Checkpoint to start from: folder or Hub id."})
    model_config: str | None = field(default=None, metadata={"help": "Without model: JSON config, random weights."})
    train_split: str = field(default="train", metadata={"help": "Split to train on."})
    eval_split: str | None = field(
        default="validation", metadata={"help": "Split to evaluate on; an empty word for no evaluation."}
    )
    video_root: str | None = field(
        default=None, metadata={"help": "Folder of the videos of a list file. Default: the folder of the list."}
    )
    labels_file: str | None = field(
        default=None, metadata={"help": "File with the names of the labels, where the data set has numbers only."}
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
    head_token_budgets: list[int] | None = field(
        default=None, metadata={"help": "Budgets of the heads of the model, descending. Default: the model's."}
    )
    token_budget: int | None = field(
        default=None, metadata={"help": "Default budget of the trained model. Default: the largest of token_budgets."}
    )
    num_frames: int | None = field(
        default=None, metadata={"help": "With size: grid of evaluation and of the saved processor, at every budget."}
    )
    size: int | None = field(default=None, metadata={"help": "Side of that grid in pixels. Default: the processor's."})


def finetune(options: FinetuneOptions, training_args: FluxTrainingArguments) -> dict[str, float]:
    """Train, evaluate, save model and processor to `training_args.output_dir` and return the last evaluation's metrics
    (without an evaluation split: those of training).

    Raises:
        ValueError: naming the option that makes no sense.
    """
    if (options.num_frames is None) != (options.size is None):
        raise ValueError("num_frames and size make one grid: give both or neither")
    if options.streaming and options.cache_dir:
        raise ValueError("streaming reads videos as they come and cannot be combined with cache_dir")
    if training_args.snap_to_keyframes and options.cache_dir:
        raise ValueError("snap_to_keyframes needs video files and cannot be combined with cache_dir")
    set_seed(training_args.seed)
    train, label_names = _load(options, options.train_split, options.streaming)
    validation = None
    if options.eval_split:
        validation, eval_names = _load(options, options.eval_split, False)
        if eval_names != label_names:
            raise ValueError(
                f"the splits {options.train_split} and {options.eval_split} have different labels: "
                f"{sorted(set(label_names) ^ set(eval_names))[:10]}; give labels_file"
            )
    elif training_args.eval_strategy != "no":
        raise ValueError("eval_strategy needs an eval_split")
    model = starting_model(
        label_names,
        checkpoint=options.model,
        config_file=options.model_config,
        changes=ModelChanges(options.drop_path_rate, options.head_token_budgets),
    )
    budgets = training_args.token_budgets or model.config.head_token_budgets
    model.config.token_budget = options.token_budget or max(budgets)
    trainer = FluxTrainer(
        model=model,
        args=training_args,
        train_dataset=train,
        eval_dataset=validation,
        processing_class=_processor(options, training_args, model.config),
    )
    metrics = trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint).metrics
    if validation is not None:
        metrics = trainer.evaluate()
    trainer.save_model()
    trainer.save_state()
    if training_args.push_to_hub:
        trainer.push_to_hub(dataset=options.dataset, finetuned_from=options.model)
    return metrics


def _load(options: FinetuneOptions, split: str, streaming: bool):
    """The split as the trainer takes it, and the names of its labels."""
    dataset = load_video_dataset(
        options.dataset,
        split,
        streaming=streaming,
        video_root=options.video_root,
        label_names=options.labels_file,
    )
    names = dataset.features["label"].names
    if options.cache_dir is None or isinstance(dataset, IterableDataset):
        return dataset, names
    return cache_clips(dataset, options.cache_dir, num_frames=options.cached_frames, size=options.cached_size), names


def _processor(options: FinetuneOptions, args: FluxTrainingArguments, config) -> FluxVideoProcessor:
    settings = {"patch_size": config.patch_size, "token_budget": config.token_budget}
    if options.num_frames is not None:
        budgets = {*(args.token_budgets or config.head_token_budgets), *(args.eval_token_budgets or ())}
        grid = (options.num_frames, options.size)
        settings |= dict.fromkeys(("num_frames", "fps", "size", "crop_size"))  # which would win over the grid
        settings["grids"] = dict.fromkeys(sorted({*budgets, config.token_budget}, reverse=True), grid)
    if options.model is None:
        return FluxVideoProcessor(**settings)
    return FluxVideoProcessor.from_pretrained(options.model, **settings)
