"""A bank of silhouettes: what an object covers of its square."""

import math

import torch

from flux_hf.scripts.experiments.motion_clips_endless.dice import Dice

CHUNK = 256
FLAT = 0.15, 1.0
"""A shape across over along."""


def silhouette_bank(count: int, side: int, dice: Dice) -> torch.Tensor:
    """(count, side, side) of 0 to 1, with a soft edge and a rim of zeros: blobs, polygons, boxes and ellipses, a third
    of them with a second one grown on or cut out."""
    return torch.cat([_chunk(CHUNK, side, dice) for _ in range(math.ceil(count / CHUNK))])[:count]


def _chunk(count: int, side: int, dice: Dice) -> torch.Tensor:
    places = (torch.arange(side, device=dice.device) + 0.5) / side * 2 - 1
    y, x = places[None, :, None], places[None, None, :]
    one = (count, 1, 1)
    first = _inside(x, y, count, dice)
    shift, around = dice.uniform(one, 0.2, 0.6), dice.uniform(one, 0, 2 * math.pi)
    zoom = dice.uniform(one, 0.4, 0.8)
    second = _inside((x - shift * around.cos()) / zoom, (y - shift * around.sin()) / zoom, count, dice) * zoom
    kind = dice.uniform(one)
    inside = torch.where(
        kind < 0.2, torch.maximum(first, second), torch.where(kind < 0.33, torch.minimum(first, -second), first)
    )
    rim = 1 - torch.maximum(x.abs(), y.abs())
    return (torch.minimum(inside, rim - 4 / side) * side / 2).clamp(0, 1)


def _inside(x: torch.Tensor, y: torch.Tensor, count: int, dice: Dice) -> torch.Tensor:
    """Above zero inside a shape: about the distance to its edge."""
    one = (count, 1, 1)
    flat, angle = dice.log_uniform(one, *FLAT), dice.uniform(one, 0, 2 * math.pi)
    x, y = x * angle.cos() + y * angle.sin(), (y * angle.cos() - x * angle.sin()) / flat
    radius, direction = torch.hypot(x, y), torch.atan2(y, x)
    waves = torch.zeros_like(radius)
    for wave in range(1, 7):
        waves += 0.3 / wave**0.8 * dice.normal(one) * torch.cos(wave * direction + dice.uniform(one, 0, 2 * math.pi))
    blob = 0.6 * waves.clamp(-1, 0.45).exp() - radius
    corners = dice.integers(one, 5) + 3
    sector = 2 * math.pi / corners
    polygon = 0.75 - radius * torch.cos((direction % sector) - sector / 2) / torch.cos(sector / 2) * 0.8
    power = dice.uniform(one, 1, 8)
    box = 0.75 - (x.abs() ** power + y.abs() ** power + 1e-6) ** (1 / power)
    kind = dice.uniform(one)
    return torch.where(kind < 0.45, blob, torch.where(kind < 0.7, polygon, box))
