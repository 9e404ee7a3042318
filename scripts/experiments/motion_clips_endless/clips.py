"""Clips of the nine motions, composed in batches on the device that trains on them: no file, no end."""

import math
from collections.abc import Sequence

import torch

from flux_hf.scripts.experiments.motion_clips_endless.camera import film
from flux_hf.scripts.experiments.motion_clips_endless.company import add_company
from flux_hf.scripts.experiments.motion_clips_endless.dice import Dice
from flux_hf.scripts.experiments.motion_clips_endless.hands import (
    add_dials,
    cut_hands,
    draw_lengths,
    draw_tails,
    only_turning,
    which_are_hands,
)
from flux_hf.scripts.experiments.motion_clips_endless.layers import Banks, cut_pieces, draw_picture, lay_over, place
from flux_hf.scripts.experiments.motion_clips_endless.motions import LABELS, draw_swaying, draw_ways
from flux_hf.scripts.experiments.motion_clips_endless.walkers import (
    LEAN,
    add_limbs,
    cut_bodies,
    draw_heights,
    walking,
    which_walk,
)

OBJECT_SIZE = 0.008, 0.35
"""Share of the picture that the object covers in mid-clip, seen whole."""
LEAST_CONTRAST, OF_A_HAND = 25 / 255, 70 / 255
"""Mean difference between an object, or a hand, and what it hides."""
SHUTTER = 3
"""Moments of which a frame with motion blur is the mean."""


def compose(
    count: int, banks: Banks, dice: Dice, *, frames: int, side: int, often: Sequence[str] = ()
) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips in which only the motion of the object depends on the label; a third of them have a small distractor, some
    what `company.py` adds, and in some the object is a hand of `hands.py` or walks, as in `walkers.py`.

    Args:
        side: of the frames, a multiple of 16.
        often: labels that come twice as often as the others.

    Returns:
        frames (count, frames, 3, side, side) of 0 to 1, and int64 (count,) places in `LABELS`.
    """
    labels = draw_labels(count, often, dice)
    shape = _aspect(count, dice)
    hands = which_are_hands(labels, dice)
    length, covered = draw_lengths(len(hands), dice)
    walkers = which_walk(labels, hands, dice)
    height, of_bodies = draw_heights(len(walkers), dice)
    size = dice.log_uniform((count,), *OBJECT_SIZE).index_copy(0, hands, covered).index_copy(0, walkers, of_bodies)
    jitter = dice.uniform((count, 1)) * dice.uniform((count, frames), -0.5, 0.5)
    times = (torch.arange(frames, device=dice.device) + 0.5 + jitter) / frames
    background = draw_picture(count, banks, side, dice, 0.4, 1.0)
    scene = background[:, None].expand(-1, frames, -1, -1, -1)

    some = dice.some(count, 0.35)
    if len(some):
        small = (size[some] * dice.uniform((len(some),), 0.05, 0.25)).clamp(min=0.001)
        pieces, scale = cut_pieces(len(some), banks, small, side, dice)
        places = dice.uniform((len(some), 2), -0.9, 0.9) * shape[some]
        tilt, ways = dice.uniform((len(some),), 0, 2 * math.pi), draw_swaying(len(some), times[some], dice)
        scene = scene.index_copy(0, some, lay_over(place(pieces, scale, tilt, places, ways, side), scene[some]))

    radius = (size / math.pi).sqrt()
    pieces, scale = cut_pieces(count, banks, size, side, dice)
    if len(hands):
        of_hands, scale_of_hands = cut_hands(length, draw_tails(len(hands), dice), banks, side, dice)
        pieces, scale = pieces.index_copy(0, hands, of_hands), scale.index_copy(0, hands, scale_of_hands)
    if len(walkers):
        bodies, scale_of_bodies = cut_bodies(height, banks, side, dice)
        pieces, scale = pieces.index_copy(0, walkers, bodies), scale.index_copy(0, walkers, scale_of_bodies)
    places = dice.uniform((count, 2), -0.5, 0.5) * shape
    tilt = torch.where(dice.chance((count,), 0.5), 0.35, math.pi) * dice.uniform((count,), -1, 1)
    tilt = tilt.index_copy(0, hands, dice.uniform((len(hands),), 0, 2 * math.pi))
    tilt = tilt.index_copy(0, walkers, LEAN * dice.normal((len(walkers),)))
    open_for = torch.where(dice.chance((count, 1, 1), 0.2), dice.log_uniform((count, 1, 1), 0.01, 0.12), 0.0)
    moments = torch.linspace(-0.5, 0.5, SHUTTER, device=dice.device) * open_for
    all_times = (times[..., None] + moments).flatten(1)
    ways = only_turning(draw_ways(labels, radius, all_times, dice), hands, labels)
    ways, steps = walking(ways, walkers, height, all_times[walkers], dice)
    in_time = ways.at(slice(SHUTTER // 2, None, SHUTTER))
    scene = add_dials(scene, hands, labels, length, places, in_time, banks, dice)
    scene = add_company(scene, labels, walkers, size, places, in_time, times, banks, dice)
    if len(walkers):
        moments_shown = steps[:, SHUTTER // 2 :: SHUTTER]
        scene = add_limbs(scene, walkers, scale[walkers], tilt[walkers], places, in_time, moments_shown, banks, dice)
    blurred = open_for[:, 0, 0] > 0
    layer = place(pieces, scale, tilt, places, in_time, side)
    if blurred.any():
        rows = blurred.nonzero()[:, 0]
        whole = place(pieces[rows], scale[rows], tilt[rows], places[rows], ways.rows(rows), side)
        layer = layer.index_copy(0, rows, whole.unflatten(1, (frames, SHUTTER)).mean(2))
    contrast = torch.full((count,), LEAST_CONTRAST, device=dice.device).index_fill(0, hands, OF_A_HAND)
    return film(lay_over(_standing_out(layer, scene[:, frames // 2], contrast), scene), dice), labels


def draw_labels(count: int, often: Sequence[str], dice: Dice) -> torch.Tensor:
    """Places in `LABELS`, int64 (count,), those of `often` twice as often."""
    numbers = [number for number, name in enumerate(LABELS) for _ in range(1 + (name in often))]
    return torch.tensor(numbers, device=dice.device)[dice.integers((count,), len(numbers))]


def _aspect(count: int, dice: Dice) -> torch.Tensor:
    """(count, 2): how far the whole picture reaches beyond its square, the part that is seen, across and down."""
    longer = dice.uniform((count,), 1, 16 / 9)
    wide = dice.chance((count,), 0.7)
    return torch.stack((torch.where(wide, longer, 1.0), torch.where(wide, 1.0, longer)), 1)


def _standing_out(layer, behind, least):
    """The layer, lighter or darker where its object hardly differs in mid-clip from what it hides."""
    middle = layer[:, layer.shape[1] // 2]
    opacity, hidden = middle[:, 3:], behind * middle[:, 3:]
    area = opacity.sum((1, 2, 3), keepdim=True).clamp(min=1)
    contrast = (middle[:, :3] - hidden).abs().sum((1, 2, 3), keepdim=True) / (3 * area)
    lighter = torch.where(hidden.sum((1, 2, 3), keepdim=True) < 1.5 * area, 1.0, -1.0)
    shift = lighter * 2 * (least[:, None, None, None] - contrast).clamp(min=0)
    colours, opacity = layer[:, :, :3], layer[:, :, 3:]
    return torch.cat(((colours + shift[:, None] * opacity).clamp(min=0).minimum(opacity), opacity), 2)
