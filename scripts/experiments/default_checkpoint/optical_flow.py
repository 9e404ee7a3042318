"""A classical baseline beside checkpoints, on the same clips: statistics of the optical flow and a random forest.

For every test set one forest is fitted on all training sets and, where its own set is among several of them, one on
the others alone (leave one out).

python scripts/experiments/default_checkpoint/optical_flow.py --train rendered=data/motion --train_clips 450 \
    --test rendered=data/motion composed=data/composed

A set is named and given as NAME=DIR. Of --train the split train is taken, of --test the split test.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.files import write_json
from flux_hf.options import check_at_least, check_checkpoints, parse_options

COMMAND = "scripts/experiments/default_checkpoint/optical_flow.py"


@dataclass
class OpticalFlowOptions:
    train: list[str] = field(metadata={"help": "Data sets to fit the forest on, NAME=DIR."})
    test: list[str] = field(metadata={"help": "Data sets to test on, NAME=DIR."})
    train_clips: int | None = field(
        default=None, metadata={"help": "Clips of each set to fit on, as many of every class; default all."}
    )
    checkpoints: list[str] = field(
        default_factory=lambda: ["default"], metadata={"help": "Checkpoints to compare with."}
    )
    timed: int = field(default=32, metadata={"help": "Clips of each test set that are timed, drawn by --seed."})
    repeats: int = field(default=5, metadata={"help": "Runs over the timed clips of each method, taking turns."})
    seed: int = field(default=0, metadata={"help": "Seed of the forest and of what is drawn."})
    output: str = field(
        default="scripts/experiments/default_checkpoint/results/optical_flow.json", metadata={"help": "JSON to write."}
    )


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(OpticalFlowOptions, argv, __doc__)
    check_at_least(1, options, "train_clips", "timed", "repeats")
    train, test = (named_folders(name, getattr(options, name)) for name in ("train", "test"))
    for checkpoint in options.checkpoints:
        check_checkpoints(checkpoints=checkpoint)
    from flux_hf.provenance import provenance
    from flux_hf.scripts.experiments.default_checkpoint.flow_baseline import compare

    result = provenance(f"python {COMMAND}", argv, "opencv-python-headless", "scikit-learn")
    result |= {"options": vars(options), "data": []}
    for found in compare(train, test, options):
        print(json.dumps(found), flush=True)
        result["data"].append(found)
        write_json(options.output, result)


def named_folders(option: str, values: list[str]) -> dict[str, str]:
    """NAME -> DIR of an option that names data sets.

    Raises:
        ValueError: naming the option and the value that is not NAME=DIR, has a name a second time or no such folder.
    """
    found = {}
    for value in values:
        name, equals, folder = value.partition("=")
        if not (name and equals and folder):
            raise ValueError(f"--{option} must be data sets as NAME=DIR, got {value}")
        if name in found:
            raise ValueError(f"--{option} must name each data set once, got {name} twice")
        if not Path(folder).is_dir():
            raise ValueError(f"--{option} {value}: there is no folder {folder}")
        found[name] = folder
    return found


if __name__ == "__main__":
    run_command(COMMAND, main)
