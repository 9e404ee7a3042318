"""Rendered clips of one thing moving in front of a static camera: real video files with known motion."""

from flux_hf.scripts.experiments.motion_clips.dataset import SPLITS, MotionClipOptions, make_dataset, render_clip
from flux_hf.scripts.experiments.motion_clips.trajectories import LABELS

__all__ = [
    "LABELS",
    "SPLITS",
    "MotionClipOptions",
    "make_dataset",
    "render_clip",
]
