"""People and other things that walk: a body with a head, and legs and arms that swing and are lifted."""

import math
from collections.abc import Iterator

import torch

from flux_hf.scripts.experiments.motion_clips_endless.dice import Dice
from flux_hf.scripts.experiments.motion_clips_endless.layers import (
    PIECE,
    Banks,
    across_a_piece,
    draw_picture,
    lay_over,
    place,
    smoothed,
)
from flux_hf.scripts.experiments.motion_clips_endless.motions import LABELS, Ways

OFTEN = 0.3
"""Share of what goes somewhere that walks."""
HEIGHT = 0.2, 1.3
"""From head to foot, in sides of the picture."""
STEPS = 0.5, 4.0
"""Pairs of steps in a clip; 8 frames cannot show more."""
SWING, LIFT = 0.6, 0.35
"""Radians that a leg swings to each side, and the share of its length that it seems to lose where it comes forward, at
most: what walks across the picture swings, what comes or goes lifts."""
SWAY = 0.03
"""Of its height that a body sways and bobs, at most."""
LEAN = 0.12
"""Radians from upright, standard deviation."""
HEAD, HIP, FOOT = -0.9, 0.05, 0.9
"""Rows of a body in its piece, in half sides from the middle."""
SHOULDER = -0.5
ARMS = 0.7
"""Share of those that have arms."""


def which_walk(labels: torch.Tensor, others: torch.Tensor, dice: Dice) -> torch.Tensor:
    """Places of the clips in which the object walks, none of `others`."""
    goes = torch.tensor([name != "still" and "turns" not in name for name in LABELS], device=labels.device)[labels]
    free = torch.ones_like(goes).index_fill(0, others, False)
    return (dice.chance((len(labels),), OFTEN) & goes & free).nonzero()[:, 0]


def draw_heights(count: int, dice: Dice) -> tuple[torch.Tensor, torch.Tensor]:
    """Heights in sides of the picture, and the shares of it that the bodies cover, about."""
    height = dice.log_uniform((count,), *HEIGHT)
    return height, 0.15 * height**2


def cut_bodies(height: torch.Tensor, banks: Banks, side: int, dice: Dice) -> tuple[torch.Tensor, torch.Tensor]:
    """Heads and trunks, as `cut_pieces` gives objects; the lower half of a piece is for legs."""
    count, one = len(height), (len(height), 1, 1)
    x, y = across_a_piece(height.device)
    head = dice.uniform(one, 0.1, 0.16)
    radius = torch.hypot(x, y - HEAD - head)
    neck = HEAD + 1.8 * head
    wide = dice.uniform(one, 0.15, 0.32)
    trunk = torch.minimum(
        wide * (1 - 0.3 * dice.uniform(one) * (y - neck)) - x.abs(), torch.minimum(y - neck, HIP + 0.1 - y)
    )
    both = torch.maximum(head - radius, trunk)
    silhouettes = (both * PIECE / 2).clamp(0, 1)[:, None]
    face = (radius < head)[:, None]
    skin = dice.uniform((count, 3, 1, 1), 0.1, 0.9)
    colours = torch.where(face, skin, _clothes(count, banks, dice))
    scale = 2 * height / (FOOT - HEAD)
    return smoothed(torch.cat((colours * silhouettes, silhouettes), 1), scale, side), scale


def walking(ways: Ways, walkers: torch.Tensor, height: torch.Tensor, times: torch.Tensor, dice: Dice):
    """The ways of all, those of the walkers with the swaying of steps, and the phases of these, (walkers, times)."""
    one = (len(walkers), 1)
    phase = 2 * math.pi * (times * dice.log_uniform(one, *STEPS) + dice.uniform(one))
    size = 2 * SWAY * height[:, None] * ways.growth[walkers].exp()
    sway, bob = (size * dice.uniform(one) * wave for wave in (phase.sin(), (2 * phase).cos()))
    return Ways(ways.x.index_add(0, walkers, sway), ways.y.index_add(0, walkers, bob), ways.growth, ways.angle), phase


def add_limbs(scene, walkers, scale, lean, places, ways: Ways, phase, banks: Banks, dice: Dice) -> torch.Tensor:
    """The scene with the legs and arms of the walkers, which go behind their bodies.

    Args:
        scene: (clips, frames, 3, side, side).
        walkers: clips in which the object walks, (walkers,); `scale`, `lean` and `phase` are of these.
        places, ways: of all clips, as `add_company` takes them.
    """
    behind = scene[walkers]
    for layer in _limbs(scale, lean, places[walkers], ways.rows(walkers), phase, banks, scene.shape[-1], dice):
        behind = lay_over(layer, behind)
    return scene.index_copy(0, walkers, behind)


def _limbs(scale, lean, places, ways: Ways, phase, banks: Banks, side: int, dice: Dice) -> Iterator[torch.Tensor]:
    count, one = len(scale), (len(scale), 1)
    swing, lift = dice.uniform(one, 0, SWING), dice.uniform(one, 0, LIFT)
    armed = dice.chance((count,), ARMS)
    for row, length, apart, opposite in ((HIP, FOOT - HIP, 0.1, 1), (SHOULDER, 0.55, 0.22, -1)):
        clothes = _clothes(count, banks, dice)
        wide = dice.uniform((count, 1, 1), 0.1, 0.24)
        long = scale * length
        pieces = _limb(clothes, wide, long, side)
        if row == SHOULDER:
            pieces = pieces * armed[:, None, None, None]
        for half in (-1, 1):
            steps = half * opposite * phase.sin()
            grown = ways.growth + torch.log1p(-lift * (1 + steps) / 2)
            right, down = half * apart * scale[:, None], row * scale[:, None]
            turned, size = lean[:, None] + ways.angle, ways.growth.exp()
            x = size * (right * turned.cos() - down * turned.sin())
            y = size * (right * turned.sin() + down * turned.cos())
            moved = Ways(ways.x + x, ways.y + y, grown, ways.angle + swing * steps)
            yield place(pieces, long, lean + math.pi / 2, places, moved, side)


def _limb(colours, wide, scale, side: int) -> torch.Tensor:
    """Bars that point to the right from the middle of their pieces to the edge."""
    x, y = across_a_piece(colours.device)
    inside = torch.minimum(wide * (1 - 0.4 * x.clamp(0, 1)) - y.abs(), torch.minimum(0.95 - x, x + wide / 2))
    silhouettes = (inside * PIECE / 2).clamp(0, 1)[:, None]
    return smoothed(torch.cat((colours * silhouettes, silhouettes), 1), scale, side)


def _clothes(count: int, banks: Banks, dice: Dice) -> torch.Tensor:
    """Half of one colour, half with a texture, (count, 3, 96, 96)."""
    plain = dice.uniform((count, 1, 1, 1)) + dice.uniform((count, 3, 1, 1), -0.25, 0.25)
    textured = draw_picture(count, banks, PIECE, dice, 0.15, 0.8)
    return torch.where(dice.chance((count, 1, 1, 1), 0.5), plain.clamp(0, 1), textured)
