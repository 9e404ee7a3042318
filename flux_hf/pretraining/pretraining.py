"""Pre-training a FluxViT on unlabelled videos, from the options to the saved checkpoint."""

import shlex

from transformers import set_seed

from flux_hf.checkpoints import checkpoint_path, reading_weights
from flux_hf.data import cache_clips, clip_source
from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
from flux_hf.modeling.modeling_fluxvit_pretraining import FluxViTForPreTraining, default_aligned_layers
from flux_hf.options.pretraining import OPTICAL_FLOW, PretrainOptions, teacher_checkpoint
from flux_hf.options.recipes import read_model_config
from flux_hf.pretraining.arguments import FluxPreTrainingArguments
from flux_hf.pretraining.mixture import load_mixture, shares_of
from flux_hf.pretraining.teacher import Teacher, load_teacher, optical_flow_family
from flux_hf.pretraining.trainer import FluxPreTrainer
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.progress_bars import no_bars_for_folders
from flux_hf.training.output_folder import checkpoint_to_resume, prepare_output_dir
from flux_hf.training.running import train_and_save
from flux_hf.training.splits import clip_table


def pretrain(options: PretrainOptions, training_args: FluxPreTrainingArguments) -> dict[str, float]:
    """Train, save model and processor to `training_args.output_dir` and return the metrics of training. Prints how many
    clips there are, how training goes on and which command comes next.

    `flux-hf finetune --model` starts from that folder: `FluxViTForVideoClassification` takes the encoder and its
    pooling heads, one for each budget that was trained.

    Raises:
        ValueError: naming the option that makes no sense.
    """
    say = print if training_args.process_index == 0 else lambda *_: None
    _check(options, training_args, say)
    prepare_output_dir(training_args, options.overwrite, options.model)
    set_seed(training_args.seed)
    with no_bars_for_folders(*options.dataset, checkpoint_path(options.model), teacher_checkpoint(options.teacher)):
        trainer = _trainer(options, training_args, say)
        metrics = train_and_save(
            trainer, dataset=options.dataset, finetuned_from=options.model, teacher=options.teacher
        )
    folder = training_args.output_dir
    say(f"Mean loss {metrics['train_loss']:.4g}. Saved in {folder}. Next, with your recipe and labelled clips:")
    say("  " + shlex.join(["flux-hf", "finetune", "RECIPE", "--model", folder, "--dataset", "DATASET"]))
    return metrics


def _trainer(options: PretrainOptions, training_args: FluxPreTrainingArguments, say) -> FluxPreTrainer:
    dataset = load_mixture(
        options.dataset,
        options.train_split,
        video_roots=options.video_root,
        streaming=options.streaming,
        weights=options.dataset_weights,
        seed=training_args.seed,
    )
    if options.cache_dir is not None:
        dataset = cache_clips(dataset, options.cache_dir, num_frames=options.cached_frames, size=options.cached_size)
    say(clip_table(options.dataset, {"train": None if options.streaming else clip_source(dataset).labels}))
    if options.model is None:
        config = FluxViTConfig.from_dict(read_model_config(options.model_config))
        processor = FluxVideoProcessor(patch_size=config.patch_size, tubelet_size=config.tubelet_size)
    else:
        config = FluxViTConfig.from_pretrained(checkpoint_path(options.model))
        processor = FluxVideoProcessor.from_pretrained(checkpoint_path(options.model))
    teacher = load_teacher(
        options.teacher,
        patch_size=config.patch_size,
        image_mean=list(processor.image_mean),
        image_std=list(processor.image_std),
        bf16=training_args.teacher_bf16,
        trust_remote_code=options.trust_remote_code,
    )
    without_flip = options.dataset_without_flip or []
    return FluxPreTrainer(
        model=student(options, config, teacher),
        args=training_args,
        train_dataset=dataset,
        processing_class=processor,
        teacher=teacher,
        teacher_layers=options.teacher_layers,
        flips=[training_args.flip and name not in without_flip for name in options.dataset],
        weights=None if options.streaming else options.dataset_weights,
    )


def student(options: PretrainOptions, config: FluxViTConfig, teacher: Teacher) -> FluxViTForPreTraining:
    """The model to train, with decoders for this teacher."""
    layers = options.student_layers or config.aligned_layers or default_aligned_layers(config.num_hidden_layers)
    changes = {
        "drop_path_rate": options.drop_path_rate,
        "head_token_budgets": options.head_token_budgets,
        "aligned_layers": layers,
        "teacher_hidden_size": teacher.width,
        "teacher_projection_dim": teacher.pooled_width,
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    config.update(changes)
    config.validate()
    if options.model is None:
        return FluxViTForPreTraining(config)
    checkpoint = checkpoint_path(options.model)
    with reading_weights(checkpoint):
        return FluxViTForPreTraining.from_pretrained(checkpoint, config=config, ignore_mismatched_sizes=True)


def _check(options: PretrainOptions, args: FluxPreTrainingArguments, say) -> None:
    if options.model is None and options.model_config is None:
        raise ValueError("give --model (a checkpoint) or --model_config (a name or JSON file, random weights)")
    if options.teacher == OPTICAL_FLOW:
        optical_flow_family()  # before anything is deleted
    if options.streaming and options.cache_dir:
        raise ValueError("--streaming reads videos as they come and cannot be combined with --cache_dir")
    if args.snap_to_keyframes and options.cache_dir:
        raise ValueError("--snap_to_keyframes needs video files and cannot be combined with --cache_dir")
    if options.streaming and args.view_epochs is not None:
        raise ValueError("--view_epochs repeats the views of videos with numbers, --streaming has none")
    if unknown := sorted(set(options.dataset_without_flip or []) - set(options.dataset)):
        raise ValueError(f"--dataset_without_flip names no data set of --dataset: {', '.join(unknown)}")
    if options.dataset_weights is not None:
        shares_of(options.dataset_weights, [1] * len(options.dataset))
    args.resume_from_checkpoint = checkpoint_to_resume(args.resume_from_checkpoint, args.output_dir, say)
