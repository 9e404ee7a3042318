"""What moves in a clip, in 24 numbers: statistics of the dense optical flow between eight of its frames."""

import numpy as np

from flux_hf.data.reading import read_clip
from flux_hf.processing.frame_sampling_fluxvit import segment_middles

FRAMES = 8
SIDE = 128
LEAST_MOTION = 0.25
"""Pixels that a place must move between two frames to count as moving, beyond what the whole picture moves."""

SLOWEST = 1e-4
"""Short sides between two frames; what is slower has no clear way."""

OF_PAIR = ("right", "down", "growth", "turn", "moving", "change")
OVER_TIME = ("mean", "most", "trend")
OF_CLIP = ("way right", "way down", "way growth", "way turn", "speed", "radius")
NAMES = (*(f"{over} {name}" for over in OVER_TIME for name in OF_PAIR), *OF_CLIP)


def clip_features(row: dict) -> np.ndarray:
    """The statistics of a row of a data set, float64 (24,), in the order of `NAMES`.

    The frames are the middles of eight segments, as grey pictures whose short side is 128 pixels; the flow is that of
    OpenCV's DIS between neighbours. Of the seven flows each of `OF_PAIR` has its mean, its value of largest size, with
    its sign, and its last minus its first half. `OF_CLIP` say in which way the moving places move, whatever the speed:
    how much of it is to the right, down, growth and turn, -1 to 1; that speed; and how large the moving area is.

    Raises:
        VideoDecodeError: the video cannot be read.
    """
    return flow_features(grey_frames(row))


def grey_frames(row: dict) -> np.ndarray:
    """uint8 (8, height, width), the short side 128 pixels."""
    import cv2

    frames = read_clip(row, lambda total: segment_middles(total, FRAMES), short_side=SIDE)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    height, width = grey[0].shape
    scale = SIDE / min(height, width)
    if scale == 1:
        return np.stack(grey)
    size = round(width * scale), round(height * scale)
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR) for frame in grey])


def flow_features(grey: np.ndarray) -> np.ndarray:
    """The statistics of grey frames, uint8 (frames, height, width), two at least: float64 (24,)."""
    import cv2

    flow_of = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    neighbours = zip(grey[:-1], grey[1:], strict=True)
    found = [pair_statistics(before, after, flow_of.calc(before, after, None)) for before, after in neighbours]
    pairs, radius = np.array([pair for pair, _ in found]), float(np.mean([radius for _, radius in found]))
    most = pairs[np.abs(pairs).argmax(axis=0), np.arange(pairs.shape[1])]
    half = len(pairs) // 2
    trend = pairs[len(pairs) - half :].sum(axis=0) - pairs[:half].sum(axis=0)
    mean = pairs.mean(axis=0)
    motion = mean[:4] * (1, 1, radius, radius)
    speed = np.linalg.norm(motion)
    return np.concatenate([mean, most, trend, motion / (speed + SLOWEST), [speed, radius]])


def pair_statistics(before: np.ndarray, after: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, float]:
    """What moved between two grey pictures, float64 (6,) in the order of `OF_PAIR`: the mean motion of the moving
    places, in short sides; their growth and turn about their middle, in 1 and in radians, clockwise; the share of the
    picture that moves; and the mean change of the pixels there, 0 to 1. And the radius of the moving places, the root
    of their mean squared distance from their middle, in short sides; 0 where none moves.

    Args:
        flow: float32 (height, width, 2), pixels to the right and down.
    """
    flow = flow - np.median(flow, axis=(0, 1))
    weight = np.maximum(np.hypot(flow[..., 0], flow[..., 1]) - LEAST_MOTION, 0)
    total = weight.sum()
    if total == 0:
        return np.zeros(len(OF_PAIR)), 0.0
    weight = weight / total

    def mean(values: np.ndarray) -> float:
        return float((weight * values).sum())

    down, right = np.indices(weight.shape, dtype=np.float32)
    mean_right, mean_down = mean(flow[..., 0]), mean(flow[..., 1])
    x, y = right - mean(right), down - mean(down)
    u, v = flow[..., 0] - mean_right, flow[..., 1] - mean_down
    inertia = mean(x * x + y * y) + 1.0  # a single pixel has none
    side = min(weight.shape)
    statistics = [
        *(mean_right / side, mean_down / side),
        *(mean(x * u + y * v) / inertia, mean(x * v - y * u) / inertia),
        float((weight > 0).mean()),
        mean(np.abs(after.astype(np.float32) - before)) / 255,
    ]
    return np.array(statistics), inertia**0.5 / side
