"""What fine-tuning and aligning do with the options of a run: checks, the batch, the processor."""

from datasets import IterableDataset

from flux_hf.checkpoints import checkpoint_path
from flux_hf.modeling.flux_model_fluxvit import FluxModel
from flux_hf.options import decoding_setting
from flux_hf.plugin import load_video_processor
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.training.arguments import ClipTrainingArguments
from flux_hf.training.budgets import fit_processor


def check_run_options(options, args: ClipTrainingArguments, default_eval_split: str) -> None:
    """Raise ValueError naming the options that exclude each other, or ask for no training."""
    if args.max_steps <= 0 and args.num_train_epochs <= 0:
        raise ValueError(
            f"--num_train_epochs must be above 0 where --max_steps is not given, got {args.num_train_epochs}"
        )
    if options.validation_share is not None and options.eval_split not in (None, "", default_eval_split):
        raise ValueError(
            f"--validation_share keeps back training clips to evaluate on, --eval_split {options.eval_split} names a "
            "split: give one of them (--eval_split '' takes that of a recipe away)"
        )
    if (options.num_frames is None) != (options.size is None):
        raise ValueError("--num_frames and --size make one grid: give both or neither")
    if options.streaming:
        for name in ("cache_dir", "validation_share"):
            if getattr(options, name) is not None:
                raise ValueError(f"--streaming reads videos as they come and cannot be combined with --{name}")
    if args.snap_to_keyframes and options.cache_dir:
        raise ValueError("--snap_to_keyframes needs video files and cannot be combined with --cache_dir")


def fit_batch(args: ClipTrainingArguments, train, say) -> None:
    """Lower the batch to the clips that there are, and say so."""
    if isinstance(train, IterableDataset):
        return
    most = len(train) // (args.world_size * args.gradient_accumulation_steps)
    if 0 < most < args.per_device_train_batch_size:
        say(f"Batches of {most} clips, not {args.per_device_train_batch_size}: there are {len(train)} to train on.")
        args.per_device_train_batch_size = most


def processor_settings(options, args: ClipTrainingArguments, model: FluxModel) -> dict:
    """Settings of the video processor that the options ask for; with a grid of `num_frames` and `size` at every
    budget."""
    tubelet_size, patch_size = model.patch_shape
    budget = model.config.token_budget
    settings = {"patch_size": patch_size, "tubelet_size": tubelet_size, "token_budget": budget}
    settings |= decoding_setting(options)
    if options.num_frames is not None:
        budgets = {*model.token_budgets, *(args.eval_token_budgets or ())}
        grid = (options.num_frames, options.size)
        settings |= dict.fromkeys(("num_frames", "fps", "size", "crop_size"))  # which would win over the grid
        settings["grids"] = dict.fromkeys(sorted({*budgets, budget}, reverse=True), grid)
    return settings


def starting_processor(options, args: ClipTrainingArguments, model: FluxModel, before: list[int]) -> FluxVideoProcessor:
    """The video processor of the checkpoint `options.model`, or a new one, as the options ask.

    Args:
        before: the budgets that the starting model was one for.
    """
    settings = processor_settings(options, args, model)
    if options.model is None:
        return FluxVideoProcessor(**settings)
    processor = load_video_processor(checkpoint_path(options.model), model, **settings)
    return processor if options.num_frames else fit_processor(processor, before, model.token_budgets)
