"""From the student's pixels to the teacher's grid, and from the teacher's tokens back."""

import torch
from torch import nn


def renormalize(
    pixels: torch.Tensor, mean: list[float], std: list[float], other_mean: list[float], other_std: list[float]
) -> torch.Tensor:
    """Pixels (..., channels, height, width) normalised with `mean` and `std`, as if normalised with the others."""
    mean, std, other_mean, other_std = (
        torch.tensor(values, dtype=torch.float32, device=pixels.device)[:, None, None]
        for values in (mean, std, other_mean, other_std)
    )
    # In place: a fresh copy of all pixels for each step takes longer than the arithmetic.
    return (pixels.float() * std).add_(mean).sub_(other_mean).div_(other_std)


def resize_frames(pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(batch, frames, channels, any height, any width) -> (batch, frames, channels, height, width), bilinear with
    antialiasing."""
    if pixels.shape[-2:] == (height, width):
        return pixels
    resized = nn.functional.interpolate(pixels.flatten(0, 1), (height, width), mode="bilinear", antialias=True)
    return resized.unflatten(0, pixels.shape[:2])


def resample_frames(pixels: torch.Tensor, count: int) -> torch.Tensor:
    """(batch, frames, ...) -> (batch, count, ...): at the middle of each of `count` equal parts of the clip, the frame
    there."""
    frames = pixels.shape[1]
    if frames == count:
        return pixels
    places = ((torch.arange(count, device=pixels.device) + 0.5) * frames / count).long()
    return pixels[:, places.clamp(max=frames - 1)]


def resample_tokens(tokens: torch.Tensor, grid: tuple[int, int, int], wanted: tuple[int, int, int]) -> torch.Tensor:
    """Tokens (batch, times * rows * columns, width) of a grid, interpolated linearly in time and space to another one:
    float32 (batch, tokens of the other, width)."""
    volume = tokens.float().unflatten(1, grid).permute(0, 4, 1, 2, 3)
    if grid != wanted:
        volume = nn.functional.interpolate(volume, wanted, mode="trilinear")
    return volume.flatten(2).transpose(1, 2)
