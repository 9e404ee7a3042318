"""Render clips of the nine motions made of photographs: make.py --pictures pictures --output_dir data/pictures.

A cut-out or a piece of a photograph moves over another photograph, filmed with noise, blur, flicker and trembling, and
encoded by one of six codecs. collect.py writes the folder of pictures. Layout: videofolder, with `metadata.jsonl` in
every split. Only the motion depends on the label. No photograph is in two splits. Clips that are there are not rendered
again.
"""

import json
import os
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from tqdm.auto import tqdm

from flux_hf.cli import run_command
from flux_hf.files import claim_folder, write_text
from flux_hf.options import parse_options
from flux_hf.processes import worker_processes
from flux_hf.scripts.experiments.motion_clips_pictures.encoding import CODECS, draw_encodings, write_clip
from flux_hf.scripts.experiments.motion_clips_pictures.filming import film
from flux_hf.scripts.experiments.motion_clips_pictures.motions import LABELS
from flux_hf.scripts.experiments.motion_clips_pictures.pictures import load_pictures
from flux_hf.scripts.experiments.motion_clips_pictures.scenes import draw_scene

SPLITS = ("train", "validation", "test")


@dataclass
class PictureClipOptions:
    pictures: str = field(metadata={"help": "Folder that collect.py wrote."})
    output_dir: str = field(metadata={"help": "Folder of the data set; may hold an unfinished run to go on with."})
    train: int = field(default=6000, metadata={"help": "Training clips."})
    validation: int = field(default=180, metadata={"help": "Validation clips."})
    test: int = field(default=900, metadata={"help": "Test clips."})
    seed: int = field(default=0, metadata={"help": "Of everything that is drawn."})
    workers: int = field(default=1, metadata={"help": "Processes."})

    def check(self):
        """Raise ValueError with one clear sentence when the options make no sense."""
        for name, least in (("train", 0), ("validation", 0), ("test", 0), ("seed", 0), ("workers", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name} must be at least {least}, got {getattr(self, name)}")


def render(options: PictureClipOptions, split: str, number: int) -> dict:
    """Render one clip, unless it is there, and return its row of metadata.jsonl."""
    label = LABELS[number % len(LABELS)]
    entropy = [options.seed, SPLITS.index(split), number]
    encodings = draw_encodings(np.random.default_rng([*entropy, 1]))
    name = f"{label}/{number:06d}{CODECS[encodings[-1].codec].suffix}"
    scene = draw_scene(np.random.default_rng([*entropy, 0]), label, load_pictures(options.pictures, split))
    path = Path(options.output_dir, split, name)
    if not path.exists():
        write_clip(path, film(np.random.default_rng([*entropy, 2]), scene), encodings, scene.frame_rate)
    return {
        "file_name": name,
        "label": label,
        "amount": round(scene.amount, 4),
        "object_size": round(scene.object_size, 4),
        "noise": round(scene.camera.noise, 2),
        "duration": round(scene.frames / scene.frame_rate, 3),
        "frame_rate": scene.frame_rate,
        "width": scene.width,
        "height": scene.height,
        "brightness": round(scene.camera.gain, 3),
        "distractor": len(scene.things) > 1,
        "codec": encodings[-1].codec,
        "quality": encodings[-1].quality,
        "codec_before": encodings[0].codec if len(encodings) > 1 else None,
    }


def make_dataset(options: PictureClipOptions) -> str:
    """Render the clips that are missing; returns a sentence about what is there.

    Raises:
        ValueError: an option is out of range, or the folder holds clips of another seed.
        FileNotFoundError: `pictures` has none of a split.
    """
    options.check()
    counts = {split: getattr(options, split) for split in SPLITS if getattr(options, split)}
    for split in counts:
        load_pictures(options.pictures, split)
    root = claim_folder(options.output_dir, {"generator": 1, "seed": options.seed}, "dataset.json")
    with (
        worker_processes(options.workers) if options.workers > 1 else nullcontext() as pool,
        tqdm(total=sum(counts.values()), unit="clip") as bar,
    ):
        for split, number in counts.items():
            rows = []
            for row in (pool.map if pool else map)(render, repeat(options), repeat(split), range(number)):
                rows.append(row)
                bar.update()
            write_text(root / split / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return f"{sum(counts.values())} clips in {root}"


def main(arguments=None):
    (options,) = parse_options(PictureClipOptions, arguments, __doc__)
    print(make_dataset(options))


if __name__ == "__main__":
    run_command("scripts/experiments/motion_clips_pictures/make.py", main)
