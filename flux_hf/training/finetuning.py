"""Training a FluxViT classifier on a labelled video data set."""

from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import Trainer, TrainingArguments, set_seed

from flux_hf.data import CachedClips, cache_clips, load_video_dataset
from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
from flux_hf.modeling.modeling_fluxvit import FluxViTForVideoClassification
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.training.clip_dataset import BudgetCollator, ClipDataset

CROP_MARGIN = 1.08


@dataclass
class FinetuneOptions:
    """What to train on what. How to train is in transformers' TrainingArguments."""

    dataset: str = field(metadata={"help": "Folder in videofolder layout, or id of a data set on the Hub."})
    cache_dir: str = field(metadata={"help": "Where decoded clips are kept (uint8, frames x side^2 x 3 bytes a clip)."})
    model: str | None = field(default=None, metadata={"help": "Checkpoint to start from."})
    model_config: str | None = field(default=None, metadata={"help": "JSON config to start from random weights."})
    train_split: str = field(default="train", metadata={"help": "Split to train on."})
    eval_split: str = field(default="validation", metadata={"help": "Split to evaluate on."})
    num_frames: int = field(default=8, metadata={"help": "Frames of the sampling grid."})
    size: int = field(default=224, metadata={"help": "Side of the sampling grid in pixels."})
    cached_frames: int = field(default=16, metadata={"help": "Frames kept of each video; training draws from them."})
    token_budgets: list[int] | None = field(
        default=None, metadata={"help": "Budgets, one drawn for each batch. Default: the model's head_token_budgets."}
    )
    token_budget: int | None = field(
        default=None, metadata={"help": "Default budget of the trained model. Default: the largest of token_budgets."}
    )
    motion_symmetries: bool = field(
        default=False,
        metadata={"help": "Turn, mirror and reverse clips and their labels (labels of the motion clips only)."},
    )


def finetune(options: FinetuneOptions, training_args: TrainingArguments) -> dict[str, float]:
    """Train, evaluate, save model and processor to `training_args.output_dir` and return the last evaluation's metrics.

    Raises:
        ValueError: when not exactly one of `model` and `model_config` is given, or the labels do not fit the model.
    """
    set_seed(training_args.seed)
    train, validation = (_cached(options, split) for split in (options.train_split, options.eval_split))
    model = _starting_model(options, train.label_names)
    budgets = options.token_budgets or model.config.head_token_budgets
    model.config.token_budget = options.token_budget or max(budgets)
    processor = FluxVideoProcessor(
        patch_size=model.config.patch_size,
        token_budget=model.config.token_budget,
        grids={budget: (options.num_frames, options.size) for budget in {*budgets, model.config.token_budget}},
    )
    views = {
        "num_frames": options.num_frames,
        "size": options.size,
        "image_mean": processor.image_mean,
        "image_std": processor.image_std,
    }
    training_args.remove_unused_columns = False
    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=ClipDataset(train, augment=True, motion_symmetries=options.motion_symmetries, **views),
        eval_dataset=ClipDataset(validation, **views),
        data_collator=BudgetCollator(budgets),
        processing_class=processor,
        compute_metrics=top1,
    )
    torch._dynamo.config.automatic_dynamic_shapes = False
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    metrics = trainer.evaluate()
    trainer.save_model()
    trainer.save_state()
    return metrics


def top1(prediction) -> dict[str, float]:
    """Share of clips whose highest logit is the label's."""
    logits = prediction.predictions
    logits = logits[0] if isinstance(logits, tuple) else logits
    return {"top1": float(np.mean(logits.argmax(-1) == prediction.label_ids))}


def _cached(options: FinetuneOptions, split: str) -> CachedClips:
    return cache_clips(
        load_video_dataset(options.dataset, split),
        options.cache_dir,
        num_frames=options.cached_frames,
        size=round(options.size * CROP_MARGIN),
    )


def _starting_model(options: FinetuneOptions, label_names: list[str]) -> FluxViTForVideoClassification:
    if (options.model is None) == (options.model_config is None):
        raise ValueError("give either model (a checkpoint) or model_config (random weights)")
    names = {
        "id2label": dict(enumerate(label_names)),
        "label2id": {name: index for index, name in enumerate(label_names)},
    }
    if options.model is not None:
        return FluxViTForVideoClassification.from_pretrained(options.model, ignore_mismatched_sizes=True, **names)
    config = FluxViTConfig.from_json_file(options.model_config)
    config.update(names)
    return FluxViTForVideoClassification(config)
