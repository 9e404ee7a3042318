"""Reads chosen frames of a video with PyAV: the right ones, each decoded once, and no more of the others than needed.

Frames are numbered in presentation order. Which time stamp belongs to which number is found in the cheapest way the
file allows (see `timelines`): from the container's index, from one pass over the packets without decoding, or by
decoding. Wanted frames are then read front to back, jumping to a key frame wherever that leaves out frames.
"""

from dataclasses import dataclass, field

import av
import numpy as np
from transformers.video_utils import VideoMetadata

from .video_container_fluxvit import VideoFile, opened_video
from .video_http_fluxvit import DEFAULT_LIMITS, DownloadLimits
from .video_source_fluxvit import VideoDecodeError
from .video_timeline_fluxvit import Timeline, is_mov, key_frames_hold, timelines

SKIPPING_DECODERS = ("h264", "hevc", "mpeg2video", "mpeg4")
"""Decoders that can be told, frame by frame, to leave out one that no other is made from."""


@dataclass
class SeekableMetadata(VideoMetadata):
    """What a function that chooses frames is told.

    Attributes:
        key_frames: ascending numbers of the frames at which decoding can start; empty where the file says nothing of
            them and is read from its beginning.
    """

    key_frames: list[int] = field(default_factory=list)


def read_video(
    source,
    indices=None,
    *,
    short_side: int | None = None,
    threads: int | None = None,
    limits: DownloadLimits = DEFAULT_LIMITS,
):
    """Decodes the frames `indices` of a video.

    Args:
        source: path, http(s) URL, another address that fsspec knows (`hf://`, `zip://MEMBER::ARCHIVE`), bytes, binary
            file object, or a dictionary with "path" and/or "bytes".
        indices: frame numbers in presentation order, in any order and with repeats, or a function that is called with
            `metadata=SeekableMetadata` and returns them (it is called again if the number of frames or the key frames
            turn out to differ from what the file says). Default: all frames.
        short_side: scale frames down (bilinear, antialiased) before they are converted to RGB so that the shorter side
            has this many pixels; smaller frames are left as they are. Default: native size.
        threads: decoder threads; 0 lets libav choose. Default: 1 inside DataLoader and other worker processes, else 0.
        limits: of time and size, for what is downloaded or unpacked. Default: 300 seconds, 1 GiB.

    Returns:
        uint8 array (len(indices), height, width, 3), RGB, turned upright as the file's display matrix says (the sample
        aspect ratio is not applied, alpha is dropped), and `VideoMetadata` with the number of frames, average frames
        per second, duration in seconds, upright native width and height, and `frames_indices`.

    Raises:
        VideoDecodeError: the video or one of the frames cannot be read; the message names the source and the reason.
    """
    if short_side is not None and short_side < 1:
        raise ValueError(f"short_side must be a positive number of pixels, got {short_side}")
    with opened_video(source, threads, limits) as video:
        for timeline in timelines(video):
            metadata = _metadata(video, timeline)
            numbers = _frame_numbers(indices, SeekableMetadata(**metadata, key_frames=timeline.key_frames))
            if numbers.max() < timeline.readable and key_frames_hold(video, timeline, numbers):
                frames = _FrameWriter(numbers, short_side, video.threads)
                if _decode(video, timeline, np.unique(numbers), frames):
                    metadata.update(
                        {"frames_indices": numbers.tolist(), "height": frames.height, "width": frames.width}
                    )
                    return frames.array, metadata
        raise VideoDecodeError(video.name, _unreachable(numbers, timeline))


def probe_video(source, limits: DownloadLimits = DEFAULT_LIMITS) -> VideoMetadata:
    """Counts the frames of a video and decodes the first: sources, limits, metadata and errors as of `read_video`."""
    metadata = read_video(source, [0], limits=limits)[1]
    metadata.frames_indices = None
    return metadata


def _metadata(video: VideoFile, timeline: Timeline) -> VideoMetadata:
    if timeline.total == 0:
        raise VideoDecodeError(video.name, "no frame of it can be decoded")
    stream = video.stream
    rate = stream.average_rate
    if timeline.pts is not None and len(timeline.pts) > 1:
        measured = (len(timeline.pts) - 1) / (int(timeline.pts[-1] - timeline.pts[0]) * stream.time_base)
        if not rate or abs(measured / rate - 1) > 0.01:
            rate = measured
    return VideoMetadata(
        total_num_frames=timeline.total,
        fps=float(rate) if rate else None,
        width=stream.codec_context.width,
        height=stream.codec_context.height,
        duration=float(timeline.total / rate) if rate else None,
        video_backend="pyav",
    )


def _frame_numbers(indices, metadata: VideoMetadata) -> np.ndarray:
    if callable(indices):
        indices = indices(metadata=metadata)
    total = metadata.total_num_frames
    numbers = np.arange(total) if indices is None else np.asarray(indices)
    if numbers.ndim != 1 or numbers.size == 0 or numbers.dtype.kind not in "iu":
        raise ValueError(f"indices must be a non-empty list of frame numbers, got {indices!r}")
    if numbers.min() < 0 or numbers.max() >= total:
        raise ValueError(f"indices must be from 0 to {total - 1}, the video has {total} frames; got {numbers.tolist()}")
    return numbers


