"""The nine motions in three dimensions: where the body is and how it is turned in every frame.

Everything is in the camera's coordinates: the camera stands at the origin, x is right, y is ahead, z is up.
"""

from dataclasses import dataclass

import numpy as np

from flux_hf.scripts.experiments.motion_clips.trajectories import LABELS

PACES = ("even", "soft", "speeding", "braking", "halting")
AHEAD = np.array([0.0, 1.0, 0.0])
_DIRECTIONS = {"moves_right": 0, "moves_up": 90, "moves_left": 180, "moves_down": 270}


@dataclass(frozen=True)
class Motion:
    """The whole way from the first frame to the last.

    Attributes:
        right, up: in short sides of the picture.
        nearer: natural log of the change of the body's scale in the picture.
        angle: turn about `axis` in radians, clockwise in the picture where positive.
        axis: unit vector (3,).
        spreading: 0 where the way nearer lies on the line of sight, 1 where it is parallel to the camera's axis.
        sway: greatest angle in radians of the swaying about `sway_axis`, `sway_cycles` times in the clip.
    """

    right: float = 0.0
    up: float = 0.0
    nearer: float = 0.0
    angle: float = 0.0
    axis: tuple = tuple(AHEAD)
    spreading: float = 0.0
    sway: float = 0.0
    sway_axis: tuple = tuple(AHEAD)
    sway_cycles: float = 0.0

    def amount(self, label):
        """What the label is about: short sides moved, |ln of the change of scale|, radians turned; 0 for still."""
        if label in _DIRECTIONS:
            return float(np.hypot(self.right, self.up))
        if label in ("approaches", "recedes"):
            return abs(self.nearer)
        return abs(self.angle)


def draw_motion(random, label, object_size):
    """The motion of a body that covers `object_size` (share) of the picture in mid-clip; side motions stay small."""
    if label not in LABELS:
        raise ValueError(f"unknown label {label!r}, expected one of {', '.join(LABELS)}")
    strength = random.random()
    side, direction, axis = random.uniform(-1, 1, 3), random.uniform(0, 2 * np.pi), near_axis(random, 25)
    sway = {
        "sway": np.radians(random.choice((0.0, random.uniform(1, 6)))),
        "sway_axis": tuple(unit(random.normal(size=3))),
        "sway_cycles": random.uniform(0.5, 3),
        "spreading": random.random(),
    }
    if label == "still":
        return Motion()
    drift = 0.06 * strength * abs(side[0]) * np.array([np.cos(direction), np.sin(direction)])
    nearer, angle = 0.08 * strength * side[1], np.radians(10) * strength * side[2]
    if label in _DIRECTIONS:
        length, angle_in_picture = _between(0.12, 0.7, strength), np.radians(_DIRECTIONS[label] + 20 * side[0])
        drift = length * np.array([np.cos(angle_in_picture), np.sin(angle_in_picture)])
    elif label in ("approaches", "recedes"):
        nearer = _between(0.25, min(np.log(3), np.log(0.6 / object_size)), strength)
        nearer = nearer if label == "approaches" else -nearer
    else:
        angle = np.radians(_between(35, 220, strength))
        angle = angle if label == "turns_clockwise" else -angle
    return Motion(float(drift[0]), float(drift[1]), float(nearer), float(angle), tuple(axis), **sway)


def share_done(num_frames, pace, pause_start, pause_end):
    """Share of the way done in each frame, 0 to 1; the pauses are shares of the clip's time."""
    time = np.clip((np.linspace(0, 1, num_frames) - pause_start) / (1 - pause_start - pause_end), 0, 1)
    if pace == "soft":
        return (1 - np.cos(np.pi * time)) / 2
    if pace == "speeding":
        return time**1.8
    if pace == "braking":
        return 1 - (1 - time) ** 1.8
    if pace == "halting":
        return np.interp(time, (0, 0.4, 0.6, 1), (0, 0.5, 0.5, 1))
    return time


def poses(motion, share, middle, short_side):
    """Positions (n, 3) and rotations (n, 3, 3) of a body that is at distance 1 in mid-way.

    Args:
        share: of the way done, for each frame.
        middle: (right, up) of the centre of the picture in mid-way, in short sides.
        short_side: length that the picture's short side has at distance 1.
    """
    offset = np.asarray(share) - 0.5
    distance = np.exp(-motion.nearer * offset)
    spread = distance**-motion.spreading
    right, up = (m * spread + way * offset for m, way in zip(middle, (motion.right, motion.up), strict=True))
    positions = np.stack([right * short_side * distance, distance, up * short_side * distance], -1)
    time = np.linspace(0, 1, len(offset))
    swaying = motion.sway * np.sin(2 * np.pi * motion.sway_cycles * time)
    turns = [
        rotation(motion.sway_axis, s) @ rotation(motion.axis, motion.angle * o)
        for s, o in zip(swaying, offset, strict=True)
    ]
    return positions, np.stack(turns)


def rotation(axis, angle):
    """Matrix (3, 3) that turns by `angle` (radians) about the unit vector `axis`, by the rule of the right hand."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def near_axis(random, degrees):
    """A unit vector within `degrees` of the camera's axis."""
    tilt, direction = np.radians(random.uniform(0, degrees)), random.uniform(0, 2 * np.pi)
    return np.array([np.sin(tilt) * np.cos(direction), np.cos(tilt), np.sin(tilt) * np.sin(direction)])


def unit(vector):
    """The vector at length 1."""
    return np.asarray(vector) / np.linalg.norm(vector)


def _between(low, high, strength):
    return low * (high / low) ** strength
