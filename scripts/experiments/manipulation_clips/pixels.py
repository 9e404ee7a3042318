"""Clips as tensors on the device that trains, and what a network sees of them."""

from dataclasses import dataclass

import torch

from flux_hf.data import cache_clips, load_video_dataset
from flux_hf.scripts.experiments.manipulation_clips.tasks import OPPOSITE
from flux_hf.scripts.experiments.own_clips import views

FRAMES, CACHED_SIZE = 16, 121
"""As the headline experiment keeps clips for a fixed grid of 8 frames of 96 pixels."""
SIZE = 96
MEAN, DEVIATION = 0.45, 0.25


@dataclass(frozen=True)
class Clips:
    """
    Attributes:
        frames: uint8 (clips, `FRAMES`, `CACHED_SIZE`, `CACHED_SIZE`, 3), RGB, on the device that trains.
        labels: int64 (clips,), there too.
        label_names: name of every label.
    """

    frames: torch.Tensor
    labels: torch.Tensor
    label_names: list[str]

    @property
    def opposites(self) -> torch.Tensor:
        """int64 (labels,): what each label becomes when a clip is played backwards."""
        return self.labels.new_tensor([self.label_names.index(OPPOSITE[name]) for name in self.label_names])

    def backwards(self) -> "Clips":
        """All clips played backwards."""
        return Clips(self.frames.flip(1), self.opposites[self.labels], self.label_names)


def half_backwards(
    frames: torch.Tensor, labels: torch.Tensor, opposites: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of clips, about half of them, drawn, played backwards; their labels then are the opposite ones."""
    turned = torch.rand(len(frames), device=frames.device) < 0.5
    frames = torch.where(turned[:, None, None, None, None], frames.flip(1), frames)
    return frames, torch.where(turned, opposites[labels], labels)


def read_clips(data: str, split: str, cache_dir: str, device: str) -> Clips:
    """All clips of a split, decoded once into `cache_dir`.

    Raises:
        ValueError: a task has no opposite among the labels.
    """
    dataset = load_video_dataset(data, split)
    names = dataset.features["label"].names
    if alone := [name for name in names if OPPOSITE.get(name) not in names]:
        raise ValueError(f"{data}: {', '.join(alone)}: labels must be Meta-World's tasks, each with its opposite")
    cached = cache_clips(dataset, cache_dir, num_frames=FRAMES, size=CACHED_SIZE)
    frames = torch.from_numpy(cached.clips.copy()).to(device)
    return Clips(frames, torch.from_numpy(cached.labels).to(device), names)


def whole_view(frames: torch.Tensor, size: int) -> torch.Tensor:
    """What a network is tested on: uint8 (clips, frames, height, width, 3) -> float (clips, frames, 3, size, size)."""
    return views.whole_view(_floats(frames), size)


def random_view(frames: torch.Tensor, size: int) -> torch.Tensor:
    """What a network is trained on. Shapes as in `whole_view`."""
    return views.random_view(_floats(frames), size)


def _floats(frames: torch.Tensor) -> torch.Tensor:
    return (frames.movedim(-1, 2).float() / 255 - MEAN) / DEVIATION