def _decode(video: VideoFile, timeline: Timeline, wanted: np.ndarray, frames: "_FrameWriter") -> bool:
    """Hands the frames `wanted` (ascending) to `frames`; False when the file does not hold them where it should.

    Where a jump lands depends on the container: most look for the presentation time of the wanted frame, mpeg-ts and
    flv for the decoding time of the key frame. Landing behind the wanted frame is noticed and the other way is tried,
    at last reading from the beginning without jumps.
    """
    if timeline.pts is None:
        video.restart()
        return _decode_counting(video, wanted, frames)
    for jump_to in (lambda n: _presented(video, timeline, n), lambda n: timeline.key_before(n)[1], None):
        if jump_to is None:
            video.restart()
        wanted = wanted[_decode_by_time(video, timeline, wanted, frames, jump_to) :]
        if wanted.size == 0:
            return True
    return False


def _decode_counting(video: VideoFile, wanted: np.ndarray, frames: "_FrameWriter") -> bool:
    remaining = set(wanted.tolist())
    for number, frame in enumerate(video.frames()):
        if number in remaining:
            frames.write(number, frame)
            remaining.remove(number)
            if not remaining:
                return True
    return False


def _decode_by_time(video: VideoFile, timeline: Timeline, wanted: np.ndarray, frames: "_FrameWriter", jump_to) -> int:
    """How many of `wanted` were found before one was not. `jump_to`: frame number -> where to seek for it; None reads
    on without jumps."""
    done = 0
    for run in _runs(timeline, wanted) if jump_to else [wanted]:
        if jump_to and not (video.fresh and timeline.key_before(int(run[0]))[0] == 0):
            if not video.seek(jump_to(int(run[0]))):
                return done
        found = _decode_run(video, timeline, run, frames, to_end=jump_to is None)
        done += found
        if found < len(run):
            return done
    return done


def _presented(video: VideoFile, timeline: Timeline, number: int) -> int:
    """Presentation time of the frame, in mp4 of one half way to the next key frame: there it is compared to decoding
    times moved by a constant, which where the pace is uneven misses a key frame that is close."""
    if is_mov(video):
        number = (number + timeline.key_after(number)) // 2
    return int(timeline.pts[number])


def _runs(timeline: Timeline, wanted: np.ndarray) -> list[np.ndarray]:
    """`wanted` cut wherever a jump to a key frame leaves out frames."""
    starts = [
        place for place in range(1, len(wanted)) if timeline.key_before(int(wanted[place]))[0] > wanted[place - 1] + 1
    ]
    return np.split(wanted, starts)


def _decode_run(video: VideoFile, timeline: Timeline, run: np.ndarray, frames: "_FrameWriter", to_end: bool) -> int:
    """How many frames of `run` come from the current position on, before one is missing. Unless `to_end`, nothing is
    fed to the decoder after what they are made from."""
    context = video.stream.codec_context
    leave_out = context.name in SKIPPING_DECODERS
    stamps = set(timeline.pts[run].tolist())
    awaited = set(stamps)

    def before(packet) -> bool:
        awaited.discard(packet.pts)
        if leave_out:
            context.skip_frame = "DEFAULT" if packet.pts in stamps or packet.pts is None else "NONREF"
        return not awaited and not to_end

    reader = video.frames(before)
    for done, number in enumerate(run.tolist()):
        shown = None
        for frame in reader:
            shown = timeline.number(frame.pts)
            if shown is not None and shown >= number:
                break
        if shown != number:
            return done
        frames.write(number, frame)
    return len(run)


def _unreachable(numbers: np.ndarray, timeline: Timeline) -> str:
    missing = numbers[numbers >= timeline.readable]
    which = f"frame {int(missing.min())} is wanted" if missing.size else "some of the wanted frames are damaged"
    return f"only {timeline.readable} of its {timeline.total} frames can be decoded, {which}"


class _FrameWriter:
    """Converts frames to upright RGB, each into every place of one preallocated array where its number is wanted."""

    def __init__(self, numbers: np.ndarray, short_side: int | None, threads: int):
        self._numbers, self._short_side, self._threads = numbers, short_side, threads
        self._scaler, self._converter = av.video.reformatter.VideoReformatter(), av.video.reformatter.VideoReformatter()
        self._stored_size = None
        self.array = None

    def write(self, number: int, frame):
        if self.array is None:
            self._turn = _display_turn(frame)
            self.height, self.width = (frame.width, frame.height) if self._turn[0] else (frame.height, frame.width)
            self._stored_size = _scaled(frame.width, frame.height, self._short_side)
        width, height = self._stored_size
        options = {"interpolation": "BILINEAR", "threads": self._threads}
        if (frame.width, frame.height) != self._stored_size:
            # In one step with the conversion to RGB, libswscale is slower and drops half of the columns of colour.
            frame = self._scaler.reformat(frame, width, height, "yuv444p", **options)
        rgb = self._converter.reformat(frame, width, height, "rgb24", **options).to_ndarray()
        transpose, flip_rows, flip_columns = self._turn
        if transpose:
            rgb = rgb.transpose(1, 0, 2)
        rgb = rgb[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
        if self.array is None:
            self.array = np.empty((len(self._numbers), *rgb.shape), dtype=np.uint8)
        self.array[self._numbers == number] = rgb


def _scaled(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    if short_side is None or min(width, height) <= short_side:
        return width, height
    scale = short_side / min(width, height)
    return max(short_side, round(width * scale)), max(short_side, round(height * scale))


def _display_turn(frame) -> tuple[bool, bool, bool]:
    """What the display matrix asks for, to the next quarter turn: (transpose, then flip rows, then flip columns).

    The matrix is 3x3 int32, row by row, [[a, b], [c, d]] its corner: pixel (x, y) is shown at (a x + c y, b x + d y).
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(data), dtype=np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, b < 0, c < 0
    return False, d < 0, a < 0
