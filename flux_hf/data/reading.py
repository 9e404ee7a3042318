"""Frames of one row of a data set, between its start and end time."""

from collections.abc import Callable

import numpy as np

from flux_hf.processing.frame_sampling_fluxvit import SeekableMetadata, cut, intact_frames, snap_to_key_frames
from flux_hf.processing.video_decoding_fluxvit import read_video
from flux_hf.processing.video_source_fluxvit import source_name


def read_clip(row: dict, choose: Callable[[int], np.ndarray], **options) -> np.ndarray:
    """The frames of `decode_clip` alone."""
    return decode_clip(row, choose, **options)[0]


def decode_clip(
    row: dict,
    choose: Callable[[int], np.ndarray],
    *,
    short_side: int | None = None,
    snap_to_keyframes: bool = False,
) -> tuple[np.ndarray, SeekableMetadata]:
    """Decode chosen frames of a row.

    Args:
        row: `video` ({"path", "bytes"}), and optionally `start` and `end` in seconds (None: the whole video).
        choose: the number of frames there are -> the frame numbers to take, counted from the start time, one of each
            segment of `segment_bounds`; the nearest intact frame of the segment stands in for a damaged one.
        short_side: larger frames are scaled down to this short side, in pixels, while they are converted.
        snap_to_keyframes: `choose` takes one frame from each of equal segments; move it to the nearest key frame of its
            segment, where that leaves out frames (`snap_to_key_frames`).

    Returns:
        uint8 array (frames, height, width, 3), RGB, and what `read_video` says of the video.

    Raises:
        VideoDecodeError: the video cannot be read, or ends before its start time.
    """

    def indices(metadata: SeekableMetadata) -> np.ndarray:
        first, part = cut(metadata, row["video"], row.get("start"), row.get("end"))
        numbers = np.asarray(choose(part.total_num_frames))
        if snap_to_keyframes:
            numbers = snap_to_key_frames(numbers, part.total_num_frames, part.key_frames)
        return first + intact_frames(numbers, part)

    return read_video(row["video"], indices, short_side=short_side)


def row_name(row: dict, index: int) -> str:
    """What messages call a row: the path of its video, or the number of the row."""
    path = row["video"].get("path")
    return source_name(path) if path else f"row {index}"
