"""Which frame of a video is shown when: found in the cheapest way the file allows, and mistrusted until it is seen."""

from bisect import bisect_left, bisect_right
from copy import copy
from functools import cached_property
from typing import NamedTuple

import av
import numpy as np

from .video_container_fluxvit import VideoFile

LEAP = 10
"""Seconds between two frames of a transport or program stream that are taken for a joint, as in the ffmpeg program."""

BEFORE_JOINT = 3
"""Packets before a joint that are called corrupt without being so."""

WITHOUT_PTS = ("asf", "avi", "rm")
"""Containers that store when to decode a packet and not when to show it."""

MARKER_SIZE = 16
"""Bytes. MPEG-4 packets below it are taken for the markers of packed B-frames (DivX, XviD): two frames in a packet,
none in the next, and time stamps that tell neither from the other."""


class Timeline:
    """Which frame is shown when.

    Attributes:
        pts: int64 array (frames,), ascending presentation time stamps in units of the stream's time base; None when the
            file gives none that can be trusted, then frames are counted from the beginning and never sought.
        keys: ascending list of (frame number, decoding time stamp) of the frames at which decoding can start.
        readable: number of frames that are in the file.
        total: number of frames the video has; more than `readable` in a truncated file whose header counts them.
        rate: frames per second, None when unknown.
        sizes: list of the bytes of each frame's packet; None when nobody has looked at the packets.
        counted: the frames were counted by decoding them.
        in_decoding_order: the numbers in `keys` count in decoding order. In an open GOP, frames that are decoded after
            a key frame are shown before it; its number is then larger than `keys` says.
        jumps: whether decoding may start at `keys`; else only at the beginning of the file.
        last: number of the frame that is decoded last; None when unknown.
        doubtful: the codec may reorder frames and nothing shows yet that the stamps do: they may only count packets.
        suspect: numbers of the frames whose packets the container calls incomplete.
        damaged: numbers of the frames found to be damaged so far.
    """

    def __init__(self, pts, keys, readable, total, rate, *, sizes=None, last=None, in_decoding_order=False, jumps=True):
        self.pts, self.keys, self.readable, self.total, self.rate = pts, keys, readable, total, rate
        self.sizes, self.last, self.in_decoding_order, self.jumps = sizes, last, in_decoding_order, jumps
        self.doubtful = self.counted = False
        self.suspect: set[int] = set()
        self.damaged: set[int] = set()

    @property
    def key_frames(self) -> list[int]:
        """Ascending numbers of the frames at which decoding can start; none where frames are never sought."""
        return [number for number, _ in self.keys] if self.jumps else []

    def number(self, pts) -> int | None:
        """Number of the frame with this time stamp, None when there is none."""
        if pts is None:
            return None
        position = bisect_left(self._stamps, pts)
        return position if position < len(self._stamps) and self._stamps[position] == pts else None

    @cached_property
    def _stamps(self) -> list[int]:
        return self.pts.tolist()  # Python's own bisection is ten times faster for a single number

    def key_before(self, number: int) -> tuple[int, int]:
        """The last of `keys` that is not after frame `number`."""
        position = bisect_right(self.keys, number, key=lambda entry: entry[0])
        return self.keys[position - 1] if position else (0, int(self.pts[0]))

    def key_after(self, number: int) -> int | None:
        """The number of the first of `keys` after frame `number`."""
        position = bisect_right(self.keys, number, key=lambda entry: entry[0])
        return self.keys[position][0] if position < len(self.keys) else None

    def without(self, number: int) -> "Timeline":
        """The same without one frame."""
        keys = [(key - (key > number), dts) for key, dts in self.keys if key != number]
        pts, sizes = np.delete(self.pts, number), self.sizes[:number] + self.sizes[number + 1 :]
        shorter = Timeline(pts, keys, len(pts), len(pts), self.rate, sizes=sizes, jumps=self.jumps)
        shorter.doubtful = self.doubtful
        shorter.suspect = {other - (other > number) for other in self.suspect - {number}}
        return shorter

    def without_jumps(self) -> "Timeline":
        """The same, read from the beginning."""
        same = copy(self)
        same.jumps, same.damaged = False, set()
        return same


