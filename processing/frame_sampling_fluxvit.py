"""Which frames of a video to look at: sparse sampling, one frame from each of equally long segments. Pure index
functions."""

import numpy as np


def repeat_evenly(total: int, num_frames: int) -> np.ndarray:
    """`num_frames` frame numbers spread over all `total` frames of a short clip, in order, each repeated about equally
    often.

    With `num_frames == total` every frame comes once; 3 frames spread over 8 places are 0 0 0 1 1 1 2 2.
    """
    _check(total, num_frames)
    return np.arange(num_frames) * total // num_frames


def segment_middles(total: int, num_frames: int, clip: int = 0, num_clips: int = 1) -> np.ndarray:
    """Frame numbers for inference: the same place in each of `num_frames` segments.

    Segments are s = (total - 1) / num_frames long; clip c of S takes frame `round(s * i) + int(s / (S + 1) * (c + 1))`
    of segment i, so that clip 0 of 1 takes the middle and S clips divide the segment evenly. This is the sampling that
    the official FluxViT evaluation uses on Kinetics-400 (4 clips) and for validation (1 clip). A clip that is not
    longer than `num_frames` is spread evenly instead (`repeat_evenly`), for every c.

    Args:
        total: number of frames in the video.
        num_frames: number of frames to take.
        clip: which of the temporal clips, from 0.
        num_clips: how many different sets of frames the evaluation takes from a video.

    Returns:
        int array (num_frames,), ascending, from 0 to `total` - 1. `segment_middles(300, 8, clip=0, num_clips=4)` is
        7, 44, 82, 119, 157, 194, 231, 269.

    Raises:
        ValueError: a count is below 1, or `clip` is not from 0 to `num_clips` - 1.
    """
    _check(total, num_frames)
    if num_clips < 1 or not 0 <= clip < num_clips:
        raise ValueError(f"clip must be from 0 to num_clips - 1, got clip={clip}, num_clips={num_clips}")
    if total <= num_frames:
        return repeat_evenly(total, num_frames)
    length = (total - 1) / num_frames
    starts = np.round(length * np.arange(num_frames)).astype(np.int64)
    return np.minimum(starts + int(length / (num_clips + 1) * (clip + 1)), total - 1)


def segment_bounds(total: int, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last frame number of each segment: two int arrays (num_frames,).

    The segments share out all frames without overlap; in a clip shorter than `num_frames` each is one repeated frame.
    """
    _check(total, num_frames)
    edges = np.arange(num_frames + 1) * total // num_frames
    return edges[:-1], np.maximum(edges[1:] - 1, edges[:-1])


def random_in_segments(total: int, num_frames: int, generator: np.random.Generator) -> np.ndarray:
    """Frame numbers for training: a random frame from each segment of `segment_bounds`.

    Returns:
        int array (num_frames,), ascending, the same for the same state of `generator`. Short clips repeat frames
        evenly.
    """
    first, last = segment_bounds(total, num_frames)
    return generator.integers(first, last, endpoint=True)


def _check(total: int, num_frames: int):
    if total < 1 or num_frames < 1:
        raise ValueError(f"a video and a sample need at least one frame, got total={total}, num_frames={num_frames}")
