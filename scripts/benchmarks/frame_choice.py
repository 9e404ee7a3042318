"""Measure what the choice of frames costs and what it is worth: frames decoded, CPU time and accuracy; writes JSON.

python scripts/benchmarks/frame_choice.py
python scripts/benchmarks/frame_choice.py --data data/motion --splits test --output clips.json
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.files import write_json
from flux_hf.options import parse_options

COMMAND = "scripts/benchmarks/frame_choice.py"


@dataclass
class FrameChoiceOptions:
    output: str = field(default="scripts/benchmarks/results/frame_choice.json", metadata={"help": "JSON to write."})
    files: str = field(default="benchmark_files", metadata={"help": "Folder for the videos; made ones are kept."})
    num_frames: list[int] = field(default_factory=lambda: [8, 24], metadata={"help": "Frames that are read of a file."})
    repeats: int = field(default=5, metadata={"help": "Runs of each choice on a file, taking turns."})
    data: list[str] = field(default_factory=list, metadata={"help": "Measure on these data sets, not on such files."})
    splits: list[str] = field(default_factory=list, metadata={"help": "The split of each data set."})
    checkpoint: str = field(default="default", metadata={"help": "Checkpoint whose accuracy is measured."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(FrameChoiceOptions, argv, __doc__)
    from flux_hf.provenance import provenance
    from flux_hf.scripts.benchmarks.measuring.files import FILES, video_file
    from flux_hf.scripts.benchmarks.measuring.frame_choice import cost_of_file, on_dataset

    result = {"files": [], "data": []}
    for kind in [] if options.data else FILES:
        path = str(video_file(kind, Path(options.files)))
        for frames in options.num_frames:
            costs = cost_of_file(path, frames, options.repeats)
            result["files"].append({"file": kind.name, "num_frames": frames, "choices": costs})
            print(json.dumps(result["files"][-1]), flush=True)
    for folder, split in zip(options.data, options.splits, strict=True):
        result["data"].append({"data": folder, "split": split, **on_dataset(folder, split, options.checkpoint)})
        print(json.dumps(result["data"][-1]), flush=True)
    write_json(options.output, provenance(f"python {COMMAND}", argv) | {"options": vars(options)} | result)


if __name__ == "__main__":
    run_command(COMMAND, main)
