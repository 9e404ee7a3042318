"""Which frames of a video to look at: sparse sampling, one frame from each of equally long segments. Pure index
functions."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter

import numpy as np
from transformers.video_utils import VideoMetadata

from .video_source_fluxvit import VideoDecodeError, source_name

DECODING_MODES = ("fast", "exact", "keyframes")
"""Which frame of a segment inference takes: the middle one unless another is much cheaper; always the middle one; or a
key frame, with as few segments as that takes."""

FEWEST_KEY_FRAMES = 4
"""Below that many key frames, evenly spread, a film is read as with "fast": training draws no fewer frames by default,
and they show too little of what moves."""

FILE_COST, FRAME_COST = 20, 4
"""What opening a video and what taking one frame of it cost beside decoding, in decoded frames."""

SHIFT_PRICE = 3
"""How much dearer than the cheapest a read may become, as a share, for frames that are a whole segment nearer to the
middles, in the mean. Half a segment is the most there is: a read costs at most 2.5 times what the cheapest costs."""


@dataclass
class SeekableMetadata(VideoMetadata):
    """What a function that chooses frames is told, and what `read_video` returns.

    Attributes:
        key_frames: ascending numbers of the frames at which decoding can start; empty where the file says nothing of
            them and is read from its beginning.
        damaged_frames: ascending numbers of the frames that are known to be damaged or missing. They are found out by
            decoding: frames that nobody asked for are not looked at.
        replaced_frames: how many of the frames that were chosen first turned out to be damaged, so that others were
            chosen.
    """

    key_frames: list[int] = field(default_factory=list)
    damaged_frames: list[int] = field(default_factory=list)
    replaced_frames: int = 0


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
    _check_clip(clip, num_clips)
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


def middles_unless_cheaper(total: int, num_frames: int, key_frames: Sequence[int]) -> np.ndarray:
    """Frame numbers for inference: `segment_middles`, unless other frames of the segments are much cheaper to read.

    A video decodes from a key frame on: what is decoded between a key frame and the next goes from that key frame to
    the last of the wanted frames. In each segment the choice is between its middle, the key frame in it that is nearest
    to the middle, and its first frame. Of all choices the one is taken where

        cost + SHIFT_PRICE * cost of the cheapest choice * mean distance from the middles, in segments

    is least; cost = FILE_COST + FRAME_COST * num_frames + frames to decode. So a frame that lies between others of one
    run is a middle, for moving it saves nothing, and the choice costs no more than 2.5 times the cheapest.

    Args:
        total, num_frames: as of `segment_middles`; a clip that is not longer than `num_frames` is spread evenly.
        key_frames: ascending numbers of the frames at which decoding can start; the last one before the first frame of
            the video counts where it is part of a longer one (negative). Without any, decoding starts at frame 0.

    Returns:
        int array (num_frames,), ascending. `middles_unless_cheaper(300, 4, [0, 100])` is 37, 112, 187, 261, which are
        the middles; with a key frame every 30 frames it is 30, 120, 180, 270.

    Raises:
        ValueError: a count is below 1.
    """
    if total <= num_frames:
        return repeat_evenly(total, num_frames)
    first, last = segment_bounds(total, num_frames)
    middles = segment_middles(total, num_frames)
    nearest = _nearest_key_frames(middles, first, last, key_frames, otherwise=middles)
    choices = np.stack([middles, nearest, first])
    cheapest = FILE_COST + FRAME_COST * num_frames + _least(choices, key_frames, price=0)[0]
    return _least(choices, key_frames, price=SHIFT_PRICE * cheapest / total)[1]


def key_frame_of_each_segment(metadata, num_frames: int) -> np.ndarray | None:
    """Of each of `num_frames` segments (`segment_bounds`) the key frame that is nearest to the middle, the earlier of
    two: int array (num_frames,), ascending; None where a segment has none that is intact, and where `metadata` has no
    `key_frames`. `key_frame_of_each_segment` of 1500 frames with a key frame every 250, and 6 segments, is 0, 250, 500,
    750, 1000, 1250; with 8 segments it is None."""
    keys = np.setdiff1d(getattr(metadata, "key_frames", []), getattr(metadata, "damaged_frames", []))
    if not keys.size:
        return None
    first, last = segment_bounds(metadata.total_num_frames, num_frames)
    middles = segment_middles(metadata.total_num_frames, num_frames)
    taken = _nearest_key_frames(middles, first, last, keys, otherwise=np.full_like(middles, -1))
    return None if (taken < 0).any() else taken


def segments_with_key_frames(metadata, most: int, tubelet_size: int = 1) -> int | None:
    """The largest number of segments, `most` or fewer, all of which hold an intact key frame: `most` or an even number
    of tubelets, and `FEWEST_KEY_FRAMES` or more. None where there is no such number.

    Args:
        metadata: of the video, or of the part of it that counts; see `SeekableMetadata`.
        most: frames of the grid.
        tubelet_size: frames in a token.
    """
    step = 2 * tubelet_size
    for count in (most, *range((most - 1) // step * step, 0, -step)):
        if count >= FEWEST_KEY_FRAMES and key_frame_of_each_segment(metadata, count) is not None:
            return count
    return None


def sample_segments(metadata, num_frames: int, decoding: str) -> np.ndarray:
    """One frame of each of `num_frames` segments.

    With `decoding` "keyframes" `key_frame_of_each_segment`, if it has `FEWEST_KEY_FRAMES` or more. With it otherwise,
    and with "fast", `middles_unless_cheaper` where `metadata` has `key_frames`. Else `segment_middles`. Of the last two
    `intact_frames`.
    """
    if decoding == "keyframes" and num_frames >= FEWEST_KEY_FRAMES:
        taken = key_frame_of_each_segment(metadata, num_frames)
        if taken is not None:
            return taken
    key_frames = getattr(metadata, "key_frames", None)
    if decoding == "exact" or key_frames is None:
        return intact_frames(segment_middles(metadata.total_num_frames, num_frames), metadata)
    return intact_frames(middles_unless_cheaper(metadata.total_num_frames, num_frames, key_frames), metadata)


def intact_frames(numbers: np.ndarray, metadata) -> np.ndarray:
    """Frame numbers (num_frames,), one of each segment, with those in `damaged_frames` of `metadata`, where it has any,
    replaced by the nearest intact frame of their segment, the earlier of two; unless the whole segment is damaged."""
    damaged = np.isin(numbers, getattr(metadata, "damaged_frames", []))
    taken = np.array(numbers)
    first, last = segment_bounds(metadata.total_num_frames, len(numbers))
    for place in np.flatnonzero(damaged):
        intact = np.setdiff1d(np.arange(first[place], last[place] + 1), metadata.damaged_frames)
        if intact.size:
            taken[place] = intact[np.argmin(abs(intact - taken[place]))]
    return taken


def random_in_segments(total: int, num_frames: int, generator: np.random.Generator) -> np.ndarray:
    """Frame numbers for training: a random frame from each segment of `segment_bounds`.

    Returns:
        int array (num_frames,), ascending, the same for the same state of `generator`. Short clips repeat frames
        evenly.
    """
    first, last = segment_bounds(total, num_frames)
    return generator.integers(first, last, endpoint=True)


def random_in_part(total: int, num_frames: int, generator: np.random.Generator, min_span: float) -> np.ndarray:
    """Frame numbers for training: as `random_in_segments`, from a part of the video. The part's length is drawn from
    `min_span` to 1 of the video, its place from where it fits; it has at least `num_frames` frames, or all there are.
    With `min_span` 1 it is the whole video, and no more is drawn.

    Returns:
        int array (num_frames,), ascending, the same for the same state of `generator`.
    """
    if min_span >= 1:
        return random_in_segments(total, num_frames, generator)
    length = min(max(round(generator.uniform(min_span, 1) * total), num_frames), total)
    start = generator.integers(0, total - length, endpoint=True)
    return start + random_in_segments(length, num_frames, generator)


def snap_to_key_frames(drawn: np.ndarray, total: int, key_frames: Sequence[int]) -> np.ndarray:
    """Frame numbers for training that are cheap to decode: those of `random_in_segments`, each moved to the key frame
    of its segment that is nearest, the earlier of two, where that leaves out frames. In a segment without one, and
    where the frames between are decoded for the next one anyway, it stays as drawn.

    Args:
        drawn: frame numbers (num_frames,), one from each segment of `segment_bounds(total, num_frames)`.
        total: number of frames that the segments share out.
        key_frames: ascending numbers of the frames at which decoding can start; those outside of 0 to `total` - 1 are
            in no segment.

    Returns:
        int array (num_frames,), ascending. `snap_to_key_frames([20, 30, 60, 99], 100, [0, 40, 44])` is 0, 40, 60, 99.
    """
    drawn = np.asarray(drawn, dtype=np.int64)
    first, last = segment_bounds(total, len(drawn))
    choices = np.stack([drawn, _nearest_key_frames(drawn, first, last, key_frames, otherwise=drawn)])
    return _least(choices, key_frames, price=1 / (total + 1))[1]  # all distances together cost less than one frame


def cut(metadata, source, start: float | None = None, end: float | None = None) -> tuple:
    """The part of a video between two times.

    Args:
        metadata: of the whole video, `VideoMetadata` or `SeekableMetadata`.
        source: the video, for messages.
        start, end: seconds; None means the beginning or the end of the video. An `end` beyond the video counts as
            its end.

    Returns:
        number of the first frame of the part, and the metadata of the part alone: its frames, key frames and damaged
        frames, counted from that one. The last key frame before the part is there, too, if the part needs it: a
        negative number.

    Raises:
        VideoDecodeError: no frame is between the times, they are not finite, or the video has no frame rate.
    """
    if start is None and end is None:
        return 0, metadata
    name, total = source_name(source), metadata.total_num_frames
    if not metadata.fps:
        raise VideoDecodeError(name, "it has a start or end time but no frame rate")
    if not all(math.isfinite(seconds) for seconds in (start, end) if seconds is not None):
        raise VideoDecodeError(name, f"start and end must be seconds, got {start} and {end}")
    first = math.floor((start or 0.0) * metadata.fps)
    last = total if end is None else min(math.ceil(end * metadata.fps), total)
    if first < 0 or first >= last:
        raise VideoDecodeError(
            name, f"it has no frame between {start} s and {end} s ({total} frames at {metadata.fps:.2f} a second)"
        )
    count = last - first
    part = replace(metadata, total_num_frames=count, duration=count / metadata.fps)
    if isinstance(part, SeekableMetadata):
        part.damaged_frames = [n - first for n in metadata.damaged_frames if first <= n < last]
        keys = metadata.key_frames or [0]
        part.key_frames = [n - first for n in keys[max(bisect_right(keys, first) - 1, 0) :] if n < last]
    return first, part


def _nearest_key_frames(places, first, last, key_frames: Sequence[int], otherwise) -> np.ndarray:
    """The key frame from `first` to `last` that is nearest to each of `places`, between them too; else `otherwise`."""
    keys = np.asarray(key_frames, dtype=np.int64)
    if keys.size == 0:
        return otherwise
    before = keys[np.maximum(np.searchsorted(keys, places, side="right") - 1, 0)]
    after = keys[np.minimum(np.searchsorted(keys, places), keys.size - 1)]
    has_before, has_after = ((first <= key) & (key <= last) for key in (before, after))
    nearer = has_before & (~has_after | (abs(before - places) <= abs(after - places)))
    return np.where(nearer, before, np.where(has_after, after, otherwise))


def _least(choices: np.ndarray, key_frames: Sequence[int], price: float) -> tuple[float, np.ndarray]:
    """Takes one of `choices` (choices, segments) in each segment, in ascending order, so that frames to decode plus
    `price` times the distances from the first choices are least: (that sum, frame numbers (segments,))."""
    keys = np.asarray(key_frames, dtype=np.int64)
    if keys.size == 0 or keys[0] > 0:
        keys = np.append(0, keys)
    alone = choices - keys[np.searchsorted(keys, choices, side="right") - 1] + 1
    ways = [(0.0, (-math.inf, None))]  # the best way to each choice in a segment: its sum, and (frame, those before)
    for frames, costs in zip(choices.T.tolist(), alone.T.tolist(), strict=True):
        ways = [
            min(
                (
                    (sofar + min(frame - taken[0], cost) + price * abs(frame - frames[0]), (frame, taken))
                    for sofar, taken in ways
                    if taken[0] <= frame
                ),
                key=itemgetter(0),
            )
            for frame, cost in dict(zip(frames, costs, strict=True)).items()
        ]
    least, way = min(ways, key=itemgetter(0))
    taken = []
    while way[1] is not None:
        taken.append(way[0])
        way = way[1]
    return least, np.array(taken[::-1])


def _check(total: int, num_frames: int):
    if total < 1 or num_frames < 1:
        raise ValueError(f"a video and a sample need at least one frame, got total={total}, num_frames={num_frames}")


def _check_clip(clip: int, num_clips: int):
    if num_clips < 1 or not 0 <= clip < num_clips:
        raise ValueError(f"clip must be from 0 to num_clips - 1, got clip={clip}, num_clips={num_clips}")
