"""Frames of one row of a data set, between its start and end time."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from flux_hf.processing.frame_sampling_fluxvit import snap_to_key_frames
from flux_hf.processing.video_decoding_fluxvit import SeekableMetadata, read_video
from flux_hf.processing.video_source_fluxvit import VideoDecodeError, source_name


def read_clip(
    row: dict,
    choose: Callable[[int], np.ndarray],
    *,
    short_side: int | None = None,
    snap_to_keyframes: bool = False,
) -> np.ndarray:
    """Decode chosen frames of a row.

    Args:
        row: `video` ({"path", "bytes"}), and optionally `start` and `end` in seconds (None: the whole video).
        choose: the number of frames there are -> the frame numbers to take, counted from the start time.
        short_side: larger frames are scaled down to this short side, in pixels, while they are converted.
        snap_to_keyframes: `choose` takes one frame from each of equal segments; move it to the nearest key frame of its
            segment, where there is one (`snap_to_key_frames`).

    Returns:
        uint8 array (frames, height, width, 3), RGB.

    Raises:
        VideoDecodeError: the video cannot be read, or ends before its start time.
    """

    def indices(metadata: SeekableMetadata) -> np.ndarray:
        first, part = cut(metadata, row["video"], row.get("start"), row.get("end"))
        numbers = np.asarray(choose(part.total_num_frames))
        if snap_to_keyframes:
            numbers = snap_to_key_frames(numbers, part.total_num_frames, part.key_frames)
        return first + numbers

    return read_video(row["video"], indices, short_side=short_side)[0]


def row_name(row: dict, index: int) -> str:
    """What messages call a row: the path of its video, or the number of the row."""
    return str(row["video"].get("path") or f"row {index}")


def cut(
    metadata: SeekableMetadata, source, start: float | None = None, end: float | None = None
) -> tuple[int, SeekableMetadata]:
    """The part of a video between two times.

    Args:
        metadata: of the whole video.
        source: the video, for messages.
        start, end: seconds; None is the beginning and the end of the video, and so is an `end` behind it.

    Returns:
        number of the first frame of the part, and the metadata of the part alone: its frames and key frames, counted
        from that one.

    Raises:
        VideoDecodeError: no frame is between the times, or the video has no frame rate.
    """
    if start is None and end is None:
        return 0, metadata
    name, total = source_name(source), metadata.total_num_frames
    if not metadata.fps:
        raise VideoDecodeError(name, "it has a start or end time but no frame rate")
    first = math.floor((start or 0.0) * metadata.fps)
    last = total if end is None else min(math.ceil(end * metadata.fps), total)
    if first < 0 or first >= last:
        raise VideoDecodeError(
            name, f"it has no frame between {start} s and {end} s ({total} frames at {metadata.fps:.2f} a second)"
        )
    key_frames = [number - first for number in metadata.key_frames if first <= number < last]
    count = last - first
    return first, replace(metadata, total_num_frames=count, duration=count / metadata.fps, key_frames=key_frames)
