"""Measure decoding of key frames alone: its time beside other readers, its accuracy on films of a minute; writes JSON.

python scripts/benchmarks/keyframes.py
python scripts/benchmarks/keyframes.py --quick --output keyframes.json
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.files import write_json
from flux_hf.options import parse_options

COMMAND = "scripts/benchmarks/keyframes.py"


@dataclass
class KeyFramesOptions:
    output: str = field(default="scripts/benchmarks/results/keyframes.json", metadata={"help": "JSON file to write."})
    files: str = field(default="benchmark_files", metadata={"help": "Folder for the films; made ones are kept."})
    num_frames: int = field(default=8, metadata={"help": "Frames of the grid that the film is to fill."})
    repeats: int = field(default=7, metadata={"help": "Counted runs of each reader, taking turns; 0: no times."})
    most_seconds: float = field(default=60.0, metadata={"help": "A reader takes no further turn on a film after that."})
    films: int = field(default=12, metadata={"help": "Films of each motion whose accuracy is measured; 0: none."})
    num_workers: int = field(default=2, metadata={"help": "Processes that render films."})
    checkpoint: str = field(default="default", metadata={"help": "Checkpoint whose accuracy is measured."})
    quick: bool = field(default=False, metadata={"help": "One film, three repeats, one film of each motion."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(KeyFramesOptions, argv, __doc__)
    from flux_hf.provenance import provenance
    from flux_hf.scripts.benchmarks.measuring.files import FEW_KEY_FRAMES_FILE, video_file
    from flux_hf.scripts.benchmarks.measuring.films import ENCODINGS, film_with_cuts, labelled_films
    from flux_hf.scripts.benchmarks.measuring.key_frames import accuracy_of_films, seconds_of_film

    if options.quick:
        options.repeats, options.most_seconds, options.films = 3, 8.0, min(options.films, 1)
    folder, result = Path(options.files), {"time": [], "accuracy": []}
    films = {FEW_KEY_FRAMES_FILE.name: video_file(FEW_KEY_FRAMES_FILE, folder)} if options.repeats else {}
    for encoding in ENCODINGS if options.repeats and not options.quick else []:
        films[f"{encoding.name}, 640x360 with cuts"] = film_with_cuts(encoding, folder)
    for name, path in films.items():
        row = seconds_of_film(path, options.num_frames, options.repeats, options.most_seconds)
        result["time"].append({"film": name, "num_frames": options.num_frames, **row})
        print(json.dumps(result["time"][-1]), flush=True)
    if options.films:
        labelled = labelled_films(folder / f"slow_motions_{options.films}", options.films, options.num_workers)
        for name, data in labelled.items():
            result["accuracy"].append({"films": name, **accuracy_of_films(data, options.checkpoint)})
            print(json.dumps(result["accuracy"][-1]), flush=True)
    write_json(options.output, provenance(f"python {COMMAND}", argv) | {"options": vars(options)} | result)


if __name__ == "__main__":
    run_command(COMMAND, main)
