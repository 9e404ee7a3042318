"""A bank of pictures that no camera took: noise with the spectrum of photographs, dead leaves, stripes, mixtures.

Dead leaves, shapes that cover each other with sizes after a power law, have the statistics of natural pictures
(Lee, Mumford and Huang 2001); networks learn to see from them and from such noise (Baradad et al., arXiv 2106.05963).
"""

import math

import torch

from flux_hf.scripts.experiments.motion_clips_endless.dice import Dice

LEAVES = 120
SMALLEST_LEAF, LARGEST_LEAF = 0.02, 0.5
"""Radii in sides of the picture."""
CHUNK = 64


def texture_bank(count: int, side: int, dice: Dice) -> torch.Tensor:
    """(count, 3, side, side) of 0 to 1: a third noise, a third dead leaves, a sixth stripes and checks, and the rest
    mixtures of those."""
    kinds = (_noise, _leaves, _noise, _leaves, _stripes, _mixed)
    made = [kinds[place % len(kinds)](min(CHUNK, count), side, dice) for place in range(math.ceil(count / CHUNK))]
    bank = torch.cat(made)
    return bank[dice.some(len(bank), 1.0)[:count]]


def _noise(count: int, side: int, dice: Dice) -> torch.Tensor:
    """Noise whose amplitude falls with frequency to a power of 0.6 to 2, its channels alike in part."""
    frequency = torch.hypot(
        torch.fft.fftfreq(side, device=dice.device)[:, None], torch.fft.rfftfreq(side, device=dice.device)[None]
    )
    frequency[0, 0] = torch.inf
    slope = dice.uniform((count, 1, 1, 1), 0.6, 2.0)
    phase = dice.uniform((count, 3, side, side // 2 + 1), 0, 2 * math.pi)
    fields = torch.fft.irfft2(torch.polar(frequency**-slope, phase), s=(side, side))
    fields = fields / fields.std((2, 3), keepdim=True)
    brightness, colour = fields[:, :1], fields[:, 1:]
    colour = torch.stack((colour[:, 0], -0.5 * (colour[:, 0] - colour[:, 1]), -colour[:, 1]), 1)
    values = brightness + dice.uniform((count, 1, 1, 1), 0, 0.8) * colour
    return (_tone(count, dice) + dice.uniform((count, 1, 1, 1), 0.06, 0.25) * values).clamp(0, 1)


def _leaves(count: int, side: int, dice: Dice) -> torch.Tensor:
    """Ellipses and boxes, each of one colour with a slope of brightness; some pictures of large, some of small ones."""
    rows, columns = _places(side, dice)
    image = _tone(count, dice).expand(-1, -1, side, side).clone()
    palette = (_tone(count, dice)[:, None] + 0.22 * dice.normal((count, 8, 1, 1, 1))) + 0.1 * dice.normal(
        (count, 8, 3, 1, 1)
    )
    smallest = dice.log_uniform((count, 1), SMALLEST_LEAF, 0.12)
    low, high = LARGEST_LEAF**-2, smallest**-2
    radii = (low + (high - low) * dice.uniform((count, LEAVES))) ** -0.5
    for leaf in range(LEAVES):
        one = (count, 1, 1)
        angle, flat = dice.uniform(one, 0, math.pi), dice.uniform(one, 0.3, 1)
        x, y = rows - dice.uniform(one), columns - dice.uniform(one)
        along, across = x * angle.cos() + y * angle.sin(), (y * angle.cos() - x * angle.sin()) / flat
        radius = radii[:, leaf, None, None]
        inside = torch.where(
            dice.chance(one, 0.5), torch.hypot(along, across), torch.maximum(along.abs(), across.abs()) * 1.2
        )
        cover = ((radius - inside) * side + 0.5).clamp(0, 1)[:, None]
        colour = palette[torch.arange(count, device=dice.device), dice.integers((count,), 8)]
        slope = dice.uniform((count, 1, 1, 1), -0.15, 0.15) * (along / radius)[:, None]
        image += cover * (colour + slope - image)
    grain = dice.uniform((count, 1, 1, 1), 0, 0.5) * (_noise(count, side, dice) - 0.5)
    return (image + grain).clamp(0, 1)


def _stripes(count: int, side: int, dice: Dice) -> torch.Tensor:
    """Waves and checks between two colours, soft or sharp."""
    rows, columns = _places(side, dice)
    one = (count, 1, 1)
    angle = dice.uniform(one, 0, math.pi)
    along, across = rows * angle.cos() + columns * angle.sin(), columns * angle.cos() - rows * angle.sin()
    waves = torch.sin(2 * math.pi * (along * dice.log_uniform(one, 2, 20) + dice.uniform(one)))
    others = torch.sin(2 * math.pi * (across * dice.log_uniform(one, 2, 20) + dice.uniform(one)))
    waves = torch.where(dice.chance(one, 0.5), waves, waves * others) * dice.log_uniform(one, 1, 20)
    share = (0.5 + 0.5 * waves.clamp(-1, 1))[:, None]
    image = share * _tone(count, dice) + (1 - share) * _tone(count, dice)
    return (image + dice.uniform((count, 1, 1, 1), 0, 0.5) * (_noise(count, side, dice) - 0.5)).clamp(0, 1)


def _mixed(count: int, side: int, dice: Dice) -> torch.Tensor:
    """Two others, one where smooth noise is high and one where it is low."""
    field = _noise(count, side, dice).mean(1, keepdim=True)
    field = torch.nn.functional.avg_pool2d(field, 9, stride=1, padding=4, count_include_pad=False)
    share = ((field - field.mean((2, 3), keepdim=True)) * 60 + 0.5).clamp(0, 1)
    return share * _leaves(count, side, dice) + (1 - share) * _stripes(count, side, dice)


def _tone(count: int, dice: Dice) -> torch.Tensor:
    """A colour for each picture, most of them not vivid."""
    return dice.uniform((count, 1, 1, 1), 0.15, 0.85) + 0.1 * dice.normal((count, 3, 1, 1))


def _places(side: int, dice: Dice) -> tuple[torch.Tensor, torch.Tensor]:
    places = (torch.arange(side, device=dice.device) + 0.5) / side
    return places[None, :, None], places[None, None, :]
