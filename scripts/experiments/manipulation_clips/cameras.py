"""Where the camera of a clip stands. Test clips have sectors of their own."""

from dataclasses import dataclass

import numpy as np

TRAINING_SECTORS = ((-60, -25), (20, 60))
"""Degrees around the object, counted from the robot's right (x) towards its front (y): where cameras of training and
validation clips stand. The robot itself stands at 270."""
TEST_SECTORS = ((-20, 15),)
"""Where cameras of test clips stand."""


@dataclass(frozen=True)
class Camera:
    """
    Attributes:
        target: (3,), the point that it looks at, in metres.
        sector_angle: degrees around the target, as in the sectors.
        height_angle: degrees above the table.
        distance: metres to the target.
    """

    target: np.ndarray
    sector_angle: float
    height_angle: float
    distance: float


def draw_camera(random: np.random.Generator, split: str, target: np.ndarray) -> Camera:
    """A camera that looks at `target` (3,) more or less, from a sector of the split."""
    low, high = random.permutation(TEST_SECTORS if split == "test" else TRAINING_SECTORS)[0]
    return Camera(
        target=target + random.uniform(-0.08, 0.08, 3),
        sector_angle=random.uniform(low, high),
        height_angle=random.uniform(18, 55),
        distance=random.uniform(0.6, 1.05),
    )
