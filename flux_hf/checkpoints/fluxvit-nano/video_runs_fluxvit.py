"""Runs of frames, decoded from a key frame or from the beginning, and what shows that they are the right ones.

A frame's number is looked up through its time stamp, and libav does not promise that stamps, key frames or pictures
are what a container says. So nothing is taken from a run unless decoding began where it should, every packet was one
that is known, and every frame that was to come out did, in order. What fails this without an error is a timeline that
does not hold (`Mistaken`); what fails it with an error is damage (`Damaged`), which reaches up to the next key frame.
"""

from itertools import chain, dropwhile

import numpy as np

from .frame_conversion_fluxvit import FrameWriter
from .video_container_fluxvit import VideoFile
from .video_timeline_fluxvit import Timeline, is_mov

SKIPPING_DECODERS = ("h264", "hevc", "mpeg2video")
"""Decoders that can be told, frame by frame, to leave out one that no other is made from."""

HIDING_DECODERS = ("vp8", "vp9", "libvpx", "libvpx-vp9", "av1", "libdav1d")
"""Decoders of codecs that have packets without a picture to show."""

FURTHER = 8
"""Packets that are looked at and, where time stamps are still doubtful then, decoded beyond the last wanted frame:
frames that are shown in another order than they are decoded come out in another order, too."""

PREDICTED = (2, 3)
"""Picture types P and B: a frame of these is no place to begin, whatever the container says (intra refresh)."""


class Mistaken(Exception):
    """Frames are not where the timeline says."""


class Damaged(Exception):
    """Frames cannot be decoded; `timeline.damaged` has their numbers."""


