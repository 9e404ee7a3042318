"""The labels and the paths that objects take: position, size and angle for every frame of a clip."""

import dataclasses

import numpy as np

LABELS = (
    "still",
    "moves_left",
    "moves_right",
    "moves_up",
    "moves_down",
    "approaches",
    "recedes",
    "turns_clockwise",
    "turns_counterclockwise",
)
EASINGS = ("linear", "smoothstep", "ease_in", "ease_out")
_DIRECTIONS = {"moves_right": 0.0, "moves_down": np.pi / 2, "moves_left": np.pi, "moves_up": -np.pi / 2}


@dataclasses.dataclass(frozen=True)
class Motion:
    """What changes from the first frame to the last.

    `dx`, `dy` are in short sides of the frame (right and down positive), `log_scale` is the natural log of end size
    over start size, `angle` is in radians, positive clockwise on the screen.
    """

    dx: float = 0.0
    dy: float = 0.0
    log_scale: float = 0.0
    angle: float = 0.0


@dataclasses.dataclass(frozen=True)
class Poses:
    """One value per frame: centre in short sides from the frame's centre, size factor, angle in radians."""

    x: np.ndarray
    y: np.ndarray
    scale: np.ndarray
    angle: np.ndarray


def draw_motion(rng, label, hardness):
    """The motion of the main object; hard clips may move less (the upper end is the same for all)."""
    if label == "still":
        return Motion()
    wobble_scale, wobble_angle = rng.uniform(-0.08, 0.08), rng.uniform(-1, 1) * np.radians(10)
    drift, drift_direction = rng.uniform(0, 0.06), rng.uniform(-np.pi, np.pi)
    drift_x, drift_y = drift * np.cos(drift_direction), drift * np.sin(drift_direction)
    if label in _DIRECTIONS:
        direction = _DIRECTIONS[label] + np.radians(rng.uniform(-20, 20))
        length = rng.uniform(0.5 - 0.2 * hardness, 0.65)
        return Motion(length * np.cos(direction), length * np.sin(direction), wobble_scale, wobble_angle)
    if label in ("approaches", "recedes"):
        log_scale = rng.uniform(np.log(2.2 - 0.5 * hardness), np.log(3))
        return Motion(drift_x, drift_y, log_scale if label == "approaches" else -log_scale, wobble_angle)
    angle = np.radians(rng.uniform(130 - 60 * hardness, 200))
    return Motion(drift_x, drift_y, wobble_scale, angle if label == "turns_clockwise" else -angle)


def progress(num_frames, easing, pause_start, pause_end):
    """Share of the way done in each frame, 0 to 1; the pauses are shares of the clip's time."""
    time = np.linspace(0, 1, num_frames)
    time = np.clip((time - pause_start) / (1 - pause_start - pause_end), 0, 1)
    if easing == "smoothstep":
        return time * time * (3 - 2 * time)
    if easing == "ease_in":
        return time**1.7
    if easing == "ease_out":
        return 1 - (1 - time) ** 1.7
    return time


def main_poses(motion, share, middle_x, middle_y):
    """Poses along the path whose middle is (middle_x, middle_y) at size 1 and angle 0."""
    offset = np.asarray(share) - 0.5
    return Poses(
        middle_x + motion.dx * offset,
        middle_y + motion.dy * offset,
        np.exp(motion.log_scale * offset),
        motion.angle * offset,
    )


def distractor_poses(rng, num_frames, duration, half_width, half_height, hardness):
    """Poses of a small distractor that drifts, jitters or crosses the frame; extents in short sides, duration in s."""
    time = np.linspace(0, 1, num_frames)
    x, y = rng.uniform(-0.9, 0.9) * half_width, rng.uniform(-0.9, 0.9) * half_height
    direction = rng.uniform(-np.pi, np.pi)
    kind = rng.choice(("rest", "drift", "jitter", "cross"), p=(0.15, 0.35, 0.3, 0.2))
    angle = np.zeros(num_frames)
    if kind == "drift":
        length = rng.uniform(0.05, 0.1 + 0.25 * hardness)
        x, y = x + length * np.cos(direction) * (time - 0.5), y + length * np.sin(direction) * (time - 0.5)
        angle = rng.uniform(-1, 1) * hardness * time
    elif kind == "jitter":
        size = rng.uniform(0.01, 0.02 + 0.05 * hardness)
        cycles = duration * rng.uniform(0.3, 1.5, 2)
        phases = rng.uniform(0, 2 * np.pi, 2)
        x = x + size * np.sin(2 * np.pi * cycles[0] * time + phases[0])
        y = y + size * np.sin(2 * np.pi * cycles[1] * time + phases[1])
        angle = rng.uniform(0, 0.6) * hardness * np.sin(2 * np.pi * cycles[1] * time)
    elif kind == "cross":
        length = rng.uniform(0.5, 0.8 + 0.8 * hardness)
        x, y = x + length * np.cos(direction) * (time - 0.5), y + length * np.sin(direction) * (time - 0.5)
    return Poses(np.broadcast_to(x, num_frames), np.broadcast_to(y, num_frames), np.ones(num_frames), angle)
