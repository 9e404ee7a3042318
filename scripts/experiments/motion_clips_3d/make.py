"""Render clips of the nine motions with bodies in space: make.py --output_dir data/motion_3d.

Videofolder layout (`train`, `validation`, `test`; a folder a label), with `metadata.jsonl` in each split: label, amount
of the motion, share of the picture that the body covers, noise. Needs `pip install mujoco==3.3.0` and a MuJoCo that
renders: MUJOCO_GL=osmesa with Debian's libosmesa6, or egl. `test` has bodies and textures that no other split has. The
splits are rendered from the smallest to the largest with the labels in turn, so a part of the set is of use. What is
there is not rendered again.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "osmesa")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from flux_hf.cli import run_command
from flux_hf.files import claim_folder, write_text
from flux_hf.options import check_at_least, parse_options
from flux_hf.scripts.experiments.motion_clips.trajectories import LABELS
from flux_hf.scripts.experiments.motion_clips_3d.specification import SPLITS, draw_spec

_GENERATOR_VERSION = 1


@dataclass
class MotionClip3dOptions:
    output_dir: str = field(metadata={"help": "Folder of the data set."})
    train: int = field(default=2700, metadata={"help": "Training clips."})
    validation: int = field(default=180, metadata={"help": "Validation clips."})
    test: int = field(default=540, metadata={"help": "Test clips, of other bodies and textures."})
    seed: int = field(default=0, metadata={"help": "Of everything that is drawn."})
    workers: int = field(default=1, metadata={"help": "Processes."})


def clip_spec(seed, split, index):
    """What the clip of this number is: a function of the three alone."""
    return draw_spec(LABELS[index % len(LABELS)], split, (seed, SPLITS.index(split), index))


def render_clips(folder, seed, split, indices):
    """Render clips to a split's folder; returns their rows of metadata."""
    from flux_hf.scripts.experiments.motion_clips.encoding import write_video
    from flux_hf.scripts.experiments.motion_clips_3d.mujoco_rendering import render

    rows = []
    for index in indices:
        spec = clip_spec(seed, split, index)
        name = f"{spec.label}/clip_{index:06d}{spec.suffix}"
        frames, covered = render(spec)
        recording = {"frame_rate": spec.frame_rate, "width": spec.width, "height": spec.height}
        write_video(folder / name, frames, suffix=spec.suffix, codec=spec.codec, quality=spec.quality, **recording)
        rows.append(
            {
                "file_name": name,
                "label": spec.label,
                "amount": round(spec.motion.amount(spec.label), 4),
                "object_size": round(covered, 4),
                "noise": round(spec.noise, 2),
                "duration": round(spec.duration, 3),
                "frame_rate": float(spec.frame_rate),
                "codec": spec.codec,
                "quality": round(spec.quality, 3),
            }
        )
    return rows


def make_dataset(options):
    """Render the clips that are missing; returns a sentence about what is there."""
    check_at_least(0, options, "train", "validation", "test", "seed")
    check_at_least(1, options, "workers")
    root = claim_folder(options.output_dir, {"generator": _GENERATOR_VERSION, "seed": options.seed}, "dataset.json")
    rendered = 0
    for split in sorted(SPLITS, key=lambda split: getattr(options, split)):
        rendered += _make_split(root / split, options.seed, split, getattr(options, split), options.workers)
    total = sum(getattr(options, split) for split in SPLITS)
    return f"{total} clips in {root}, {rendered} rendered now"


def _make_split(folder, seed, split, count, workers):
    listing = folder / "metadata.jsonl"
    rows = [json.loads(line) for line in listing.read_text().splitlines()] if listing.exists() else []
    rows = {_number(row): row for row in rows if (folder / row["file_name"]).exists()}
    missing = [index for index in range(count) if index not in rows]
    if missing:
        for label in LABELS:
            (folder / label).mkdir(parents=True, exist_ok=True)
    blocks = [missing[first : first + len(LABELS)] for first in range(0, len(missing), len(LABELS))]
    for block in _rendered(folder, seed, split, blocks, workers):
        rows |= {_number(row): row for row in block}
        write_text(listing, "".join(json.dumps(rows[number]) + "\n" for number in sorted(rows)))
    return len(missing)


def _rendered(folder, seed, split, blocks, workers):
    """Yield the rows of every block when it is rendered."""
    if workers == 1:
        yield from (render_clips(folder, seed, split, block) for block in blocks)
        return
    from concurrent.futures import as_completed

    from flux_hf.processes import worker_processes

    with worker_processes(workers) as pool:
        futures = [pool.submit(render_clips, folder, seed, split, block) for block in blocks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _number(row):
    return int(Path(row["file_name"]).stem.removeprefix("clip_"))


def main(arguments=None):
    (options,) = parse_options(MotionClip3dOptions, arguments, __doc__)
    print(make_dataset(options))


if __name__ == "__main__":
    run_command("scripts/experiments/motion_clips_3d/make.py", main)
