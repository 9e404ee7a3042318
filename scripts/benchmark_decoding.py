"""Measure the decoding of a few frames of short and long files, against other readers, and its memory; writes JSON."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.options import parse_options


@dataclass
class DecodingOptions:
    output: str = field(default="benchmark_decoding.json", metadata={"help": "JSON file to write."})
    files: str = field(default="benchmark_files", metadata={"help": "Folder for the videos; made ones are kept."})
    num_frames: list[int] = field(default_factory=lambda: [8, 24], metadata={"help": "Frames that are read."})
    repeats: int = field(default=7, metadata={"help": "Counted runs of each reader, taking turns."})
    most_seconds: float = field(default=60.0, metadata={"help": "A reader takes no further turn on a file after that."})
    quick: bool = field(default=False, metadata={"help": "Fewer files, 8 frames, three repeats: about three minutes."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(DecodingOptions, argv, __doc__)
    from flux_hf.benchmarking.files import FILES, MEMORY_FILES, QUICK_FILES, video_file
    from flux_hf.benchmarking.memory import memory_of_length
    from flux_hf.benchmarking.readers import MODES, available_readers, libav_alone
    from flux_hf.benchmarking.timing import alternating
    from flux_hf.provenance import provenance

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
            row = {"file": kind.name, "num_frames": frames, "readers": timed, "libav_alone": alone}
            rows.append(row | _ratios(timed, alone))
            print(json.dumps(rows[-1]), flush=True)
    paths = [str(video_file(kind, Path(options.files))) for kind in MEMORY_FILES]
    memory = {"short": MEMORY_FILES[0].name, "long": MEMORY_FILES[1].name}
    memory["rows"] = [row for frames in options.num_frames for row in memory_of_length(*paths, frames)]
    print(json.dumps(memory), flush=True)
    result = provenance("benchmark-decoding", argv) | {"options": vars(options), "missing": missing, "decoding": rows}
    result["memory"] = memory
    Path(options.output).write_text(json.dumps(result, indent=1) + "\n")


def _ratios(timed: dict, alone: dict) -> dict:
    """How many times faster our modes are than the best peer, and how many times faster libav alone is."""
    peers = {name: entry["seconds"] for name, entry in timed.items() if name not in alone and "error" not in entry}
    if not peers:
        return {}
    best = min(peers, key=peers.get)
    ratios = {"best_peer": best}
    for mode, floor in alone.items():
        if "error" not in timed[mode]:
            ratios[f"{mode}_speedup"] = peers[best] / timed[mode]["seconds"]
            ratios[f"{mode}_limit"] = peers[best] / floor["seconds"]
    return ratios


if __name__ == "__main__":
    run_command("benchmark-decoding", main)
