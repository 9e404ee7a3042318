"""What the CNNs see of clips, float tensors of normalized colours (clips, frames, 3, height, width)."""

import torch
from torch.nn.functional import affine_grid, grid_sample

LEAST_CROP = 0.71
"""Of the side of a clip: the smallest square that training cuts out, half its area."""
LIGHT = 0.3
"""Brightness of every colour and contrast of a clip change by up to this share in training."""


def whole_view(video: torch.Tensor, size: int) -> torch.Tensor:
    """What a network is tested on: all of every clip, `size` pixels a side."""
    corners = torch.zeros(len(video), 2, device=video.device)
    return _squares(video, torch.ones(len(video), device=video.device), corners, size)


def random_view(video: torch.Tensor, size: int) -> torch.Tensor:
    """What a network is trained on: of every clip a square of its own in light of its own, both the same in all frames;
    `size` pixels a side."""
    count, device = len(video), video.device
    side = torch.empty(count, device=device).uniform_(LEAST_CROP, 1)
    places = torch.empty(count, 2, device=device).uniform_(-1, 1) * (1 - side)[:, None]
    video = _squares(video, side, places, size)
    contrast = torch.empty(count, 1, 1, 1, 1, device=device).uniform_(1 - LIGHT, 1 + LIGHT)
    brightness = torch.empty(count, 1, 3, 1, 1, device=device).uniform_(-LIGHT, LIGHT)
    return video * contrast + brightness


def _squares(video: torch.Tensor, side: torch.Tensor, places: torch.Tensor, size: int) -> torch.Tensor:
    """Of every clip the square of `side` (clips,) around `places` (clips, 2), both in halves of the clip's side."""
    maps = torch.zeros(len(video), 2, 3, device=video.device)
    maps[:, 0, 0] = maps[:, 1, 1] = side
    maps[:, :, 2] = places
    clips, frames = video.shape[:2]
    grid = affine_grid(maps, [clips, 1, size, size], align_corners=False)
    squares = grid_sample(video.flatten(1, 2), grid, padding_mode="border", align_corners=False)
    return squares.unflatten(1, (frames, 3))
