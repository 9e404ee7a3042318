"""Train a classifier on clips that are composed while it trains, on the device it trains on.

No file, no decoding, no end. A GPU composes and learns from thousands of clips a second; a CPU
takes about 0.1 s a clip, enough to try the command.

python scripts/experiments/motion_clips_endless/train.py scripts/experiments/recipes/motion_nano_endless.yaml
"""

from dataclasses import dataclass, field

from flux_hf.cli import run_command
from flux_hf.options import check_checkpoints, parse_options
from flux_hf.options.training import FluxTrainingOptions
from flux_hf.scripts.experiments.motion_clips.trajectories import LABELS as NAMES


@dataclass
class EndlessOptions:
    model: str | None = field(default=None, metadata={"help": "Checkpoint to start from."})
    model_config: str | None = field(
        default=None, metadata={"help": "Without model: random weights of this configuration, a name or JSON file."}
    )
    textures: int = field(default=8192, metadata={"help": "Textures and silhouettes that clips are made of."})
    num_frames: int = field(default=8, metadata={"help": "Frames of a clip."})
    sides: list[int] = field(
        default_factory=lambda: [128], metadata={"help": "Sides in pixels that a batch may have, each as often."}
    )
    source_sides: list[int] = field(
        default_factory=lambda: [112, 128, 160, 192],
        metadata={"help": "Sides, multiples of 16, of the clips before they are scaled to that of the batch."},
    )
    often: list[str] = field(
        default_factory=list,
        metadata={"help": "Labels of which twice as many clips are composed.", "choices": sorted(NAMES)},
    )
    looks: float = field(
        default=1.0, metadata={"help": "How often a batch is seen, turned or mirrored or backwards, on average."}
    )
    size: int = field(default=128, metadata={"help": "Side of the grid of the saved processor."})


def main(argv: list[str] | None = None) -> None:
    options, args = parse_options((EndlessOptions, FluxTrainingOptions), argv, __doc__)
    from transformers import set_seed

    from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
    from flux_hf.scripts.experiments.motion_clips_endless.clips import LABELS
    from flux_hf.scripts.experiments.motion_clips_endless.dice import Dice
    from flux_hf.scripts.experiments.motion_clips_endless.layers import make_banks
    from flux_hf.scripts.experiments.motion_clips_endless.supply import ClipSupply, Numbers
    from flux_hf.training.label_symmetries import load_label_symmetries
    from flux_hf.training.output_folder import prepare_output_dir
    from flux_hf.training.starting_model import starting_model
    from flux_hf.training.trainer import FluxTrainer

    if args.max_steps < 1:
        raise ValueError(f"--max_steps must be given, the clips have no end; got {args.max_steps}")
    if args.label_symmetries is None:
        raise ValueError("--label_symmetries must name the table of what a turned clip shows")
    check_checkpoints(model=options.model)
    prepare_output_dir(args, False, options.model)
    args.dataloader_pin_memory = False  # the batches are made on the device
    set_seed(args.seed)
    model = starting_model(list(LABELS), checkpoint=options.model, config_file=options.model_config)
    processor = FluxVideoProcessor.for_model(
        model, grids=dict.fromkeys(model.token_budgets, (options.num_frames, options.size))
    )
    dice = Dice(args.device, args.seed)
    supply = ClipSupply(
        make_banks(options.textures, dice),
        dice,
        load_label_symmetries(args.label_symmetries, list(LABELS)),
        options.num_frames,
        options.sides,
        options.source_sides,
        options.often,
        options.looks,
        processor.image_mean,
        processor.image_std,
        args.seed,
    )
    trainer = FluxTrainer(
        model=model,
        args=args,
        train_dataset=Numbers(args.max_steps * args.train_batch_size),
        data_collator=supply,
        processing_class=processor,
    )
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model()
    trainer.save_state()


if __name__ == "__main__":
    run_command("train.py", main)
