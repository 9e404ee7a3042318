"""Render the clips of `flux-hf classify --demo`, one of every motion, into the package: python example_clips.py"""

import dataclasses
from pathlib import Path

import flux_hf.checkpoints
from flux_hf.scripts.experiments.motion_clips.encoding import write_video
from flux_hf.scripts.experiments.motion_clips.rendering import render_frames
from flux_hf.scripts.experiments.motion_clips.specification import ClipSpec, draw_spec
from flux_hf.scripts.experiments.motion_clips.trajectories import LABELS

_SEED = 2026
_HARDNESS = 0.4
_QUALITY = 0.3


def example_spec(label: str) -> ClipSpec:
    """The clip of this label, with even sides, which H.264 wants."""
    entropy = (_SEED, LABELS.index(label))
    spec = draw_spec(label, entropy, min_hardness=_HARDNESS, max_hardness=_HARDNESS, suffix=".mp4")
    return dataclasses.replace(spec, width=spec.width // 2 * 2, height=spec.height // 2 * 2)


def render_example_clips(folder: Path) -> None:
    """Write LABEL.mp4 for every label: H.264, which every player and browser shows."""
    for label in LABELS:
        spec = example_spec(label)
        write_video(
            folder / f"{label}.mp4",
            render_frames(spec),
            suffix=".mp4",
            codec="h264",
            quality=_QUALITY,
            frame_rate=spec.frame_rate,
            width=spec.width,
            height=spec.height,
        )


if __name__ == "__main__":
    render_example_clips(Path(flux_hf.checkpoints.__file__).parent / "clips")
