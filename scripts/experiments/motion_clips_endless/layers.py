"""Layers of clips: pictures, objects with their opacity, and objects on their ways."""

import math
from dataclasses import dataclass

import torch

from flux_hf.scripts.experiments.motion_clips_endless.dice import Dice
from flux_hf.scripts.experiments.motion_clips_endless.motions import Ways
from flux_hf.scripts.experiments.motion_clips_endless.shapes import silhouette_bank
from flux_hf.scripts.experiments.motion_clips_endless.textures import texture_bank

PIECE = 96
"""Pixels of the side of an object before it is placed."""


@dataclass(frozen=True)
class Banks:
    """What clips are made of: `textures` (n, 3, side, side) and `silhouettes` (n, 96, 96), both of 0 to 1."""

    textures: torch.Tensor
    silhouettes: torch.Tensor


def make_banks(count: int, dice: Dice) -> Banks:
    """Banks of `count` textures and as many silhouettes."""
    return Banks(texture_bank(count, 192, dice), silhouette_bank(count, PIECE, dice))


def across_a_piece(device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
    """`x` (1, 1, 96) and `y` (1, 96, 1) in a piece, in half sides from its middle."""
    places = (torch.arange(PIECE, device=device) + 0.5) / PIECE * 2 - 1
    return places[None, None, :], places[None, :, None]


def draw_picture(count: int, banks: Banks, side: int, dice: Dice, low: float, high: float) -> torch.Tensor:
    """Parts of textures, each turned or mirrored and in other colours, (count, 3, side, side)."""
    chosen = banks.textures[dice.integers((count,), len(banks.textures))]
    zoom = dice.uniform((count, 1, 1), low, high)
    angle = dice.integers((count, 1, 1), 4) * (math.pi / 2) + dice.uniform((count, 1, 1), -0.15, 0.15)
    mirrored = torch.where(dice.chance((count, 1, 1), 0.5), 1.0, -1.0)
    rows = torch.cat(
        (torch.cat((angle.cos() * mirrored, angle.sin()), 2), torch.cat((-angle.sin() * mirrored, angle.cos()), 2)), 1
    )
    shift = dice.uniform((count, 2, 1), -1, 1) * (1 - zoom)
    grid = torch.nn.functional.affine_grid(
        torch.cat((zoom * rows, shift), 2), (count, 3, side, side), align_corners=False
    )
    cut = torch.nn.functional.grid_sample(chosen, grid, padding_mode="reflection", align_corners=False)
    order = torch.stack([torch.randperm(3, device=dice.device, generator=dice.generator) for _ in range(8)])
    cut = cut.gather(1, order[dice.integers((count,), 8)][:, :, None, None].expand_as(cut))
    cut = torch.where(dice.chance((count, 1, 1, 1), 0.2), 1 - cut, cut)
    middle = cut.mean((2, 3), keepdim=True)
    contrast, light = dice.uniform((count, 1, 1, 1), 0.4, 1.3), dice.uniform((count, 1, 1, 1), -0.15, 0.15)
    return (middle + contrast * (cut - middle) + light).clamp(0, 1)


def cut_pieces(
    count: int, banks: Banks, size: torch.Tensor, side: int, dice: Dice
) -> tuple[torch.Tensor, torch.Tensor]:
    """Objects that cover `size` of the picture, (count, 4, 96, 96), colours times opacity and opacity, and what half
    the side of each is in half sides of the picture."""
    silhouettes = banks.silhouettes[dice.integers((count,), len(banks.silhouettes))][:, None]
    colours = draw_picture(count, banks, PIECE, dice, 0.15, 0.8)
    pieces = torch.cat((colours * silhouettes, silhouettes), 1)
    scale = (size / silhouettes.mean((1, 2, 3)).clamp(min=0.02)).sqrt()
    return smoothed(pieces, scale, side), scale


def smoothed(pieces: torch.Tensor, scale: torch.Tensor, side: int) -> torch.Tensor:
    """Pieces without the detail that is lost where half the side of one is `scale` half sides of the picture."""
    levels = [pieces]
    for level in (2, 4, 8):
        small = torch.nn.functional.avg_pool2d(pieces, level)
        levels.append(torch.nn.functional.interpolate(small, size=(PIECE, PIECE), mode="bilinear"))
    level = (PIECE / (scale * side)).log2().round().clamp(0, 3).long()
    return torch.stack(levels, 1)[torch.arange(len(pieces), device=pieces.device), level]


def place(pieces, scale, tilt, places, ways: Ways, side: int) -> torch.Tensor:
    """Pieces on their ways, (clips, times, 4, side, side)."""
    across = (torch.arange(side, device=pieces.device) + 0.5) / side * 2 - 1
    x = across - (places[:, 0, None] + ways.x)[..., None]
    y = across - (places[:, 1, None] + ways.y)[..., None]
    angle, size = tilt[:, None] + ways.angle, scale[:, None] * ways.growth.exp()
    cosine, sine = (angle.cos() / size)[..., None, None], (angle.sin() / size)[..., None, None]
    x, y = x[:, :, None, :], y[:, :, :, None]
    grid = torch.stack((x * cosine + y * sine, y * cosine - x * sine), -1)
    placed = torch.nn.functional.grid_sample(pieces, grid.flatten(1, 2), align_corners=False)
    return placed.unflatten(2, (-1, side)).transpose(1, 2)


def lay_over(layer: torch.Tensor, scene: torch.Tensor) -> torch.Tensor:
    """A layer (..., 4, side, side) over pictures (..., 3, side, side)."""
    return layer[:, :, :3] + (1 - layer[:, :, 3:]) * scene
