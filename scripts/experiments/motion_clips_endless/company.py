"""What moves with an object: others at their own distances that do the same, limbs that swing, and an arm."""

import math

import torch

from flux_hf.scripts.experiments.motion_clips_endless.dice import Dice
from flux_hf.scripts.experiments.motion_clips_endless.layers import (
    PIECE,
    Banks,
    cut_pieces,
    draw_picture,
    lay_over,
    place,
)
from flux_hf.scripts.experiments.motion_clips_endless.motions import LABELS, Ways

OTHERS = 0.35, 0.2, 0.12, 0.08
"""Shares of the clips in which something goes somewhere that have one other at least, two, three, and four."""
LIMBS, ARM = 0.2, 0.12
"""Shares of the clips in which something goes somewhere, and of those in which it goes or turns."""
FURTHER = 0.9, 4.0
"""How many times as far from the camera another object is, in half of the clips; in the others it is as far."""
NEAREST = 0.25
"""Of its distance in mid-clip, at least, at any time."""
SWING = 0.1, 0.7
"""Radians."""
CYCLES = 0.5, 4.0
"""In a clip; 8 frames cannot show more."""


def add_company(scene, labels, walkers, size, places, ways: Ways, times, banks: Banks, dice: Dice) -> torch.Tensor:
    """The scene with what goes behind its objects.

    Args:
        scene: (clips, frames, 3, side, side).
        labels: places in `LABELS`, (clips,).
        walkers: clips in which the object walks, and has limbs already, (walkers,).
        size: shares of the picture that the objects cover, (clips,).
        places: of the objects in mid-clip, from the middle of the picture, in half sides, (clips, 2).
        ways: of the objects, (clips, frames).
        times: of the frames, 0 to 1, (clips, frames).
    """
    count, side = len(labels), scene.shape[-1]
    moving = torch.tensor([name != "still" for name in LABELS], device=labels.device)[labels]
    going = torch.tensor([name != "still" and "turns" not in name for name in LABELS], device=labels.device)[labels]
    free = torch.ones_like(moving).index_fill(0, walkers, False)
    crowded = dice.uniform((count,))
    limbs, arm = dice.chance((count,), LIMBS), dice.chance((count,), ARM)
    for who, draw in (
        *((going & (crowded < share), _other) for share in reversed(OTHERS)),
        (going & limbs & free, _limbs),
        (moving & arm & free, _arm),
    ):
        rows = who.nonzero()[:, 0]
        if len(rows):
            behind = scene[rows]
            for layer in draw(size[rows], places[rows], ways.rows(rows), times[rows], banks, side, dice):
                behind = lay_over(layer, behind)
            scene = scene.index_copy(0, rows, behind)
    return scene


def _other(size, places, ways, times, banks, side, dice):
    """Another object that goes the same way in space. It is to the first one as one point of a rigid scene to another:
    both come from, or go to, the same point of the picture, and what is further away does it more slowly."""
    count, one = len(size), (len(size), 1)
    further = torch.where(dice.chance(one, 0.5), 1.0, dice.log_uniform(one, *FURTHER))
    distance = (-ways.growth).exp()
    rest = _resting_points(ways, distance)
    apart = (1 - 1 / further)[..., None] * rest + dice.uniform((count, 1, 2), -1, 1) / further[..., None]
    now = (further + distance - 1).maximum(NEAREST * further)
    across = torch.stack((ways.x, ways.y), -1) * distance[..., None]
    x, y = ((apart * further[..., None] + across) / now[..., None] - apart).unbind(-1)
    cover = size * dice.log_uniform((count,), 0.2, 1.3) / further[:, 0] ** 2
    pieces, scale = cut_pieces(count, banks, cover.clamp(min=0.0005), side, dice)
    moved = Ways(x, y, (further / now).log(), ways.angle)
    yield place(pieces, scale, _any_angle(count, dice), places + apart[:, 0], moved, side)


def _resting_points(ways: Ways, distance: torch.Tensor) -> torch.Tensor:
    """Where objects with depth come from or go to, from where they are in mid-clip, (clips, 1, 2); 0 for others."""
    last = distance[:, -1:] - distance[:, :1]
    way = torch.stack((ways.x * distance, ways.y * distance), -1)
    way = way[:, -1:] - way[:, :1]
    depth = last.abs() > 0.15
    point = way / torch.where(depth, last, 1.0)[..., None]
    return point.clamp(-3, 3) * depth[..., None]


def _limbs(size, places, ways, times, banks, side, dice):
    """Two parts that swing about the object's middle against each other."""
    count, one = len(size), (len(size), 1)
    reach = 2 * (size / math.pi).sqrt()[:, None] * dice.uniform(one, 0.5, 1.1)
    from_here, width = _any_angle(count, dice)[:, None], dice.log_uniform(one, *SWING)
    phase, cycles = dice.uniform(one, 0, 2 * math.pi), dice.log_uniform(one, *CYCLES)
    swing = width * torch.sin(2 * math.pi * times * cycles + phase)
    apart = dice.uniform(one, 0, 1.5)
    for side_of_body in (-1, 1):
        pieces, scale = cut_pieces(count, banks, size * dice.log_uniform((count,), 0.12, 0.4), side, dice)
        angle = ways.angle + side_of_body * swing
        away = from_here + side_of_body * apart + angle
        far = reach * ways.growth.exp()
        moved = Ways(ways.x + far * away.cos(), ways.y + far * away.sin(), ways.growth, angle)
        yield place(pieces, scale, from_here[:, 0], places, moved, side)


def _arm(size, places, ways, times, banks, side, dice):
    """A band of one texture from the object to beyond the picture. It turns with the object, at most as far."""
    count, one = len(size), (len(size), 1)
    colours = draw_picture(count, banks, PIECE, dice, 0.15, 0.8)
    half = ((size / math.pi).sqrt() * dice.uniform((count,), 0.4, 1.6))[:, None] * ways.growth.exp()
    angle = _any_angle(count, dice)[:, None] + ways.angle * dice.uniform(one)
    across = (torch.arange(side, device=size.device) + 0.5) / side * 2 - 1
    x = (across - (places[:, :1] + ways.x)[..., None])[:, :, None, :]
    y = (across - (places[:, 1:] + ways.y)[..., None])[:, :, :, None]
    cosine, sine, half = angle.cos()[..., None, None], angle.sin()[..., None, None], half[..., None, None]
    along, off = x * cosine + y * sine, y * cosine - x * sine
    inside = (torch.minimum(half - off.abs(), along + half / 2) * side / 2).clamp(0, 1)
    grid = torch.stack((along / half, off / half), -1) / 2
    shown = (
        torch.nn.functional.grid_sample(colours, grid.flatten(1, 2), padding_mode="reflection", align_corners=False)
        .unflatten(2, (-1, side))
        .transpose(1, 2)
    )
    inside = inside[:, :, None]
    yield torch.cat((shown * inside, inside), 2)


def _any_angle(count: int, dice: Dice) -> torch.Tensor:
    return dice.uniform((count,), 0, 2 * math.pi)
