"""Measure two ways of decoding that we did not take: no pass over webm, scaling in the decoder; writes JSON."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.files import write_json
from flux_hf.options import parse_options

COMMAND = "scripts/benchmarks/alternatives.py"


@dataclass
class AlternativesOptions:
    output: str = field(
        default="scripts/benchmarks/results/alternatives.json", metadata={"help": "JSON file to write."}
    )
    files: str = field(default="benchmark_files", metadata={"help": "Folder for the videos; made ones are kept."})
    num_frames: int = field(default=8, metadata={"help": "Frames that are read."})
    size: int = field(default=224, metadata={"help": "Side of the grid in pixels."})
    repeats: int = field(default=15, metadata={"help": "Counted runs of each, taking turns."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(AlternativesOptions, argv, __doc__)
    from flux_hf.provenance import provenance
    from flux_hf.scripts.benchmarks.measuring.alternatives import (
        full_and_scaled,
        pixel_difference,
        with_and_without_pass,
    )
    from flux_hf.scripts.benchmarks.measuring.files import SCALED_FILES, WEBM_FILES, video_file
    from flux_hf.scripts.benchmarks.measuring.timing import alternating

    webm, scaled = [], []
    for kind in WEBM_FILES:
        runs = with_and_without_pass(str(video_file(kind, Path(options.files))), options.num_frames)
        webm.append({"file": kind.name, "seconds": kind.seconds, "runs": alternating(runs, options.repeats)})
    for kind in SCALED_FILES:
        runs = full_and_scaled(str(video_file(kind, Path(options.files))), options.num_frames, options.size)
        row = {"file": kind.name, "pixel_difference": pixel_difference(runs)}
        scaled.append(row | {"runs": alternating(runs, options.repeats)})
    result = provenance(f"python {COMMAND}", argv) | {
        "options": vars(options),
        "webm": webm,
        "scaled": scaled,
    }
    write_json(options.output, result)
    print(json.dumps({"webm": webm, "scaled": scaled}, indent=1))


if __name__ == "__main__":
    run_command(COMMAND, main)