def timelines(video: VideoFile):
    """Timelines of the video, the cheapest first; the next one is tried when frames are not where one says they are."""
    indexed = _timeline_from_index(video)
    if indexed is not None:
        yield indexed
    scanned = _timeline_from_packets(video)
    if scanned is None:
        yield _timeline_from_frames(video, 0, None)
        return
    yield scanned
    if scanned.jumps:
        yield scanned.without_jumps()
    yield _timeline_from_frames(video, scanned.total - scanned.readable, scanned.rate)


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
    return "mov" in _formats(video)


def _formats(video: VideoFile) -> list[str]:
    return video.container.format.name.split(",")


def _timeline_from_index(video: VideoFile) -> Timeline | None:
    """From the sample table of an mp4 or mov, without reading the file; None unless it is complete and evenly spaced.

    The table holds decoding times. At an even pace the presentation times are the same, moved to the stream's start,
    where the first packet has to be.
    """
    stream = video.stream
    if not is_mov(video) or stream.start_time is None or not stream.duration:
        return None
    entries = list(stream.index_entries)
    if len(entries) != stream.frames or len(entries) < 2 or any(entry.is_discard for entry in entries):
        return None
    if not entries[0].is_keyframe or _packed(video, [entry.size for entry in entries]):
        return None
    times = [entry.timestamp for entry in entries]
    steps = np.diff(times)
    step = int(steps[0])
    if step <= 0 or (steps != step).any() or abs(step * len(entries) - stream.duration) > step:
        return None
    keys = [(number, times[number]) for number, entry in enumerate(entries) if entry.is_keyframe]
    pts = stream.start_time + step * np.arange(len(entries))
    reorders = bool(stream.codec_context.has_b_frames)
    if reorders and next((packet.pts for packet in video.packets()), None) != stream.start_time:
        return None
    rate = float(1 / (step * stream.time_base))
    timeline = Timeline(pts, keys, len(entries), len(entries), rate, in_decoding_order=reorders)
    timeline.doubtful = reorders
    return timeline


class _Packet(NamedTuple):
    pts: int | None
    dts: int | None
    size: int
    is_keyframe: bool
    is_discard: bool
    is_corrupt: bool


def _timeline_from_packets(video: VideoFile) -> Timeline | None:
    """From one pass over the packets without decoding. Without usable time stamps it only counts; None when packets
    are no frames."""
    video.restart()
    everything = [
        _Packet(packet.pts, packet.dts, packet.size, packet.is_keyframe, packet.is_discard, packet.is_corrupt)
        for packet in video.packets()
        if packet.size
    ]
    while everything and everything[-1].is_corrupt:  # the file ends within it
        everything.pop()
    begin = next((place for place, packet in enumerate(everything) if packet.is_keyframe), len(everything))
    packets = everything[begin:]
    shown = [packet for packet in packets if not packet.is_discard]
    if not shown or _packed(video, [packet.size for packet in shown]):
        return None
    rate = _rate(video, packets)
    dropped = len(everything) - len(shown)
    if not _trusted(video, shown):
        return Timeline(None, [], len(shown), _announced(video, len(shown), dropped), rate, jumps=False)
    decoded_last, stamps = shown[-1].pts, [packet.pts for packet in shown]
    doubtful = bool(video.stream.codec_context.has_b_frames) and stamps == sorted(stamps)
    # What is shown before the first key frame is made from frames that are not there.
    shown = sorted((packet for packet in shown if packet.pts >= packets[0].pts), key=lambda packet: packet.pts)
    stamps = np.array([packet.pts for packet in shown], dtype=np.int64)
    keys = sorted(
        (int(np.searchsorted(stamps, packet.pts)), packet.pts if packet.dts is None else packet.dts)
        for packet in packets
        if packet.is_keyframe
    )
    total = _announced(video, len(shown), len(everything) - len(shown))
    sizes, last = [packet.size for packet in shown], int(np.searchsorted(stamps, decoded_last))
    timeline = Timeline(stamps, keys, len(shown), total, rate, sizes=sizes, last=last)
    timeline.doubtful = doubtful
    timeline.suspect = {timeline.number(packet.pts) for packet in _incomplete(video, packets)} - {None}
    return timeline


