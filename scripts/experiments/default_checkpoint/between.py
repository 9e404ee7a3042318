"""A classifier whose weights lie between those of two: what it was, and what further training made of it.

It keeps more of what the first one knew than the second one does (Wortsman et al., "Robust fine-tuning of zero-shot
models", 2022). What it says too often or too surely on labelled clips, `--calibrate_on` takes back.

python scripts/experiments/default_checkpoint/between.py --first runs/before --second runs/after --share 0.75 \
    --calibrate_on data/motion=validation --output_dir runs/between
"""

from dataclasses import dataclass, field

from flux_hf.cli import run_command
from flux_hf.options import check_checkpoints, parse_options

COMMAND = "scripts/experiments/default_checkpoint/between.py"


@dataclass
class BetweenOptions:
    first: str = field(metadata={"help": "Checkpoint before; the configuration and the processor are its."})
    second: str = field(metadata={"help": "Checkpoint after."})
    share: float = field(metadata={"help": "Of the second one, 0 to 1."})
    output_dir: str = field(metadata={"help": "Folder to write."})
    calibrate_on: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Labelled data sets, FOLDER=SPLIT, to fit a scale and a shift of the logits on, for every budget."
        },
    )


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(BetweenOptions, argv, __doc__)
    check_checkpoints(first=options.first, second=options.second)
    if not 0 <= options.share <= 1:
        raise ValueError(f"--share must be from 0 to 1, got {options.share}")
    import torch

    from flux_hf.plugin import load_video_classifier, load_video_processor
    from flux_hf.scripts.experiments.default_checkpoint.calibrating import calibrate

    first, second = (load_video_classifier(path) for path in (options.first, options.second))
    before, after = first.state_dict(), second.state_dict()
    if {name: value.shape for name, value in before.items()} != {name: value.shape for name, value in after.items()}:
        raise ValueError(f"--first {options.first} and --second {options.second} are not of the same architecture")
    first.load_state_dict({name: torch.lerp(before[name], after[name], options.share) for name in before})
    processor = load_video_processor(options.first, first)
    if options.calibrate_on:
        calibrate(first, processor, options.calibrate_on)
    first.save_pretrained(options.output_dir)
    processor.save_pretrained(options.output_dir)
    print(options.output_dir)


if __name__ == "__main__":
    run_command(COMMAND, main)
