"""Clips as tensors on the device that trains, and what a network sees of them."""

from dataclasses import dataclass

import torch
from torch.nn.functional import affine_grid, grid_sample

from flux_hf.data import cache_clips, load_video_dataset
from flux_hf.scripts.experiments.manipulation_clips.tasks import OPPOSITE

FRAMES, CACHED_SIZE = 16, 121
"""As the headline experiment keeps clips for a fixed grid of 8 frames of 96 pixels."""
SIZE = 96
LEAST_CROP = 0.71
"""Of the side of a clip: the smallest square that training cuts out, half its area."""
LIGHT = 0.3
"""Brightness of every colour and contrast of a clip change by up to this share in training."""
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
    corners = torch.zeros(len(frames), 2, device=frames.device)
    return _squares(_floats(frames), torch.ones(len(frames), device=frames.device), corners, size)


def random_view(frames: torch.Tensor, size: int) -> torch.Tensor:
    """What a network is trained on: of every clip a square of its own in light of its own, both the same in all frames.
    Shapes as in `whole_view`."""
    count, device = len(frames), frames.device
    side = torch.empty(count, device=device).uniform_(LEAST_CROP, 1)
    places = torch.empty(count, 2, device=device).uniform_(-1, 1) * (1 - side)[:, None]
    video = _squares(_floats(frames), side, places, size)
    contrast = torch.empty(count, 1, 1, 1, 1, device=device).uniform_(1 - LIGHT, 1 + LIGHT)
    brightness = torch.empty(count, 1, 3, 1, 1, device=device).uniform_(-LIGHT, LIGHT)
    return video * contrast + brightness


def _floats(frames: torch.Tensor) -> torch.Tensor:
    return (frames.movedim(-1, 2).float() / 255 - MEAN) / DEVIATION


def _squares(video: torch.Tensor, side: torch.Tensor, places: torch.Tensor, size: int) -> torch.Tensor:
    """Of every clip the square of `side` (clips,) around `places` (clips, 2), both in halves of the clip's side."""
    maps = torch.zeros(len(video), 2, 3, device=video.device)
    maps[:, 0, 0] = maps[:, 1, 1] = side
    maps[:, :, 2] = places
    clips, frames = video.shape[:2]
    grid = affine_grid(maps, [clips, 1, size, size], align_corners=False)
    squares = grid_sample(video.flatten(1, 2), grid, padding_mode="border", align_corners=False)
    return squares.unflatten(1, (frames, 3))