def _announced(video: VideoFile, found: int, dropped: int) -> int:
    """Number of frames: that of the table of all frames where there is one (mp4, mov), else what was found."""
    return max(found, len(video.stream.index_entries) - dropped) if is_mov(video) else found


def _trusted(video: VideoFile, packets: list[_Packet]) -> bool:
    """Whether time stamps, of packets in decoding order, say which frame is shown when.

    Where decoding times go back, two recordings are joined. Raw streams and MPEG program streams have stamps for some
    packets or none; libav guesses the others, and guesses otherwise after a jump.
    """
    pts, dts = [packet.pts for packet in packets], [packet.dts for packet in packets if packet.dts is not None]
    if dts != sorted(dts) or None in pts or len(set(pts)) < len(pts):
        return False
    formats = _formats(video)
    raw = video.container.format.flags & av.format.Flags.no_timestamps.value and not is_mov(video)
    if raw or "mpeg" in formats:
        return False
    return not video.stream.codec_context.has_b_frames or set(formats).isdisjoint(WITHOUT_PTS)


def _packed(video: VideoFile, sizes: list[int]) -> bool:
    context = video.stream.codec_context
    return context.name == "mpeg4" and bool(context.has_b_frames) and min(sizes) < MARKER_SIZE


def _incomplete(video: VideoFile, packets: list[_Packet]) -> list[_Packet]:
    """The packets that the container calls corrupt. Those before a joint of two recordings it calls so, too."""
    steps = np.diff([packet.pts if packet.dts is None else packet.dts for packet in packets])
    joints = np.flatnonzero(abs(steps) * float(video.stream.time_base) > LEAP)
    return [
        packet
        for place, packet in enumerate(packets)
        if packet.is_corrupt and not ((joints >= place) & (joints < place + BEFORE_JOINT)).any()
    ]


def _rate(video: VideoFile, packets: list[_Packet]) -> float | None:
    """Frames per second: over all, or where the stamps leap as at the joint of two recordings, of most frames."""
    packets = [packet for packet in packets if packet.pts is not None]
    if len(packets) < 2:
        return None
    shown = np.array([packet.pts for packet in packets])
    steps = np.diff([packet.pts if packet.dts is None else packet.dts for packet in packets])
    tick, leaping = float(video.stream.time_base), av.format.Flags.ts_discont.value & video.container.format.flags
    step = (shown.max() - shown.min()) / (len(shown) - 1)
    if (steps < 0).any() or (leaping and steps.max() * tick > LEAP):
        step = np.median(steps[steps > 0]) if (steps > 0).any() else 0
    return float(1 / (step * tick)) if step > 0 else None


def _timeline_from_frames(video: VideoFile, cut_off: int, rate: float | None) -> Timeline:
    """By decoding all frames and counting them, those after the first error have no number that anybody knows; and
    `cut_off`, those that a header counts and the file ends before."""
    video.restart(threads=1)  # with several the decoder reports errors late
    count, readable = 0, None
    for _ in video.frames():
        if readable is None and video.errors:
            readable = count
        count += 1
    if readable is None:
        readable = count
    else:
        count += video.errors
    timeline = Timeline(None, [], readable, count + cut_off, rate, jumps=False)
    timeline.counted = True
    return timeline
