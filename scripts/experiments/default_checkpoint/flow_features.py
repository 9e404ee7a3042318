"""What moves in a clip, in 24 numbers: statistics of the dense optical flow between eight of its frames."""

import numpy as np

from flux_hf.data.reading import read_clip
from flux_hf.processing.frame_sampling_fluxvit import segment_middles

FRAMES = 8
SIDE = 128
LEAST_MOTION = 0.5
"""Pixels that a place must move between two frames to count as moving, beyond what the whole picture moves."""

OF_PAIR = ("right", "down", "growth", "turn", "divergence", "curl", "moving", "change")
OVER_TIME = ("mean", "most", "trend")
NAMES = tuple(f"{over} {name}" for over in OVER_TIME for name in OF_PAIR)


def clip_features(row: dict) -> np.ndarray:
    """The statistics of a row of a data set, float64 (24,), in the order of `NAMES`.

    The frames are the middles of eight segments, as grey pictures whose short side is 128 pixels; the flow is that of
    OpenCV's DIS between neighbours. Of the seven flows each statistic has its mean, its value of largest size, with its
    sign, and its last minus its first half.

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
    pairs = np.array(
        [pair_statistics(a, b, flow_of.calc(a, b, None)) for a, b in zip(grey[:-1], grey[1:], strict=True)]
    )
    most = pairs[np.abs(pairs).argmax(axis=0), np.arange(pairs.shape[1])]
    half = len(pairs) // 2
    trend = pairs[len(pairs) - half :].sum(axis=0) - pairs[:half].sum(axis=0)
    return np.concatenate([pairs.mean(axis=0), most, trend])


def pair_statistics(before: np.ndarray, after: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """What moved between two grey pictures, float64 (8,) in the order of `OF_PAIR`: the mean motion of the moving
    places, in short sides; their growth and turn about their middle, in 1 and in radians, clockwise; mean divergence
    and curl of the flow there; the share of the picture that moves; and the mean change of the pixels there, of 255.

    Args:
        flow: float32 (height, width, 2), pixels to the right and down.
    """
    flow = flow - np.median(flow, axis=(0, 1))
    weight = np.maximum(np.hypot(flow[..., 0], flow[..., 1]) - LEAST_MOTION, 0)
    total = weight.sum()
    if total == 0:
        return np.zeros(len(OF_PAIR))
    weight = weight / total

    def mean(values: np.ndarray) -> float:
        return float((weight * values).sum())

    down, right = np.indices(weight.shape, dtype=np.float32)
    mean_right, mean_down = mean(flow[..., 0]), mean(flow[..., 1])
    x, y = right - mean(right), down - mean(down)
    u, v = flow[..., 0] - mean_right, flow[..., 1] - mean_down
    inertia = mean(x * x + y * y) + 1.0  # a single pixel has none
    (u_down, u_right), (v_down, v_right) = np.gradient(flow[..., 0]), np.gradient(flow[..., 1])
    side = min(weight.shape)
    return np.array(
        [
            *(mean_right / side, mean_down / side),
            *(mean(x * u + y * v) / inertia, mean(x * v - y * u) / inertia),
            *(mean(u_right + v_down), mean(v_right - u_down)),
            float((weight > 0).mean()),
            mean(np.abs(after.astype(np.float32) - before)) / 255,
        ]
    )
