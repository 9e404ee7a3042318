"""Render videos of Meta-World tasks that undo each other: make.py --output_dir data/manipulation.

28 tasks in 14 pairs, in videofolder layout (`train`, `validation`, `test`; a folder a task), with `clips.jsonl` beside
them. Needs `pip install metaworld==3.1.1 mujoco==3.3.0` and a MuJoCo that renders: MUJOCO_GL=osmesa with Debian's
libosmesa6, or egl. A clip shows a part of the object's way, not its whole, and every second clip of a task is a clip of
its opposite played backwards, so that both tasks of a pair show the same pictures and only their order tells them
apart. Splits have their own episodes; the cameras of `test` stand where no other camera does. What is there is not
rendered again.
"""

import json
import os
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "osmesa")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from flux_hf.cli import run_command
from flux_hf.files import whole_file
from flux_hf.options import parse_options
from flux_hf.scripts.experiments.manipulation_clips.cameras import draw_camera
from flux_hf.scripts.experiments.manipulation_clips.frames import at_steps, part_of_travel
from flux_hf.scripts.experiments.manipulation_clips.tasks import OPPOSITE, TASKS

SIZE = 176
FRAME_RATE = 20
LEAST_FRAMES = 16
SHARES = (0.2, 0.35)
"""Of its whole way, the part that an object goes in a clip. A larger part shows more, and more often begins or ends
where only one of the two tasks does."""
LEAST_START = 0.03
"""Before this part of its way an object may only be settling."""
SPLITS = ("train", "validation", "test")
TRIES = 40


@dataclass
class ManipulationClipOptions:
    output_dir: str = field(metadata={"help": "Folder of the data set."})
    train: int = field(default=100, metadata={"help": "Training clips a task."})
    validation: int = field(default=10, metadata={"help": "Validation clips a task, from cameras as in training."})
    test: int = field(default=20, metadata={"help": "Test clips a task, from other cameras."})
    tasks: list[str] = field(default_factory=lambda: list(TASKS), metadata={"help": "Tasks to render."})
    seed: int = field(default=0, metadata={"help": "Of everything that is drawn."})
    workers: int = field(default=2, metadata={"help": "Processes."})


@dataclass(frozen=True)
class Clip:
    """What one clip is to be; its pixels follow from it.

    Attributes:
        played: task that the robot does; `label`, or its opposite where the clip runs backwards.
        number: in its split and task, from 0.
    """

    path: Path
    split: str
    label: str
    number: int
    seed: int

    @property
    def backwards(self) -> bool:
        return self.number % 2 == 1

    @property
    def played(self) -> str:
        return OPPOSITE[self.label] if self.backwards else self.label


def clips_of(options: ManipulationClipOptions) -> list[Clip]:
    """All clips of the data set, every task in every split."""
    unknown = sorted(set(options.tasks) - set(TASKS))
    if unknown:
        raise ValueError(f"--tasks: {', '.join(unknown)} is none of {', '.join(TASKS)}")
    return [
        Clip(Path(options.output_dir) / split / label / f"{label}_{number:03d}.mp4", split, label, number, options.seed)
        for split in SPLITS
        for label in options.tasks
        for number in range(getattr(options, split))
    ]


def render(clip: Clip) -> dict:
    """Render one clip to its file and say what is in it. Tries other episodes while the policy fails.

    Raises:
        RuntimeError: `TRIES` episodes failed.
    """
    import mujoco

    from flux_hf.scripts.experiments.manipulation_clips.episodes import FailedEpisodeError, play
    from flux_hf.scripts.experiments.manipulation_clips.scenes import dress, free_camera, scene_options
    from flux_hf.scripts.experiments.motion_clips.encoding import write_video

    random = np.random.default_rng([clip.seed, SPLITS.index(clip.split), TASKS.index(clip.label), clip.number])
    for _ in range(TRIES):
        try:
            episode = play(clip.played, int(random.integers(2**31)), random.uniform(0, 0.15))
            break
        except FailedEpisodeError as error:
            reason = error
    else:
        raise RuntimeError(f"{TRIES} episodes of {clip.played} failed, at last: {reason}")
    share = random.uniform(*SHARES)
    steps = part_of_travel(episode.travel, random.uniform(LEAST_START, 1 - share), share, LEAST_FRAMES)
    dress(episode.model, random)
    camera = draw_camera(random, clip.split, at_steps(episode.objects, steps).mean(0))
    data, frames = mujoco.MjData(episode.model), []
    with mujoco.Renderer(episode.model, SIZE, SIZE) as renderer:
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            renderer.scene.flags[flag] = False
        for joints in at_steps(episode.joints, steps):
            data.qpos[:] = joints
            mujoco.mj_forward(episode.model, data)
            renderer.update_scene(data, free_camera(camera), scene_options())
            frames.append(renderer.render())
    if clip.backwards:
        frames.reverse()
    clip.path.parent.mkdir(parents=True, exist_ok=True)
    quality = {"codec": "h264", "quality": random.uniform(0.2, 1.0), "suffix": ".mp4"}
    write_video(clip.path, frames, frame_rate=FRAME_RATE, width=SIZE, height=SIZE, **quality)
    return {
        "file": str(clip.path.relative_to(clip.path.parents[2])),
        "label": clip.label,
        "played": clip.played,
        "backwards": clip.backwards,
        "frames": len(frames),
        "travel": round(float(share * episode.travel[-1]), 3),
        "camera": [round(float(value), 1) for value in (camera.sector_angle, camera.height_angle, camera.distance)],
    }


def make_dataset(options: ManipulationClipOptions) -> str:
    """Render the clips that are missing; returns a sentence about what is there."""
    clips, listing = clips_of(options), Path(options.output_dir) / "clips.jsonl"
    known = {}
    if listing.exists():
        known = {row["file"]: row for row in map(json.loads, listing.read_text().splitlines())}
    missing = [c for c in clips if not (c.path.exists() and str(c.path.relative_to(options.output_dir)) in known)]
    listing.parent.mkdir(parents=True, exist_ok=True)
    with get_context("spawn").Pool(options.workers) as pool, listing.open("a") as rows:
        for row in pool.imap_unordered(render, missing):
            known[row["file"]] = row
            rows.write(json.dumps(row) + "\n")
            rows.flush()
    with whole_file(listing) as partial:
        Path(partial).write_text("".join(json.dumps(known[name]) + "\n" for name in sorted(known)))
    return f"{len(clips)} clips of {len(options.tasks)} tasks in {options.output_dir}, {len(missing)} rendered now"


def main(arguments=None):
    (options,) = parse_options(ManipulationClipOptions, arguments, __doc__)
    print(make_dataset(options))


if __name__ == "__main__":
    run_command("scripts/experiments/manipulation_clips/make.py", main)
