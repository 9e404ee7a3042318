"""The ways of many objects at once: place, size and angle for every frame."""

import math
from dataclasses import dataclass

import torch

from flux_hf.scripts.experiments.motion_clips.trajectories import LABELS as NAMES
from flux_hf.scripts.experiments.motion_clips_endless.dice import Dice

LABELS = tuple(sorted(NAMES))

DISTANCE = 0.06, 0.8
"""Sides of the picture."""
GROWTH = 0.16, 1.2
"""Natural log of the change of size."""
ANGLE = 0.25, 3.5
"""Radians."""
LEAST_EDGE = 0.025
"""The edge of an object that grows or turns goes at least so many sides of the picture."""
COMPANION = 0.2
"""What else changes moves the edge by this share of the main change at most."""
ALONG_A_LINE = 0.7
"""Share of what approaches or recedes and does not stay in its place."""
REST = 0.05, 1.5
"""Sides of the picture from such an object to the point that rests."""
REST_FOR_GROWTH = 2.5
"""That distance at most for a `GROWTH` of 1: what hardly grows does not go far either."""
LONGEST = 1.0
"""Sides of the picture that what grows goes in all."""
PIVOT = 1.0
"""Radii of an object from its middle to the point about which it turns."""
SWELLS, MOST_SWELLING = 0.35, 0.25
"""Growth at most of what moves, for each side of the picture that it goes, and in all: what passes by comes a little
nearer, too."""
STEPS = 64


@dataclass(frozen=True)
class Ways:
    """Each (clips, times): `x`, `y` from the middle of the picture, in half sides, to the right and down; `growth`, the
    natural log of the size; `angle`, radians clockwise."""

    x: torch.Tensor
    y: torch.Tensor
    growth: torch.Tensor
    angle: torch.Tensor

    def at(self, times: slice) -> "Ways":
        return Ways(self.x[:, times], self.y[:, times], self.growth[:, times], self.angle[:, times])

    def rows(self, clips: torch.Tensor) -> "Ways":
        return Ways(self.x[clips], self.y[clips], self.growth[clips], self.angle[clips])


def draw_ways(labels: torch.Tensor, radius: torch.Tensor, times: torch.Tensor, dice: Dice) -> Ways:
    """The ways of objects around the middle and size of their clips.

    Args:
        labels: places in `LABELS`, (clips,).
        radius: of the objects in mid-clip, in sides of the picture, (clips,).
        times: of the frames, 0 to 1, (clips, times).
    """
    count = len(labels)
    unit = _units(labels)
    least = LEAST_EDGE / radius
    moved = dice.log_uniform((count,), *DISTANCE)
    grown = _between(dice.uniform((count,)), least, *GROWTH)
    turned = _between(dice.uniform((count,)), least, *ANGLE)
    tilt = dice.uniform((count,), -0.33, 0.33)
    cosine, sine = tilt.cos(), tilt.sin()
    x, y = moved * (unit[:, 0] * cosine - unit[:, 1] * sine), moved * (unit[:, 0] * sine + unit[:, 1] * cosine)
    growth, turn = grown * unit[:, 2], turned * unit[:, 3]

    edge = COMPANION * torch.stack((moved, grown * radius, turned * radius), 1)
    kinds = torch.stack((unit[:, :2].abs().sum(1), unit[:, 2].abs(), unit[:, 3].abs()), 1)  # all zero for `still`
    edge = (edge * kinds).sum(1) * dice.chance((count,), 0.6)
    drift, direction = edge * dice.uniform((count,)), dice.uniform((count,), 0, 2 * math.pi)
    drift = drift * (1 - kinds[:, 0])
    x, y = x + drift * direction.cos(), y + drift * direction.sin()
    swells = torch.where(kinds[:, 0] > 0, (SWELLS * moved).clamp(max=MOST_SWELLING), 0.1)
    growth = growth + dice.uniform((count,), -1, 1) * (edge / radius).minimum(swells) * (1 - kinds[:, 1])
    turn = turn + dice.uniform((count,), -1, 1) * (edge / radius).clamp(max=0.2) * (1 - kinds[:, 2])

    way = progress(times, dice)
    share = way - 0.5
    ways = Ways(*(value[:, None] * share for value in (2 * x, 2 * y, growth, turn)))
    return _about_a_pivot(_along_a_line(ways, way, growth, kinds[:, 1], dice), radius, kinds[:, 2], dice)


