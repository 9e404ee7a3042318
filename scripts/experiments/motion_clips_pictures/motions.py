"""The nine labels as changes of place, size and angle, and how they spread over the time of a clip."""

from dataclasses import dataclass

import numpy as np

WAYS = {"moves_left": (-1, 0), "moves_right": (1, 0), "moves_up": (0, -1), "moves_down": (0, 1)}
SIZES = {"approaches": 1, "recedes": -1}
TURNS = {"turns_clockwise": 1, "turns_counterclockwise": -1}
LABELS = tuple(sorted(("still", *WAYS, *SIZES, *TURNS)))

DISTANCE = 0.08, 0.7
"""Short sides of the picture."""
GROWTH = 0.2, 1.1
"""Natural log of the change of scale."""
ANGLE = 0.3, 3.3
"""Radians."""
LEAST_EDGE_PIXELS = 4
"""The edge of an object that grows or turns goes at least so far."""
COMPANION = 0.2
"""What else changes moves the object's edge by this share of the main change at most."""
STEPS = 256


@dataclass(frozen=True)
class Motion:
    """Changes from first to last frame: `x`, `y` in short sides of the picture, to the right and down; `growth`, the
    natural log of the change of scale; `turn`, radians clockwise."""

    x: float = 0.0
    y: float = 0.0
    growth: float = 0.0
    turn: float = 0.0


def draw_motion(rng: np.random.Generator, label: str, radius: float, short_side: int) -> tuple[Motion, float]:
    """A motion of this label and its amount: short sides moved, |growth| or radians turned.

    Args:
        radius: of the object in mid-clip, in short sides; small ones grow and turn no less than can be seen.
        short_side: of the picture, in pixels.
    """
    if label == "still":
        return Motion(), 0.0
    least = LEAST_EDGE_PIXELS / (radius * short_side)
    low, high = DISTANCE if label in WAYS else GROWTH if label in SIZES else ANGLE
    low = low if label in WAYS else min(max(low, least), high)
    amount = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    edge = COMPANION * (amount if label in WAYS else amount * radius)
    drift, direction = rng.uniform(0, edge), rng.uniform(-np.pi, np.pi)
    x, y = drift * np.cos(direction), drift * np.sin(direction)
    growth, turn = (rng.uniform(-1, 1) * min(edge / radius, most) for most in (0.1, 0.2))
    if rng.random() < 0.4:
        x = y = growth = turn = 0.0
    if label in WAYS:
        angle = np.arctan2(*WAYS[label][::-1]) + np.radians(rng.uniform(-18, 18))
        return Motion(amount * np.cos(angle), amount * np.sin(angle), growth, turn), amount
    if label in SIZES:
        return Motion(x, y, SIZES[label] * amount, turn), amount
    return Motion(x, y, growth, TURNS[label] * amount), amount


def draw_progress(rng: np.random.Generator) -> np.ndarray:
    """(STEPS + 1,) shares of the way done, 0 to 1, at even times of the clip: steady, swelling, speeding up, slowing
    down or jerky, with rests before, after and on the way."""
    time = (np.arange(STEPS) + 0.5) / STEPS
    kind = rng.choice(("steady", "swelling", "faster", "slower", "jerky"), p=(0.35, 0.25, 0.15, 0.15, 0.1))
    if kind == "steady":
        speed = np.ones(STEPS)
    elif kind == "swelling":
        speed = np.sin(np.pi * time) ** rng.uniform(0.5, 2)
    elif kind == "jerky":
        speed = np.interp(time, np.linspace(0, 1, 7), rng.uniform(0.15, 1, 7))
    else:
        speed = (time if kind == "faster" else 1 - time) ** rng.uniform(0.4, 1.2)
    before, after = (rng.uniform(0, 0.25) if rng.random() < 0.3 else 0.0 for _ in range(2))
    speed = np.where((time < before) | (time > 1 - after), 0, speed)
    if rng.random() < 0.2:
        start = rng.uniform(0.3, 0.5)
        speed = np.where((time > start) & (time < start + rng.uniform(0.1, 0.25)), 0, speed)
    way = np.concatenate(([0.0], np.cumsum(speed)))
    return way / way[-1]
