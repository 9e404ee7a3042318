"""Render the clips that `flux-hf classify --demo` shows, one of every motion, into flux_hf/checkpoints/clips: example_clips.py."""

import dataclasses
from pathlib import Path

from flux_hf.checkpoints import example_clips
from flux_hf.scripts.experiments.motion_clips.encoding import write_video
from flux_hf.scripts.experiments.motion_clips.rendering import render_frames
from flux_hf.scripts.experiments.motion_clips.specification import ClipSpec, draw_spec
from flux_hf.scripts.experiments.motion_clips.trajectories import LABELS

_SEED = 2026
_HARDNESS = 0.4
_QUALITY = 0.5


def example_spec(label: str) -> ClipSpec:
    """The clip of this label, with even sides, which H.264 wants."""
    entropy = (_SEED, LABELS.index(label))
    spec = draw_spec(label, entropy, min_hardness=_HARDNESS, max_hardness=_HARDNESS, suffix=".mp4")
    return dataclasses.replace(spec, width=spec.width // 2 * 2, height=spec.height // 2 * 2)


def render_example_clip(label: str, path: Path) -> None:
    """Write the clip of this label: H.264, which every player and browser can show."""
    spec = example_spec(label)
    write_video(
        path,
        render_frames(spec),
        suffix=".mp4",
        codec="h264",
        quality=_QUALITY,
        frame_rate=spec.frame_rate,
        width=spec.width,
        height=spec.height,
    )


if __name__ == "__main__":
    for label, path in example_clips().items():
        render_example_clip(label, path)
