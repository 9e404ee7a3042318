"""Fine-tuning a classifier on a labelled video data set, from the options to the saved checkpoint."""

import shlex
from pathlib import Path

from transformers import set_seed
from transformers.trainer_utils import IntervalStrategy
from transformers.utils import logging

from flux_hf.checkpoints import checkpoint_path
from flux_hf.data import CachedClips, MissingSplitError, cache_clips, clip_source, load_video_dataset
from flux_hf.options.training import FinetuneOptions
from flux_hf.progress_bars import no_bars_for_folders
from flux_hf.training.arguments import FluxTrainingArguments
from flux_hf.training.budgets import set_budgets
from flux_hf.training.output_folder import checkpoint_to_resume, prepare_output_dir
from flux_hf.training.progress import accuracy_text
from flux_hf.training.run_options import check_run_options, fit_batch, starting_processor
from flux_hf.training.running import train_and_save
from flux_hf.training.splits import check_classes, clip_table, keep_share
from flux_hf.training.starting_model import NOTHING_TO_START_FROM, ModelChanges, starting_model
from flux_hf.training.trainer import FluxTrainer

logger = logging.get_logger(__name__)


def finetune(options: FinetuneOptions, training_args: FluxTrainingArguments) -> dict[str, float]:
    """Train, evaluate, save model and processor to `training_args.output_dir` and return the last evaluation's metrics
    (without clips to evaluate on: those of training). Prints how many clips there are, how training goes on, how
    accurate the model is and which commands come next.

    Raises:
        ValueError: naming the option that makes no sense.
    """
    say = print if training_args.process_index == 0 else lambda *_: None
    _check(options, training_args, say)
    prepare_output_dir(training_args, options.overwrite, options.model)
    set_seed(training_args.seed)
    with no_bars_for_folders(options.dataset, checkpoint_path(options.model)):
        train, validation = load_splits(options, training_args.seed)
        _show_clips(options, train, validation, say)
        if validation is None:
            training_args.eval_strategy = IntervalStrategy.NO
        news = logger.info if training_args.process_index or training_args.resume_from_checkpoint else logger.warning
        model = starting_model(
            _label_names(train),
            checkpoint=options.model,
            config_file=options.model_config,
            changes=ModelChanges(options.drop_path_rate, options.head_token_budgets),
            say=news,
        )
        fit_batch(training_args, train, say)
        before = model.token_budgets
        if not training_args.token_budgets and model.config.token_budget is model.head_budget(before[0]) is None:
            news(f"the model is trained at {before[0]} tokens alone, all of its own grid; --token_budgets names fewer")
        set_budgets(model, sorted(training_args.token_budgets or before, reverse=True), news)
        model.config.token_budget = options.token_budget or model.token_budgets[0]
        trainer = FluxTrainer(
            model=model,
            args=training_args,
            train_dataset=train,
            eval_dataset=validation,
            processing_class=starting_processor(options, training_args, model, before),
        )
        metrics = train_and_save(trainer, dataset=options.dataset, finetuned_from=options.model)
    say(_end(options, training_args.output_dir, metrics, train if validation is None else validation))
    return metrics


def load_splits(options: FinetuneOptions, seed: int):
    """The clips to train on and those to evaluate on (None: there are none), as the trainer takes them.

    Raises:
        ValueError: the labels of the two do not fit, or `validation_share` does not.
        MissingSplitError: a split that was asked for is not there.
    """
    train, validation = _load(options, options.train_split, options.streaming), None
    names = _label_names(train)
    if options.validation_share is not None:
        train, validation = keep_share(train, options.validation_share, seed)
    elif options.eval_split:
        try:
            validation = _load(options, options.eval_split)
        except MissingSplitError as error:
            if options.eval_split != FinetuneOptions.eval_split:
                raise
            logger.warning(
                f"warning: {error}: nothing is evaluated; --eval_split NAME chooses another split, --validation_share "
                "0.1 keeps back a tenth of the training clips"
            )
    if validation is not None and (other := _label_names(validation)) != names:
        if unknown := sorted(set(other) - set(names)):
            raise ValueError(
                f"only the split {options.eval_split} has the labels {', '.join(unknown[:10])}: no training clip shows "
                "them, or labels_file has to name them"
            )
        # Labels that only have names where they occur: without one of them the others have other numbers.
        validation = _load(options, options.eval_split, label_names=names)
    if options.cache_dir is not None:
        settings = {"num_frames": options.cached_frames, "size": options.cached_size}
        train, validation = (
            split if split is None else cache_clips(split, options.cache_dir, **settings)
            for split in (train, validation)
        )
    return train, validation


def _show_clips(options: FinetuneOptions, train, validation, say) -> None:
    names = _label_names(train)
    trained = None if options.streaming else list(clip_source(train).labels)
    evaluated = None if validation is None else list(clip_source(validation).labels)
    kept = "kept back" if options.validation_share is not None else options.eval_split
    say(clip_table(names, {options.train_split: trained} | ({} if validation is None else {kept: evaluated})))
    if trained is not None:
        check_classes(names, trained, evaluated)


def _check(options: FinetuneOptions, args: FluxTrainingArguments, say) -> None:
    if options.model is None and options.model_config is None:
        raise ValueError(NOTHING_TO_START_FROM)
    check_run_options(options, args, FinetuneOptions.eval_split)
    args.resume_from_checkpoint = checkpoint_to_resume(args.resume_from_checkpoint, args.output_dir, say)


def _load(options: FinetuneOptions, split: str, streaming: bool = False, label_names: list[str] | None = None):
    return load_video_dataset(
        options.dataset,
        split,
        streaming=streaming,
        video_root=options.video_root,
        label_names=label_names or options.labels_file,
    )


def _label_names(clips) -> list[str]:
    return clips.label_names if isinstance(clips, CachedClips) else clips.features["label"].names


def _end(options: FinetuneOptions, folder: str, metrics: dict, clips) -> str:
    """Accuracy, folder and the next commands, `evaluate` only for a split that training did not see; `clips` are those
    from which an example for `classify` is taken."""
    lines, split = [], None
    if accuracy := accuracy_text(metrics):
        unreadable = metrics.get("eval_unreadable", 0)
        rest = f" ({unreadable} more unreadable)" if unreadable else ""
        lines.append(f"Right in evaluation, {len(clips) - unreadable} clips{rest}: {accuracy}")
        split = options.eval_split if options.validation_share is None else None
    source = None if options.streaming and not accuracy else clip_source(clips)
    example = source.name(0) if source is not None and Path(source.name(0)).is_file() else "CLIP.mp4"
    data = ["--dataset", options.dataset, "--split", split]
    for name in ("video_root", "labels_file"):
        if getattr(options, name) is not None:
            data += [f"--{name}", getattr(options, name)]
    commands = [["flux-hf", "classify", example, "--checkpoint", folder]]
    if split is not None:
        commands.insert(0, ["flux-hf", "evaluate", "--checkpoint", folder, *data])
    return "\n".join([*lines, f"Saved in {folder}. Next:", *(f"  {shlex.join(command)}" for command in commands)])
