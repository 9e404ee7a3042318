"""Reads chosen frames of a video with PyAV: the right ones, each decoded once, and no more of the others than needed.

Frames are numbered in presentation order. Which time stamp belongs to which number is found in the cheapest way the
file allows (see `timelines`): from the container's index, from one pass over the packets without decoding, or by
decoding. Wanted frames are then read front to back, jumping to a key frame wherever that leaves out frames, and what
comes is checked (see `decode_frames`); what does not hold is looked up in the next way.
"""

import numpy as np
from transformers.utils import logging

from .frame_conversion_fluxvit import FrameWriter
from .frame_sampling_fluxvit import SeekableMetadata
from .video_container_fluxvit import VideoFile, opened_video
from .video_http_fluxvit import DEFAULT_LIMITS, DownloadLimits
from .video_runs_fluxvit import Damaged, Mistaken, Truncated, decode_frames
from .video_source_fluxvit import VideoDecodeError
from .video_timeline_fluxvit import Timeline, key_frames_hold, timelines

logger = logging.get_logger(__name__)


def read_video(
    source,
    indices=None,
    *,
    short_side: int | None = None,
    threads: int | None = None,
    limits: DownloadLimits = DEFAULT_LIMITS,
    transform=None,
):
    """Decodes the frames `indices` of a video.

    Args:
        source: path, http(s) URL, another address that fsspec knows (`hf://`, `zip://MEMBER::ARCHIVE`), bytes, binary
            file object, or a dictionary with "path" and/or "bytes".
        indices: frame numbers in presentation order, in any order and with repeats, or a function that is called with
            `metadata=SeekableMetadata` and returns them. It is called again if the number of frames or the key frames
            turn out to differ from what the file says, and if frames that it chose are damaged; then it may choose
            others. Default: all frames.
        short_side: scale frames down (bilinear, antialiased) before they are converted to RGB so that the shorter side
            has this many pixels; smaller frames are left as they are. Default: native size.
        threads: decoder threads; 0 lets libav choose. Default: 1 inside DataLoader and other worker processes, else 0.
        limits: of time and size, for what is downloaded or unpacked. Default: 300 seconds, 1 GiB.
        transform: function of one frame, an upright uint8 array (height, width, 3), that returns the uint8 array to
            keep of it, always of one shape: of many frames only small ones are held then. Default: all of it.

    Returns:
        uint8 array (len(indices), height, width, 3), RGB, turned upright as the file's display matrix says (the sample
        aspect ratio is not applied, alpha is dropped), and `SeekableMetadata` with the number of frames, average frames
        per second, duration in seconds, upright native width and height, and `frames_indices`, the frames shown. Where
        damaged frames were replaced it says so, and so does a warning.

    Raises:
        VideoDecodeError: the video or one of the frames cannot be read or is damaged; the message names the source and
            the reason.
    """
    if short_side is not None and short_side < 1:
        raise ValueError(f"short_side must be a positive number of pixels, got {short_side}")
    with opened_video(source, threads, limits) as video:
        for timeline in timelines(video):
            try:
                return _read_along(video, timeline, indices, short_side, transform)
            except Mistaken:
                continue
        raise VideoDecodeError(video.name, "it is damaged: its frames are not where it says")


def probe_video(source, limits: DownloadLimits = DEFAULT_LIMITS) -> SeekableMetadata:
    """Counts the frames of a video and decodes the first: sources, limits, metadata and errors as of `read_video`."""
    metadata = read_video(source, lambda metadata: [0], limits=limits)[1]
    metadata.frames_indices = None
    return metadata


def _read_along(video: VideoFile, timeline: Timeline, indices, short_side: int | None, transform) -> tuple:
    """Chooses frames and reads them, and chooses again while some of them are damaged."""
    first_choice = None
    while True:
        metadata = _metadata(video, timeline)
        numbers = _frame_numbers(indices, metadata, video.name)
        missing = np.intersect1d(numbers, metadata.damaged_frames)
        if missing.size:
            raise VideoDecodeError(video.name, _unreachable(int(missing[0]), timeline))
        if not key_frames_hold(video, timeline, numbers):
            raise Mistaken
        first_choice = numbers if first_choice is None else first_choice
        frames = FrameWriter(numbers, short_side, video.threads, video.name, transform)
        try:
            decode_frames(video, timeline, np.unique(numbers), frames)
        except Damaged:
            continue
        except Truncated as end:
            timeline, first_choice = timeline.without(end.number), None
            continue
        metadata.frames_indices, metadata.height, metadata.width = numbers.tolist(), frames.height, frames.width
        metadata.replaced_frames = int(np.isin(first_choice, metadata.damaged_frames).sum())
        if metadata.replaced_frames:
            logger.warning_once(
                f"{video.name}: {metadata.replaced_frames} of {len(first_choice)} frames are damaged, others are shown "
                "instead"
            )
        return frames.array, metadata


def _metadata(video: VideoFile, timeline: Timeline) -> SeekableMetadata:
    if timeline.total == 0:
        raise VideoDecodeError(video.name, "no frame of it can be decoded")
    stream, rate = video.stream, timeline.rate
    header = float(stream.average_rate or 0)
    if header and (not rate or abs(rate / header - 1) <= 0.01):
        rate = header
    return SeekableMetadata(
        total_num_frames=timeline.total,
        fps=rate,
        width=stream.codec_context.width,
        height=stream.codec_context.height,
        duration=timeline.total / rate if rate else None,
        video_backend="pyav",
        key_frames=timeline.key_frames,
        damaged_frames=sorted(timeline.damaged.union(range(timeline.readable, timeline.total))),
    )


def _frame_numbers(indices, metadata: SeekableMetadata, name: str) -> np.ndarray:
    if callable(indices):
        indices = indices(metadata=metadata)
    total = metadata.total_num_frames
    numbers = np.arange(total) if indices is None else np.asarray(indices)
    if numbers.ndim != 1 or numbers.size == 0 or numbers.dtype.kind not in "iu":
        raise ValueError(f"indices must be a non-empty list of frame numbers, got {indices!r}")
    if numbers.min() < 0:
        raise ValueError(f"indices must be from 0 on, got {numbers.tolist()}")
    if numbers.max() >= total:
        raise VideoDecodeError(
            name, f"it has {total} frames, indices must be from 0 to {total - 1}; got {numbers.max()}"
        )
    return numbers


def _unreachable(number: int, timeline: Timeline) -> str:
    if number >= timeline.readable:
        return (
            f"only {timeline.readable} of its {timeline.total} frames can be decoded, frame {number} is wanted: it is "
            "truncated or damaged"
        )
    return f"frame {number} of {timeline.total} is damaged"
