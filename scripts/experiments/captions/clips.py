"""Clips of one coloured thing that moves, rendered as those of motion_clips are, with the sentences that are true of
them."""

import dataclasses
import json
from fractions import Fraction
from pathlib import Path

import numpy as np

from flux_hf.files import claim_folder, write_text
from flux_hf.processes import worker_processes
from flux_hf.scripts.experiments.captions.words import Facts, captions, combinations
from flux_hf.scripts.experiments.motion_clips.encoding import write_video
from flux_hf.scripts.experiments.motion_clips.rendering import render_frames
from flux_hf.scripts.experiments.motion_clips.specification import ClipSpec, draw_spec
from flux_hf.scripts.experiments.motion_clips.trajectories import Motion

OUTLINES = {"egg": ("ellipse", 1.4), "bar": ("box", 4.0), "cross": ("cross", 1.0), "arrow": ("wedge", 1.3)}
"""What is drawn: outline and how much longer than wide it is."""
RGB = {"red": (205, 40, 40), "green": (40, 160, 60), "blue": (45, 70, 205), "yellow": (225, 200, 40)}
LENGTHS = {"slowly": (0.16, 0.24), "fast": (0.48, 0.62)}
"""Length of a path in short sides of the frame; all clips last as long."""
SCALES = {"slowly": (1.3, 1.5), "fast": (2.2, 2.8)}
"""End size over start size of what comes closer."""
DEGREES = {"slowly": (60, 85), "fast": (150, 190)}
"""What is turned through."""
SIDE, FRAMES = 80, 16
SPLITS = ("train", "validation", "test")
_VERSION = 3


def make_clips(folder: str | Path, *, train: int, seed: int = 0, num_workers: int = 1) -> Path:
    """Render the data set into `folder`, with `metadata.jsonl` for each split; what is there is skipped.

    `train` clips of combinations that are not held out, in turn; `validation` has one clip of each of these, `test` one
    of each of all combinations and three more of those held out.
    """
    folder = claim_folder(folder, {"version": _VERSION, "train": train, "seed": seed}, "dataset.json")
    tasks = []
    for split, number in zip(SPLITS, range(len(SPLITS)), strict=True):
        (folder / split).mkdir(parents=True, exist_ok=True)
        rows = []
        for index, facts in enumerate(facts_of(split, train, seed)):
            entropy = (seed, number, index)
            row = {"file_name": f"{index:05d}.mp4", **facts._asdict(), "held_out": facts.held_out}
            rows.append(row | {"captions": captions(facts, np.random.default_rng([*entropy, 9]))})
            tasks.append((folder / split / row["file_name"], facts, entropy))
        write_text(folder / split / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    missing = [task for task in tasks if not task[0].exists()]
    if num_workers == 1:
        for task in missing:
            _render(task)
    else:
        with worker_processes(num_workers) as pool:
            list(pool.map(_render, missing, chunksize=16))
    return folder


def facts_of(split: str, train: int, seed: int) -> list[Facts]:
    """What the clips of a split show, in their order."""
    seen = [facts for facts in combinations() if not facts.held_out]
    if split == "validation":
        return seen
    if split == "test":
        unseen = [facts for facts in combinations() if facts.held_out]
        return [*combinations(), *unseen, *unseen, *unseen]
    rounds = [np.random.default_rng([seed, 5, turn]).permutation(len(seen)) for turn in range(-(-train // len(seen)))]
    return [seen[number] for number in np.concatenate(rounds)[:train]]


def clip_spec(facts: Facts, entropy: tuple[int, ...]) -> ClipSpec:
    """An easy clip of motion_clips with the outline, colour and path of these facts."""
    spec = draw_spec(facts.motion, entropy, min_hardness=0.0, max_hardness=0.3, max_tilt=15.0, suffix=".mp4")
    outline, aspect = OUTLINES[facts.shape]
    generator = np.random.default_rng([*entropy, 4])
    return dataclasses.replace(
        spec,
        width=SIDE,
        height=SIDE,
        frame_rate=Fraction(8),
        num_frames=FRAMES,
        codec="h264",
        quality=0.9,
        object_shape=outline,
        object_aspect=aspect,
        object_side=float(generator.uniform(0.36, 0.44)),
        object_colour=RGB[facts.colour],
        num_distractors=0,
        pause_start=0.0,
        pause_end=0.0,
        motion=_at_speed(spec.motion, facts, generator),
    )


def _at_speed(motion: Motion, facts: Facts, generator: np.random.Generator) -> Motion:
    if facts.motion in ("approaches", "recedes"):
        scale = float(np.log(generator.uniform(*SCALES[facts.speed])))
        return dataclasses.replace(motion, log_scale=scale if facts.motion == "approaches" else -scale)
    if facts.motion in ("turns_clockwise", "turns_counterclockwise"):
        angle = float(np.radians(generator.uniform(*DEGREES[facts.speed])))
        return dataclasses.replace(motion, angle=angle if facts.motion == "turns_clockwise" else -angle)
    factor = float(generator.uniform(*LENGTHS[facts.speed])) / float(np.hypot(motion.dx, motion.dy))
    return dataclasses.replace(motion, dx=motion.dx * factor, dy=motion.dy * factor)


def _render(task: tuple[Path, Facts, tuple[int, ...]]) -> None:
    path, facts, entropy = task
    spec = clip_spec(facts, entropy)
    write_video(
        path,
        render_frames(spec),
        suffix=".mp4",
        codec=spec.codec,
        quality=spec.quality,
        frame_rate=spec.frame_rate,
        width=spec.width,
        height=spec.height,
    )
