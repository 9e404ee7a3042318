"""Clips of the nine motions, composed in batches on the device that trains on them: no file, no end."""

import math
from dataclasses import dataclass

import torch

from flux_hf.scripts.experiments.motion_clips_endless.camera import film
from flux_hf.scripts.experiments.motion_clips_endless.dice import Dice
from flux_hf.scripts.experiments.motion_clips_endless.motions import LABELS, Ways, draw_swaying, draw_ways
from flux_hf.scripts.experiments.motion_clips_endless.shapes import silhouette_bank
from flux_hf.scripts.experiments.motion_clips_endless.textures import texture_bank

PIECE = 96
"""Pixels of the side of an object before it is placed."""
OBJECT_SIZE = 0.008, 0.35
"""Share of the picture that the object covers in mid-clip, seen whole."""
LEAST_CONTRAST = 25 / 255
"""Mean difference between an object and what it hides."""
SHUTTER = 3
"""Moments of which a frame with motion blur is the mean."""


@dataclass(frozen=True)
class Banks:
    """What clips are made of: `textures` (n, 3, side, side) and `silhouettes` (n, 96, 96), both of 0 to 1."""

    textures: torch.Tensor
    silhouettes: torch.Tensor


def make_banks(count: int, dice: Dice) -> Banks:
    """Banks of `count` textures and as many silhouettes."""
    return Banks(texture_bank(count, 192, dice), silhouette_bank(count, PIECE, dice))


def compose(count: int, banks: Banks, dice: Dice, *, frames: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips in which only the motion of the object depends on the label; a third of them have a small distractor.

    Args:
        side: of the frames, a multiple of 16.

    Returns:
        frames (count, frames, 3, side, side) of 0 to 1, and int64 (count,) places in `LABELS`.
    """
    labels = dice.integers((count,), len(LABELS))
    shape = _aspect(count, dice)
    size = dice.log_uniform((count,), *OBJECT_SIZE)
    jitter = dice.uniform((count, 1)) * dice.uniform((count, frames), -0.5, 0.5)
    times = (torch.arange(frames, device=dice.device) + 0.5 + jitter) / frames
    background = _picture(count, banks, side, dice, 0.4, 1.0)
    scene = background[:, None].expand(-1, frames, -1, -1, -1)

    some = dice.some(count, 0.35)
    if len(some):
        pieces, scale = _pieces(
            len(some), banks, (size[some] * dice.uniform((len(some),), 0.05, 0.25)).clamp(min=0.001), side, dice
        )
        places = dice.uniform((len(some), 2), -0.9, 0.9) * shape[some]
        layer = _placed(
            pieces,
            scale,
            dice.uniform((len(some),), 0, 2 * math.pi),
            places,
            draw_swaying(len(some), times[some], dice),
            side,
        )
        scene = scene.index_copy(0, some, _over(layer, scene[some]))

    radius = (size / math.pi).sqrt()
    pieces, scale = _pieces(count, banks, size, side, dice)
    places = dice.uniform((count, 2), -0.5, 0.5) * shape
    tilt = torch.where(dice.chance((count,), 0.5), 0.35, math.pi) * dice.uniform((count,), -1, 1)
    open_for = torch.where(dice.chance((count, 1, 1), 0.2), dice.log_uniform((count, 1, 1), 0.01, 0.12), 0.0)
    moments = torch.linspace(-0.5, 0.5, SHUTTER, device=dice.device) * open_for
    ways = draw_ways(labels, radius, (times[..., None] + moments).flatten(1), dice)
    blurred = open_for[:, 0, 0] > 0
    layer = _placed(pieces, scale, tilt, places, _at(ways, slice(SHUTTER // 2, None, SHUTTER)), side)
    if blurred.any():
        rows = blurred.nonzero()[:, 0]
        whole = _placed(pieces[rows], scale[rows], tilt[rows], places[rows], _rows(ways, rows), side)
        layer = layer.index_copy(0, rows, whole.unflatten(1, (frames, SHUTTER)).mean(2))
    return film(_over(_standing_out(layer, background), scene), dice), labels


def _aspect(count: int, dice: Dice) -> torch.Tensor:
    """(count, 2): how far the whole picture reaches beyond its square, the part that is seen, across and down."""
    longer = dice.uniform((count,), 1, 16 / 9)
    wide = dice.chance((count,), 0.7)
    return torch.stack((torch.where(wide, longer, 1.0), torch.where(wide, 1.0, longer)), 1)


def _picture(count: int, banks: Banks, side: int, dice: Dice, low: float, high: float) -> torch.Tensor:
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


def _pieces(count: int, banks: Banks, size: torch.Tensor, side: int, dice: Dice) -> tuple[torch.Tensor, torch.Tensor]:
    """Objects that cover `size` of the picture, (count, 4, 96, 96), colours times opacity and opacity, and what half
    the side of each is in half sides of the picture. Those that shrink are smoothed before."""
    silhouettes = banks.silhouettes[dice.integers((count,), len(banks.silhouettes))][:, None]
    colours = _picture(count, banks, PIECE, dice, 0.15, 0.8)
    pieces = torch.cat((colours * silhouettes, silhouettes), 1)
    scale = (size / silhouettes.mean((1, 2, 3)).clamp(min=0.02)).sqrt()
    levels = [pieces]
    for level in (2, 4, 8):
        small = torch.nn.functional.avg_pool2d(pieces, level)
        levels.append(torch.nn.functional.interpolate(small, size=(PIECE, PIECE), mode="bilinear"))
    level = (PIECE / (scale * side)).log2().round().clamp(0, 3).long()
    return torch.stack(levels, 1)[torch.arange(count, device=dice.device), level], scale


def _placed(pieces, scale, tilt, places, ways: Ways, side: int) -> torch.Tensor:
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


def _over(layer, scene):
    return layer[:, :, :3] + (1 - layer[:, :, 3:]) * scene


def _standing_out(layer, background):
    """The layer, lighter or darker where its object hardly differs in mid-clip from what it hides."""
    middle = layer[:, layer.shape[1] // 2]
    opacity, hidden = middle[:, 3:], background * middle[:, 3:]
    area = opacity.sum((1, 2, 3), keepdim=True).clamp(min=1)
    contrast = (middle[:, :3] - hidden).abs().sum((1, 2, 3), keepdim=True) / (3 * area)
    lighter = torch.where(hidden.sum((1, 2, 3), keepdim=True) < 1.5 * area, 1.0, -1.0)
    shift = lighter * 2 * (LEAST_CONTRAST - contrast).clamp(min=0)
    colours, opacity = layer[:, :, :3], layer[:, :, 3:]
    return torch.cat(((colours + shift[:, None] * opacity).clamp(min=0).minimum(opacity), opacity), 2)


def _at(ways: Ways, times: slice) -> Ways:
    return Ways(ways.x[:, times], ways.y[:, times], ways.growth[:, times], ways.angle[:, times])


def _rows(ways: Ways, rows: torch.Tensor) -> Ways:
    return Ways(ways.x[rows], ways.y[rows], ways.growth[rows], ways.angle[rows])
