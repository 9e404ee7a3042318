"""Which moments of an episode become the frames of a clip."""

import numpy as np


def part_of_travel(travel: np.ndarray, start: float, share: float, least_frames: int) -> np.ndarray:
    """Where the frames of a clip lie in an episode. The clip shows the object on the part of its way from `start` to
    `start + share`, both shares of the whole way: evenly from the moment it leaves the one place to the moment it
    reaches the other, and no longer. A policy that does it in few steps gives a clip in slow motion.

    Args:
        travel: (steps,), how far the object has gone, never falling.
        least_frames: frames at least; else one a step.

    Returns:
        float (frames,), steps, with parts of steps.
    """
    travel = travel / travel[-1]
    leaving = np.searchsorted(travel, start, side="right")
    arriving = np.searchsorted(travel, min(start + share, 1.0))
    first, last = (
        step - 1 + (place - travel[step - 1]) / (travel[step] - travel[step - 1])
        for step, place in ((leaving, start), (max(arriving, 1), min(start + share, 1.0)))
    )
    return np.linspace(first, last, max(least_frames, round(last - first) + 1))


def at_steps(values: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """(frames, columns): rows of `values` (steps, columns), and between them on straight lines."""
    return np.stack([np.interp(steps, np.arange(len(values)), column) for column in values.T], axis=1)
