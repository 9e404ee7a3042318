"""Aligning a FluxViT with a text encoder on pairs, from the options to the saved checkpoint."""

import shlex
from pathlib import Path

import numpy as np
from datasets import IterableDataset
from transformers import set_seed
from transformers.trainer_utils import IntervalStrategy
from transformers.utils import logging

from flux_hf.checkpoints import checkpoint_path
from flux_hf.data import MissingSplitError
from flux_hf.options.aligning import AlignOptions
from flux_hf.processing.processing_fluxvit_clip import FluxViTClipProcessor
from flux_hf.progress_bars import no_bars_for_folders
from flux_hf.text.arguments import FluxAligningArguments
from flux_hf.text.captioned_clips import cache_pairs
from flux_hf.text.pairs import load_pairs
from flux_hf.text.starting_dual_encoder import starting_dual_encoder
from flux_hf.text.trainer import FluxAligningTrainer
from flux_hf.text.videos import needs_split
from flux_hf.training.budgets import set_budgets
from flux_hf.training.output_folder import checkpoint_to_resume, prepare_output_dir
from flux_hf.training.progress import recall_text
from flux_hf.training.run_options import check_run_options, fit_batch, starting_processor
from flux_hf.training.running import train_and_save

logger = logging.get_logger(__name__)

LOOKED_AT = 1000
"""Captions whose length is looked at before training."""


def align(options: AlignOptions, training_args: FluxAligningArguments) -> dict[str, float]:
    """Train, evaluate, save model and processor to `training_args.output_dir` and return the last evaluation's metrics
    (without pairs to evaluate on: those of training). Prints how many pairs there are, how training goes on, how well
    captions find their videos and which commands come next.

    Raises:
        ValueError: naming the option that makes no sense, or the file and its column or row that do not.
    """
    say = print if training_args.process_index == 0 else lambda *_: None
    check_run_options(options, training_args, AlignOptions.eval_split)
    training_args.resume_from_checkpoint = checkpoint_to_resume(
        training_args.resume_from_checkpoint, training_args.output_dir, say
    )
    prepare_output_dir(training_args, options.overwrite, options.model)
    set_seed(training_args.seed)
    with no_bars_for_folders(options.dataset, checkpoint_path(options.model)):
        train, validation = load_splits(options, training_args.seed)
        say("; ".join(_count(*split) for split in (("train", train), ("evaluate", validation)) if split[1] is not None))
        if validation is None:
            training_args.eval_strategy = IntervalStrategy.NO
        news = logger.info if training_args.process_index or training_args.resume_from_checkpoint else logger.warning
        model, tokenizer, lengths = starting_dual_encoder(
            checkpoint=options.model,
            config_file=options.model_config,
            text_checkpoint=options.text_model,
            changes={name: getattr(options, name) for name in ("freeze_text", "projection_dim", "loss")},
            drop_path_rate=options.drop_path_rate,
            say=news,
        )
        fit_batch(training_args, train, say)
        before = model.token_budgets
        set_budgets(model, sorted(training_args.token_budgets or before, reverse=True), news)
        model.config.vision_config.token_budget = options.token_budget or model.token_budgets[0]
        video_processor = starting_processor(options, training_args, model.vision_model, before)
        processor = FluxViTClipProcessor(video_processor, tokenizer, **lengths)
        if (cut := _cut_captions(train, processor)) and not training_args.process_index:
            logger.warning(f"warning: {cut}")
        if options.cache_dir is not None:
            settings = {"num_frames": options.cached_frames, "size": options.cached_size}
            train, validation = (
                pairs if pairs is None else cache_pairs(pairs, options.cache_dir, **settings)
                for pairs in (train, validation)
            )
        trainer = FluxAligningTrainer(
            model=model,
            args=training_args,
            train_dataset=train,
            eval_dataset=validation,
            processing_class=processor,
        )
        metrics = train_and_save(trainer, dataset=options.dataset, finetuned_from=options.model)
    say(_end(options, training_args.output_dir, metrics))
    return metrics


def load_splits(options: AlignOptions, seed: int):
    """The pairs to train on and those to evaluate on (None: there are none), as [`load_pairs`] gives them.

    Raises:
        ValueError: `validation_share` does not fit.
        MissingSplitError: a split that was asked for is not there.
    """
    train = _load(options, options.dataset, options.train_split, options.streaming)
    if options.validation_share is not None:
        if not 0 < options.validation_share < 1:
            raise ValueError(f"--validation_share must be between 0 and 1, got {options.validation_share}")
        kept = max(1, round(options.validation_share * len(train)))
        if kept >= len(train):
            raise ValueError(f"--validation_share leaves none of {len(train)} videos to train on")
        order = np.random.default_rng(seed).permutation(len(train))
        return train.select(sorted(order[kept:].tolist())), train.select(sorted(order[:kept].tolist()))
    if options.eval_dataset is not None:
        return train, _load(options, options.eval_dataset, options.eval_split or AlignOptions.eval_split)
    if not options.eval_split or Path(options.dataset).is_file():
        return train, None
    try:
        return train, _load(options, options.dataset, options.eval_split)
    except MissingSplitError as error:
        if options.eval_split != AlignOptions.eval_split:
            raise
        logger.warning(
            f"warning: {error}: nothing is evaluated; --eval_split NAME chooses another split, --validation_share "
            "0.1 keeps back a tenth of the training videos"
        )
        return train, None


def _load(options: AlignOptions, dataset: str, split: str, streaming: bool = False):
    return load_pairs(
        dataset, split, caption_column=options.caption_column, video_root=options.video_root, streaming=streaming
    )


def _count(use: str, pairs) -> str:
    if isinstance(pairs, IterableDataset):
        return f"to {use} on: streamed"
    return f"to {use} on: {len(pairs)} videos with {sum(map(len, pairs['captions'][:]))} captions"


def _cut_captions(pairs, processor: FluxViTClipProcessor) -> str | None:
    """What to say of captions that are longer than the processor lets them be; None where there are none."""
    if isinstance(pairs, IterableDataset):
        return None
    rows = pairs["captions"][: LOOKED_AT // 2]
    texts = [text for captions in rows for text in captions][:LOOKED_AT]
    given = processor(text=texts, return_tensors="pt")["input_ids"].shape[1]
    long = sum(len(ids) > given for ids in processor.tokenizer(texts)["input_ids"])
    if not long:
        return None
    return f"{long} of the first {len(texts)} captions have more than {given} tokens, the rest of them is not read"


def _end(options: AlignOptions, folder: str, metrics: dict) -> str:
    lines = [f"In evaluation, {recall}." for recall in [recall_text(metrics)] if recall]
    split = ["--split", options.train_split] if needs_split(options.dataset) else []
    root = ["--video_root", options.video_root] if options.video_root else []
    index = f"{folder.rstrip('/')}.parquet"
    commands = [
        ["flux-hf", "embed", options.dataset, *split, *root, "--checkpoint", folder, "--output", index],
        ["flux-hf", "search", "a sentence", "--index", index],
    ]
    return "\n".join([*lines, f"Saved in {folder}. Next:", *(f"  {shlex.join(command)}" for command in commands)])