def _along_a_line(ways: Ways, way: torch.Tensor, growth: torch.Tensor, depth: torch.Tensor, dice: Dice) -> Ways:
    """Of what approaches or recedes, most goes along a line that the camera does not look along, as a car on a road:
    one point of the picture rests, and the object leaves it as fast as it grows. Half at an even speed in space, so
    that it grows faster the nearer it is."""
    count = len(depth)
    even = (dice.chance((count,), 0.5) & (depth > 0))[:, None]

    def grown(way: torch.Tensor) -> torch.Tensor:
        return torch.where(even, -torch.log(1 - way * (1 - torch.exp(-growth))[:, None]), growth[:, None] * way)

    middle = grown(torch.full_like(growth, 0.5)[:, None])
    first, last = ((grown(torch.full_like(middle, end)) - middle).exp()[:, 0] for end in (0, 1))
    size = grown(way) - middle
    reach = dice.uniform((count,), *REST).minimum(REST_FOR_GROWTH * growth.abs())
    reach = reach.minimum(LONGEST / (last - first).abs())
    reach = reach * (dice.chance((count,), ALONG_A_LINE) & (depth > 0))
    downwards = math.pi / 2 + dice.uniform((count,), -0.7, 0.7)
    direction = torch.where(dice.chance((count,), 0.4), downwards, dice.uniform((count,), 0, 2 * math.pi))
    left = 2 * reach[:, None] * (size.exp() - 1)
    x, y = ways.x + direction.cos()[:, None] * left, ways.y + direction.sin()[:, None] * left
    return Ways(x, y, size, ways.angle)


def _about_a_pivot(ways: Ways, radius: torch.Tensor, turning: torch.Tensor, dice: Dice) -> Ways:
    """A third of what turns does so about a point that is not its middle, as what a hand holds."""
    count = len(turning)
    away = 2 * radius * dice.uniform((count,), 0, PIVOT) * (dice.chance((count,), 0.35) & (turning > 0))
    where = dice.uniform((count, 1), 0, 2 * math.pi)
    x = away[:, None] * ((where + ways.angle).cos() - where.cos())
    y = away[:, None] * ((where + ways.angle).sin() - where.sin())
    return Ways(ways.x + x, ways.y + y, ways.growth, ways.angle)


def draw_swaying(count: int, times: torch.Tensor, dice: Dice) -> Ways:
    """Ways of distractors, which sway or drift by less than any object moves."""
    one = (count, 1)
    reach, direction = dice.uniform(one, 0.1, 0.5) * DISTANCE[0] * 2, dice.uniform(one, 0, 2 * math.pi)
    sways = torch.sin(2 * math.pi * (times * dice.uniform(one, 0.3, 6) + dice.uniform(one))) / 2
    way = reach * torch.where(dice.chance(one, 0.5), sways, times - 0.5)
    still = torch.zeros_like(way)
    return Ways(way * direction.cos(), way * direction.sin(), still, still)


def progress(times: torch.Tensor, dice: Dice) -> torch.Tensor:
    """Shares of the way done at `times` (clips, times): steady, swelling, faster, slower or jerky, with rests before,
    after and on the way."""
    count = len(times)
    one = (count, 1)
    time = ((torch.arange(STEPS, device=dice.device) + 0.5) / STEPS).expand(count, -1)
    kind, power = dice.uniform(one), dice.uniform(one, 0.4, 1.4)
    jerks = torch.nn.functional.interpolate(
        dice.uniform((count, 1, 7), 0.1, 1), STEPS, mode="linear", align_corners=True
    )[:, 0]
    speed = torch.ones_like(time)
    for below, other in (
        (0.65, torch.sin(math.pi * time) ** power),
        (0.4, time**power),
        (0.25, (1 - time) ** power),
        (0.1, jerks),
    ):
        speed = torch.where(kind < below, other, speed)
    before, after = (dice.uniform(one, 0, 0.25) * dice.chance(one, 0.3) for _ in range(2))
    rest, length = dice.uniform(one, 0.3, 0.5), dice.uniform(one, 0.1, 0.25) * dice.chance(one, 0.2)
    moves = (time >= before) & (time <= 1 - after) & ~((time > rest) & (time < rest + length))
    way = torch.cat((torch.zeros(one, device=dice.device), (speed * moves).cumsum(1)), 1)
    way = way / way[:, -1:]
    place = times.clamp(0, 1) * STEPS
    low = place.floor().long().clamp(max=STEPS - 1)
    below, above = way.gather(1, low), way.gather(1, low + 1)
    return below + (place - low) * (above - below)


def _units(labels: torch.Tensor) -> torch.Tensor:
    """(clips, 4): the signs of the changes of x, y, size and angle."""
    signs = {
        "moves_right": (1, 0, 0, 0),
        "moves_left": (-1, 0, 0, 0),
        "moves_down": (0, 1, 0, 0),
        "moves_up": (0, -1, 0, 0),
        "approaches": (0, 0, 1, 0),
        "recedes": (0, 0, -1, 0),
        "turns_clockwise": (0, 0, 0, 1),
        "turns_counterclockwise": (0, 0, 0, -1),
        "still": (0, 0, 0, 0),
    }
    return torch.tensor([signs[name] for name in LABELS], dtype=torch.float32, device=labels.device)[labels]


def _between(share: torch.Tensor, least: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Log-uniform from `low` to `high`, but from `least` on."""
    low = least.clamp(low, high).log()
    return (low + share * (math.log(high) - low)).exp()