class Truncated(Exception):
    """The file ends within the last packet: there is no frame of this number."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def decode_frames(video: VideoFile, timeline: Timeline, wanted: np.ndarray, frames: FrameWriter) -> None:
    """Hands the frames `wanted` (ascending) to `frames`.

    Raises:
        Mistaken: the file does not hold them where it should.
        Damaged: some of them are damaged.
        Truncated: the last frame is not all there, in a file whose header does not count frames.
    """
    if timeline.pts is None:
        _count(video, timeline, wanted, frames)
        return
    for run in _runs(timeline, wanted):
        try:
            _jump_and_read(video, timeline, run, frames, careful=False)
        except Damaged:
            # With several threads the decoder reports an error late, and frames that were done are lost with it: what
            # is damaged shows only when it is read again with one.
            video.restart(threads=1)
            _jump_and_read(video, timeline, run, frames, careful=True)


def _runs(timeline: Timeline, wanted: np.ndarray) -> list[np.ndarray]:
    """`wanted` cut wherever a jump to a key frame leaves out frames."""
    if not timeline.jumps:
        return [wanted]
    starts = [
        place for place in range(1, len(wanted)) if timeline.key_before(int(wanted[place]))[0] > wanted[place - 1] + 1
    ]
    return np.split(wanted, starts)


def _jump_and_read(video: VideoFile, timeline: Timeline, run: np.ndarray, frames: FrameWriter, careful: bool):
    """Where a jump lands depends on the container: most look for the presentation time of the wanted frame, mpeg-ts and
    flv for the decoding time of the key frame. Landing behind the wanted frame is noticed and the other way is tried.
    """
    first = int(run[0])
    if not timeline.jumps:
        video.restart()
        ways = [None]
    else:
        ways = [lambda: _presented(timeline, first, is_mov(video)), lambda: timeline.key_before(first)[1]]
        if video.fresh and timeline.key_before(first)[0] == 0:
            ways = [None, *ways]
    for way in ways:
        landed = way is None or video.seek(way())
        if landed and _read(video, timeline, run, frames, careful):
            return
    raise Mistaken


def _presented(timeline: Timeline, number: int, halfway: bool) -> int:
    """Presentation time of the frame, in mp4 of one half way to the next key frame: there it is compared to decoding
    times moved by a constant, which where the pace is uneven misses a key frame that is close."""
    if halfway:
        after = timeline.key_after(number)
        number = (number + (len(timeline.pts) - 1 if after is None else after)) // 2
    return int(timeline.pts[number])


def _read(video: VideoFile, timeline: Timeline, run: np.ndarray, frames: FrameWriter, careful: bool) -> bool:
    """Reads `run` from the current position on; False when the next key frame is behind its first frame.

    Nothing is fed to the decoder after what the run is made from, unless stamps are doubtful. Where jumps are made and
    unless `careful`, frames that are decoded after one that they are shown before are left out if no other is made from
    them. What is damaged is noted where `careful`.
    """
    context, errors, begin = video.stream.codec_context, video.errors, int(timeline.pts[0])
    leave_out = timeline.jumps and not careful and context.name in SKIPPING_DECODERS
    packets = dropwhile(lambda packet: not packet.is_keyframe, video.packets())
    entry_packet = next(packets, None)
    if entry_packet is None:
        return False
    entry = timeline.number(entry_packet.pts)
    if entry is None:
        if not entry_packet.is_discard:
            raise Mistaken
        entry = 0
    if entry > run[0]:
        return False
    ahead = []
    while timeline.doubtful and len(ahead) < FURTHER and (packet := next(packets, None)) is not None:
        timeline.doubtful = packet.pts is None or packet.pts > (ahead[-1] if ahead else entry_packet).pts
        ahead.append(packet)
    further = FURTHER if timeline.doubtful or not timeline.jumps else 0
    wanted = set(run.tolist())
    awaited, fed, shown, newest = set(wanted), [], [], -1
    due, bad, keys, predicted = set(), set(), set(), set()

    def before(packet) -> bool:
        nonlocal further, newest
        further -= not awaited
        number = timeline.number(packet.pts)
        if number is None:
            if packet.size and not packet.is_discard and (packet.pts is None or packet.pts >= begin):
                raise Mistaken
        else:
            if timeline.sizes is not None and timeline.sizes[number] != packet.size:
                raise Mistaken
            fed.append(number)
            if packet.is_keyframe:
                keys.add(number)
            if number in timeline.suspect:
                bad.add(number)
            awaited.discard(number)
            kept = not leave_out or number in wanted or number > newest
            newest = max(newest, number)
            if kept and number >= entry:
                due.add(number)
            if leave_out:
                context.skip_frame = "DEFAULT" if kept else "NONREF"
        return not awaited and further <= 0

    for frame in video.frames(before, chain([entry_packet], ahead, packets)):
        number = timeline.number(frame.pts)
        if number is not None and number < entry or frame.pts is not None and frame.pts < begin:
            continue  # made from frames before the key frame
        if number == entry and frame.pict_type in PREDICTED:
            raise Mistaken
        if number is None or (shown and number <= shown[-1]):
            if not bad and video.errors == errors:
                raise Mistaken
            bad.update({number} - {None})
            continue
        if frame.pict_type in PREDICTED:
            predicted.add(number)
        shown.append(number)
        if frame.is_corrupt:
            bad.add(number)
        if number in wanted:
            frames.write(number, frame)
    lost = due.difference(shown)
    silent = not bad and video.errors == errors
    if awaited or (lost and silent and (timeline.jumps or _hidden(context.name, lost, due))):
        raise Mistaken
    if lost or bad:
        if not careful:
            raise Damaged
        if lost | bad == {timeline.last} and not is_mov(video):
            raise Truncated(timeline.last)
        timeline.damaged |= _reach(timeline, fed, keys - predicted, lost | bad)
    if wanted & timeline.damaged:
        raise Damaged
    timeline.doubtful = False
    return True


def _hidden(codec: str, lost: set[int], due: set[int]) -> bool:
    """Whether packets are not frames, rather than frames lost: fields, pictures that are never shown, or a beginning
    that the decoder cannot show."""
    missing = sorted(lost)
    beginning = missing == list(range(len(missing)))
    fields = len(missing) > len(due) / 3 and not lost.intersection(number + 1 for number in lost)
    return codec in HIDING_DECODERS or beginning or fields


def _reach(timeline: Timeline, fed: list[int], keys: set[int], bad: set[int]) -> set[int]:
    """The frames that are made from bad ones: what is decoded after them, up to the next key frame that is whole.

    Args:
        fed: numbers in decoding order; `keys` are those of the key frames that are made from no other.
    """
    reached, spoilt, key = set(), False, 0
    for number in fed:
        if number in bad:
            spoilt = True
        elif number in keys:
            spoilt, key = False, number if spoilt else 0
        if spoilt or number < key:
            reached.add(number)
    if spoilt:
        last = max(fed)
        after = timeline.key_after(last) if timeline.jumps else None
        reached.update(range(last + 1, timeline.total if after is None else after))
    return reached


def _count(video: VideoFile, timeline: Timeline, wanted: np.ndarray, frames: FrameWriter):
    """Reads by counting from the beginning: to the end where the number of frames is that of the packets, which shows
    whether it is right; else up to the last of `wanted`."""
    video.restart(threads=1)
    remaining, spoilt, number = set(wanted.tolist()), False, -1
    for frame in video.frames():
        if video.errors:  # nobody knows the numbers of the frames that follow
            break
        number += 1
        spoilt = frame.is_corrupt or (spoilt and not frame.key_frame)
        if spoilt:
            timeline.damaged.add(number)
        elif number in remaining:
            frames.write(number, frame)
            remaining.remove(number)
        if timeline.counted and number == wanted[-1]:
            break
    if not timeline.counted and (video.errors or number + 1 != timeline.total):
        raise Mistaken
    if remaining:
        raise Damaged if remaining <= timeline.damaged else Mistaken
