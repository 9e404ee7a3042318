"""Hands of clocks, needles of gauges and horns of servos: long things that turn about one end or their middle, in front
of a dial or of nothing."""

import math

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

OFTEN, SELDOM = 0.3, 0.06
"""Shares of what turns, and of everything else, that are hands: a thin thing does not tell what it does."""
LENGTH = 0.15, 0.75
"""Sides of the picture from the end that rests to the tip."""
WIDTH = 0.04, 0.4
"""Of the length."""
TAIL, HORN = 0.25, 0.2
"""Of the length, at most, beyond the end that rests; and the share of those that reach as far there, too."""
TIP = 0.9
"""Where the tip is in its piece, in half sides from the middle, which is the end that rests."""
DIAL, SECOND = 0.7, 0.4
"""Shares of the hands that turn or are still which have a dial, and another hand that rests or turns less."""


def which_are_hands(labels: torch.Tensor, dice: Dice) -> torch.Tensor:
    """Places of the clips in which the object is a hand."""
    return (dice.uniform((len(labels),)) < torch.where(_turn(labels), OFTEN, SELDOM)).nonzero()[:, 0]


def draw_lengths(count: int, dice: Dice) -> tuple[torch.Tensor, torch.Tensor]:
    """Lengths in sides of the picture, and the shares of it that discs about such hands would cover."""
    length = dice.log_uniform((count,), *LENGTH)
    return length, math.pi * (length / 2) ** 2


def draw_tails(count: int, dice: Dice) -> torch.Tensor:
    """How far hands reach beyond the end that rests, in lengths."""
    short = TAIL * dice.uniform((count,)) * dice.chance((count,), 0.5)
    return torch.where(dice.chance((count,), HORN), 1.0, short)


def cut_hands(
    length: torch.Tensor, tail: torch.Tensor, banks: Banks, side: int, dice: Dice
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hands that point to the right from the middle of their pieces, as `cut_pieces` gives objects. `length` is in
    sides of the picture, `tail`, what is beyond the middle, in lengths."""
    count, one = len(length), (len(length), 1, 1)
    x, y = across_a_piece(length.device)
    width, taper = dice.log_uniform(one, *WIDTH), dice.uniform(one)
    along = x / TIP
    half = width / 2 * (1 - taper * along.abs().clamp(max=1))
    inside = torch.minimum(half - (y / TIP).abs(), torch.minimum(1 - along, along + tail[:, None, None]))
    hub = dice.uniform(one, 0.5, 2.5) * width / 2 - torch.hypot(x, y) / TIP
    silhouettes = (torch.maximum(inside, hub) * TIP * PIECE / 2).clamp(0, 1)[:, None]
    grey = dice.uniform((count, 1, 1, 1)).expand(-1, 3, -1, -1)
    plain = torch.where(dice.chance((count, 1, 1, 1), 0.6), grey, dice.uniform((count, 3, 1, 1)))
    textured = draw_picture(count, banks, PIECE, dice, 0.15, 0.8)
    colours = torch.where(dice.chance((count, 1, 1, 1), 0.7), plain, textured)
    scale = 2 * length / TIP
    return smoothed(torch.cat((colours * silhouettes, silhouettes), 1), scale, side), scale


def only_turning(ways: Ways, hands: torch.Tensor, labels: torch.Tensor) -> Ways:
    """The ways where the end of a hand that turns rests."""
    held = torch.zeros_like(labels, dtype=torch.bool).index_fill(0, hands, True) & _turn(labels)
    free = (~held).float()[:, None]
    return Ways(ways.x * free, ways.y * free, ways.growth * free, ways.angle)


def add_dials(scene, hands, labels, length, places, ways: Ways, banks: Banks, dice: Dice) -> torch.Tensor:
    """The scene with dials and second hands behind the hands that turn or are still.

    Args:
        scene: (clips, frames, 3, side, side).
        hands: clips in which the object is a hand, (hands,); `length` is of these.
        labels, places, ways: of all clips, as `add_company` takes them.
    """
    side = scene.shape[-1]
    rests = _turn(labels) | (labels == LABELS.index("still"))
    for share, draw in ((DIAL, _dial), (SECOND, _second)):
        chosen = dice.chance((len(hands),), share) & rests[hands]
        rows = hands[chosen]
        if len(rows):
            layer = draw(length[chosen], places[rows], ways.rows(rows), banks, side, dice)
            scene = scene.index_copy(0, rows, lay_over(layer, scene[rows]))
    return scene


def _dial(length, places, ways: Ways, banks: Banks, side: int, dice: Dice) -> torch.Tensor:
    """A disc, plain or with some texture, with marks near its rim."""
    count, one = len(length), (len(length), 1, 1)
    x, y = across_a_piece(length.device)
    away, direction = torch.hypot(x, y), torch.atan2(y, x)
    face = ((TIP - away) * PIECE / 2).clamp(0, 1)
    marks = dice.integers(one, 57) + 4
    marked = (torch.cos(marks * direction) > dice.uniform(one, 0.3, 0.95)) & (away > dice.uniform(one, 0.55, 0.8))
    light = dice.uniform((count, 1, 1, 1))
    plain = light + dice.uniform((count, 3, 1, 1), -0.1, 0.1)
    texture = draw_picture(count, banks, PIECE, dice, 0.3, 1.0)
    colours = torch.lerp(plain, texture, 0.5 * dice.uniform((count, 1, 1, 1)) ** 2)
    ink = torch.where(light > 0.5, 0.0, 1.0) * dice.uniform((count, 1, 1, 1), 0.6, 1) + 0.2
    colours = torch.where((marked & (away < TIP - 0.05))[:, None], ink, colours).clamp(0, 1)
    face = face.expand(count, 1, -1, -1)
    scale = 2 * length * dice.uniform((count,), 0.9, 1.7) / TIP
    still = torch.zeros_like(ways.angle)
    tilt = dice.uniform((count,), 0, 2 * math.pi)
    return place(smoothed(torch.cat((colours * face, face), 1), scale, side), scale, tilt, places,
                 Ways(still, still, still, still), side)  # fmt: skip


def _second(length, places, ways: Ways, banks: Banks, side: int, dice: Dice) -> torch.Tensor:
    """Another hand about the same end, which rests or turns at most a third as far."""
    count, one = len(length), (len(length), 1)
    length = length * dice.uniform((count,), 0.5, 1.2)
    pieces, scale = cut_hands(length, draw_tails(count, dice), banks, side, dice)
    share = dice.uniform(one, 0, 1 / 3) * dice.chance(one, 0.5)
    still = torch.zeros_like(ways.angle)
    tilt = dice.uniform((count,), 0, 2 * math.pi)
    return place(pieces, scale, tilt, places, Ways(still, still, still, ways.angle * share), side)


def _turn(labels: torch.Tensor) -> torch.Tensor:
    """Which labels say that something turns."""
    return torch.tensor(["turns" in name for name in LABELS], device=labels.device)[labels]
