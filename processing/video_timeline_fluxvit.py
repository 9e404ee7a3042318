"""Which frame of a video is shown when: found in the cheapest way the file allows."""

from bisect import bisect_right

import numpy as np

from .video_container_fluxvit import VideoFile


class Timeline:
    """Which frame is shown when.

    Attributes:
        pts: int64 array (frames,), ascending presentation time stamps in units of the stream's time base; None when the
            file gives none, then frames are counted from the beginning and never sought.
        keys: ascending list of (frame number, decoding time stamp) of the frames at which decoding can start.
        readable: number of frames that are in the file.
        total: number of frames the video has; more than `readable` in a truncated file whose header counts them.
        in_decoding_order: the numbers in `keys` count in decoding order. In an open GOP, frames that are decoded after
            a key frame are shown before it; its number is then larger than `keys` says.
    """

    def __init__(self, pts, keys, readable: int, total: int, in_decoding_order: bool = False):
        self.pts, self.keys, self.readable, self.total = pts, keys, readable, total
        self.in_decoding_order = in_decoding_order

    @property
    def key_frames(self) -> list[int]:
        """Ascending numbers of the frames at which decoding can start; none where frames are never sought."""
        return [] if self.pts is None else [number for number, _ in self.keys]

    def number(self, pts) -> int | None:
        """Number of the frame with this time stamp, None when there is none."""
        if pts is None:
            return None
        position = int(np.searchsorted(self.pts, pts))
        return position if position < len(self.pts) and self.pts[position] == pts else None

    def key_before(self, number: int) -> tuple[int, int]:
        """The last of `keys` that is not after frame `number`."""
        position = bisect_right(self.keys, number, key=lambda entry: entry[0])
        return self.keys[position - 1] if position else (0, int(self.pts[0]))

    def key_after(self, number: int) -> int:
        """The number of the first of `keys` after frame `number`, that of the last frame when there is none."""
        position = bisect_right(self.keys, number, key=lambda entry: entry[0])
        return self.keys[position][0] if position < len(self.keys) else len(self.pts) - 1


def timelines(video: VideoFile):
    """Timelines of the video, the cheapest first; the next one is tried when frames are not where one says they are."""
    indexed = _timeline_from_index(video)
    if indexed is not None:
        yield indexed
    counted = _timeline_from_packets(video)
    if counted.readable:
        yield counted
    yield _timeline_from_frames(video, counted.total if is_mov(video) else 0)


def key_frames_hold(video: VideoFile, timeline: Timeline, numbers) -> bool:
    """Whether those of `numbers` that `timeline` takes for key frames are: looks at one packet each, without decoding.

    Only where the timeline's numbers may be off; a frame taken for a key frame would otherwise be sought in vain.
    """
    if not timeline.in_decoding_order:
        return True
    for number in sorted(set(timeline.key_frames).intersection(map(int, numbers)) - {0}):
        if not video.seek(int(timeline.pts[number])):
            return False
        packet = next(iter(video.packets()), None)
        if packet is None or packet.pts != timeline.pts[number]:
            return False
    return True


def is_mov(video: VideoFile) -> bool:
    """Whether it is an mp4 or one of its relatives."""
    return "mov" in video.container.format.name.split(",")


def _timeline_from_index(video: VideoFile) -> Timeline | None:
    """From the sample table of an mp4 or mov, without reading the file; None unless it is complete and evenly spaced.

    The table holds decoding times. At an even pace the presentation times are the same, moved to the stream's start.
    """
    stream = video.stream
    if not is_mov(video) or stream.start_time is None or not stream.duration:
        return None
    entries = list(stream.index_entries)
    if len(entries) != stream.frames or len(entries) < 2 or any(entry.is_discard for entry in entries):
        return None
    if not entries[0].is_keyframe:
        return None
    times = [entry.timestamp for entry in entries]
    steps = np.diff(times)
    step = int(steps[0])
    if step <= 0 or (steps != step).any() or abs(step * len(entries) - stream.duration) > step:
        return None
    keys = [(number, times[number]) for number, entry in enumerate(entries) if entry.is_keyframe]
    pts = stream.start_time + step * np.arange(len(entries))
    reorders = bool(stream.codec_context.has_b_frames)
    return Timeline(pts, keys, len(entries), len(entries), in_decoding_order=reorders)


def _timeline_from_packets(video: VideoFile) -> Timeline:
    """From one pass over the packets without decoding. Without usable time stamps it only counts."""
    video.restart()
    dropped, pts, keys = 0, [], []
    for packet in video.packets():
        if not packet.size or packet.is_corrupt:
            continue
        if packet.is_keyframe:
            keys.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
        if packet.is_discard or not keys:
            dropped += 1
        else:
            pts.append(packet.pts)
    if not pts or None in pts or len(set(pts)) < len(pts) or _in_decoding_order(video, pts):
        return Timeline(None, None, len(pts), _announced(video, len(pts), dropped))
    # What is shown before the first key frame is made from frames that are not there.
    shown = np.sort(np.array([stamp for stamp in pts if stamp >= keys[0][0]], dtype=np.int64))
    dropped += len(pts) - len(shown)
    keys = sorted((int(np.searchsorted(shown, stamp)), dts) for stamp, dts in keys)
    return Timeline(shown, keys, len(shown), _announced(video, len(shown), dropped))


def _announced(video: VideoFile, found: int, dropped: int) -> int:
    """Number of frames: the header's where it is a table of all frames (mp4, mov), else what was found."""
    return max(found, video.stream.frames - dropped) if is_mov(video) else found


def _in_decoding_order(video: VideoFile, pts: list[int]) -> bool:
    """Whether the stamps only count packets: avi stores no others, although the codec may reorder frames."""
    return (
        "avi" in video.container.format.name.split(",")
        and bool(video.stream.codec_context.has_b_frames)
        and pts == sorted(pts)
    )


def _timeline_from_frames(video: VideoFile, announced: int) -> Timeline:
    """By decoding all frames and counting them."""
    video.restart()
    count = sum(1 for _ in video.frames())
    return Timeline(None, None, count, max(count, announced))
