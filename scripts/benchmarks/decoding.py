"""Measure the decoding of a few frames of short and long files, against other readers, and its memory; writes JSON."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.files import write_json
from flux_hf.options import parse_options

COMMAND = "scripts/benchmarks/decoding.py"


@dataclass
class DecodingOptions:
    output: str = field(default="scripts/benchmarks/results/decoding.json", metadata={"help": "JSON file to write."})
    files: str = field(default="benchmark_files", metadata={"help": "Folder for the videos; made ones are kept."})
    num_frames: list[int] = field(default_factory=lambda: [8, 24], metadata={"help": "Frames that are read."})
    repeats: int = field(default=7, metadata={"help": "Counted runs of each reader, taking turns."})
    most_seconds: float = field(default=60.0, metadata={"help": "A reader takes no further turn on a file after that."})
    quick: bool = field(default=False, metadata={"help": "Fewer files, 8 frames, three repeats: about three minutes."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(DecodingOptions, argv, __doc__)
    from flux_hf.provenance import provenance
    from flux_hf.scripts.benchmarks.measuring.files import FILES, MEMORY_FILES, QUICK_FILES, video_file
    from flux_hf.scripts.benchmarks.measuring.memory import memory_of_length
    from flux_hf.scripts.benchmarks.measuring.readers import MODES, available_readers, libav_alone
    from flux_hf.scripts.benchmarks.measuring.timing import alternating

    if options.quick:
        options.num_frames, options.repeats, options.most_seconds = [8], 3, 8.0
    readers, missing = available_readers()
    rows = []
    for kind in QUICK_FILES if options.quick else FILES:
        path = str(video_file(kind, Path(options.files)))
        for frames in options.num_frames:
            runs = {name: (lambda reader=reader: reader(path, frames)) for name, reader in readers.items()}  # noqa: B023
            runs |= {f"libav alone, {mode}": libav_alone(path, frames, mode) for mode in MODES}
            timed = alternating(runs, options.repeats, options.most_seconds)
            alone = {mode: timed.pop(f"libav alone, {mode}") for mode in MODES}
            rows.append({"file": kind.name, "num_frames": frames, "readers": timed, "libav_alone": alone})
            print(json.dumps(rows[-1]), flush=True)
    paths = [str(video_file(kind, Path(options.files))) for kind in MEMORY_FILES]
    memory = [row for frames in options.num_frames for row in memory_of_length(*paths, frames)]
    print(json.dumps(memory), flush=True)
    result = provenance(f"python {COMMAND}", argv) | {
        "options": vars(options),
        "missing": missing,
        "decoding": rows,
    }
    result |= {"memory_files": [kind.name for kind in MEMORY_FILES], "memory": memory}
    write_json(options.output, result)


if __name__ == "__main__":
    run_command(COMMAND, main)
