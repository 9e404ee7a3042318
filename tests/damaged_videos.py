"""Damages encoded videos, reads them with `read_video`, and compares what comes with the undamaged video.

`read_damaged` runs in a process of its own: damage may end a process or stop it for ever.
"""

import faulthandler
import io
import json
import logging
import random
import sys
from collections import Counter
from pathlib import Path

import av
import numpy as np

from flux_hf.processing.frame_sampling_fluxvit import DECODING_MODES, sample_segments, segment_bounds
from flux_hf.processing.video_decoding_fluxvit import VideoDecodeError, read_video
from tests.video_files import encode_video, read_number

FRAMES = 48
SECONDS_A_FILE = 60
PACKET = 188  # bytes of a packet of mpeg-ts

X264 = {"preset": "veryfast", "g": "12", "bf": "2"}
FAST_VPX = {"cpu-used": "8", "deadline": "realtime", "g": "12"}
MPEG2 = {"g": "12", "bf": "2", "q": "2"}
KINDS = {
    "mp4": {"options": X264},
    "mp4, index first": {"options": X264, "container_options": {"movflags": "faststart"}},
    "mp4, fragmented": {"options": X264, "container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "mp4, one key frame": {"options": X264 | {"g": "999"}},
    "mp4, several slices": {"options": X264 | {"x264-params": "slices=3"}},
    "mp4, open GOP": {"options": {"x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0:bframes=3"}},
    "mp4, intra refresh": {"options": {"x264-params": "intra-refresh=1:keyint=16:scenecut=0"}},
    "mp4, hevc": {"codec": "libx265", "options": {"preset": "ultrafast", "g": "12", "x265-params": "log-level=none"}},
    "mov, mjpeg": {"container": "mov", "codec": "mjpeg", "pixels": "yuvj420p"},
    "mkv": {"container": "matroska", "options": X264},
    "mkv, ffv1": {"container": "matroska", "codec": "ffv1", "options": {"g": "12"}},
    "webm, vp8": {"container": "webm", "codec": "libvpx", "options": FAST_VPX},
    "webm, vp9": {"container": "webm", "codec": "libvpx-vp9", "options": FAST_VPX},
    "mpeg-ts": {"container": "mpegts", "options": X264},
    "mpeg-ts, mpeg2": {"container": "mpegts", "codec": "mpeg2video", "options": MPEG2},
    "mpeg-ps, mpeg2": {"container": "mpeg", "codec": "mpeg2video", "options": MPEG2},
    "mpeg-ps, mpeg1": {"container": "mpeg", "codec": "mpeg1video", "options": MPEG2},
    "m2v": {"container": "mpeg2video", "codec": "mpeg2video", "options": MPEG2},
    "avi, mpeg4": {"container": "avi", "codec": "mpeg4", "options": {"g": "12", "q": "3"}},
    "avi, mpeg4, B-frames": {"container": "avi", "codec": "mpeg4", "options": {"g": "12", "bf": "2", "q": "3"}},
    "avi, h264": {"container": "avi", "options": X264},
    "flv": {"container": "flv", "options": X264},
    "raw h264": {"container": "h264", "options": X264},
    "asf, wmv2": {"container": "asf", "codec": "wmv2", "options": {"g": "12", "q": "3"}},
    "ogg, vp8": {"container": "ogg", "codec": "libvpx", "options": FAST_VPX},
    "nut, mpeg4": {"container": "nut", "codec": "mpeg4", "options": {"g": "12", "bf": "2", "q": "3"}},
    "gif": {"container": "gif", "codec": "gif", "pixels": "rgb8"},
}
"""Arguments of `encode_video`."""


def _flip(data: bytearray, generator: random.Random, first: int, last: int, bits: int):
    for _ in range(bits):
        data[generator.randrange(first, last)] ^= 1 << generator.randrange(8)


def _replace(data: bytearray, generator: random.Random, content):
    length = generator.randrange(20, 500)
    start = generator.randrange(len(data) // 10, len(data) - length)
    data[start : start + length] = content(length)


def _cut_off(data: bytearray, generator: random.Random):
    del data[generator.randrange(len(data) // 10, len(data)) :]


def _lose_packets(data: bytearray, generator: random.Random):
    packets = [data[start : start + PACKET] for start in range(0, len(data), PACKET)]
    data[:] = b"".join(packet for number, packet in enumerate(packets) if number < 6 or generator.random() > 0.02)


DAMAGE = {
    "bits of the first kilobyte": lambda data, generator: _flip(data, generator, 0, 1000, 4),
    "bits of the last kilobyte": lambda data, generator: _flip(data, generator, len(data) - 1000, len(data), 4),
    "bits anywhere": lambda data, generator: _flip(data, generator, 0, len(data), 12),
    "a block of noise": lambda data, generator: _replace(data, generator, generator.randbytes),
    "a block of zeros": lambda data, generator: _replace(data, generator, bytes),
    "a block lost": lambda data, generator: _replace(data, generator, lambda length: b""),
    "a block put in": lambda data, generator: _replace(data, generator, lambda length: generator.randbytes(2 * length)),
    "the end lost": lambda data, generator: data.__delitem__(
        slice(generator.randrange(len(data) // 10, len(data)), None)
    ),
    "packets of 188 bytes lost": _lose_packets,
}


def damaged(data: bytes, damage: str, seed: int) -> bytes:
    """`data` (a file) with that kind of damage, the same for the same seed."""
    changed = bytearray(data)
    DAMAGE[damage](changed, random.Random(f"{damage} {seed}"))
    return bytes(changed)


def read_damaged(kinds: list[str], seeds: list[int], av_logging: bool, report: Path):
    """Read videos of those kinds with every damage, and write to `report` what went wrong, as JSON.

    The file that is being read is named on stdout before. A hang ends the process after `SECONDS_A_FILE`.

    The report is {"read", "refused": numbers of reads, "undetectable": number of wrong pictures that a plain decode
    shows too, without any sign of damage, "faults": list of texts}.
    """
    if av_logging:
        av.logging.set_level(av.logging.ERROR)
        logging.getLogger("libav").setLevel(logging.CRITICAL + 1)
    counts, faults = Counter(), []
    for kind in kinds:
        whole = encode_video(FRAMES, **KINDS[kind])
        original = [picture for picture, _, _ in _plain_decode(whole)]
        assert [_number(picture) for picture in original] == list(range(FRAMES)), kind
        for damage in DAMAGE:
            for seed in seeds:
                name = f"{kind}: {damage}, seed {seed}"
                print(name, flush=True)
                faulthandler.dump_traceback_later(SECONDS_A_FILE, exit=True)
                reader = _Reader(damaged(whole, damage, seed), original)
                reader.read(random.Random(name))
                counts.update(reader.counts)
                faults += [f"{name}: {fault}" for fault in reader.faults()]
    faulthandler.cancel_dump_traceback_later()
    report.write_text(json.dumps({**counts, "faults": faults}))
    sys.stdout.flush()


class _Reader:
    """Reads a damaged file in many ways and judges every picture that comes.

    A picture is right when it is, pixel for pixel, one of the undamaged video; which, says the number drawn into it.
    """

    def __init__(self, data: bytes, original: list[np.ndarray]):
        self.data, self.original = data, original
        self.counts, self.found = Counter(read=0, refused=0, undetectable=0), []
        self.shown: dict[int, set[int]] = {}
        seen = {group for _, tainted, group in _plain_decode(data, "NONREF") if tainted}
        self.plain = [
            (picture.tobytes(), self.number_if_right(picture), tainted, group in seen)
            for picture, tainted, group in _plain_decode(data)
        ]
        self.all_right = [number for _, number, tainted, _ in self.plain if not tainted] == list(range(len(original)))

    def number_if_right(self, picture: np.ndarray) -> int | None:
        number = _number(picture)
        if number is None or number >= len(self.original):
            return None
        return number if np.array_equal(picture, self.original[number]) else None

    def read(self, generator: random.Random):
        wanted = [[number] for number in generator.sample(range(FRAMES), 10)]
        wanted += [sorted(generator.sample(range(FRAMES), 5)) for _ in range(2)] + [None]
        for place, numbers in enumerate(wanted):
            self._read_once(f"frames {numbers}", numbers, threads=place % 2)
        for mode in DECODING_MODES:
            for count in (4, 16):
                self._sample(mode, count)

    def _sample(self, mode: str, count: int):
        what = f"{mode}, {count} frames"
        metadata = self._read_once(what, lambda metadata: sample_segments(metadata, count, mode), threads=0)
        if metadata is not None and metadata.total_num_frames > count:
            first, last = segment_bounds(metadata.total_num_frames, count)
            # The middles are those of the official code, whose segments are cut a little differently.
            if not ((first - 1 <= metadata.frames_indices) & (metadata.frames_indices <= last + 1)).all():
                self.found.append(f"{what}: {metadata.frames_indices} are outside of their segments")

    def _read_once(self, what: str, indices, threads: int):
        self.counts["read"] += 1
        try:
            pictures, metadata = read_video(io.BytesIO(self.data), indices, threads=threads)
        except VideoDecodeError as error:
            self.counts["refused"] += 1
            if self.all_right:
                self.found.append(f"{what}: a plain decode shows all frames, but {error}")
            return None
        except Exception as error:
            self.found.append(f"{what}: {type(error).__name__}: {error}")
            return None
        for index, picture in zip(metadata.frames_indices, pictures, strict=True):
            self._judge(what, int(index), picture)
        return metadata

    def _judge(self, what: str, index: int, picture: np.ndarray):
        number = self.number_if_right(picture)
        if number is not None:
            self.shown.setdefault(index, set()).add(number)
            if self.all_right and number != index:
                self.found.append(f"{what}: frame {index} shows {number}, a plain decode is right")
            return
        if picture.shape != self.original[0].shape:  # the header says that it is turned
            return
        same = [tainted and seen for content, _, tainted, seen in self.plain if content == picture.tobytes()]
        if same and all(same):
            self.found.append(f"{what}: frame {index} is damaged, and a plain decode knows it")
        elif not same and self.plain[index : index + 1] and self.plain[index][1:3] == (index, False):
            self.found.append(f"{what}: frame {index} is damaged, in a plain decode it is right")
        else:
            self.counts["undetectable"] += 1

    def faults(self) -> list[str]:
        for index, numbers in self.shown.items():
            if len(numbers) > 1:
                self.found.append(f"frame {index} shows {sorted(numbers)}, depending on how it is read")
        unseen = {index for index, (_, _, tainted, seen) in enumerate(self.plain) if tainted and not seen}
        order = [min(self.shown[index]) for index in sorted(self.shown) if index not in unseen]
        plain = [number for _, number, tainted, _ in self.plain if number is not None and not tainted]
        # Lost data may repeat a picture exactly, and no decoder sees that.
        if order != sorted(set(order)) and plain == sorted(set(plain)):
            self.found.append(f"frames {sorted(self.shown)} show {order}")
        return self.found


def _plain_decode(data: bytes, skip: str = "DEFAULT") -> list[tuple[np.ndarray, bool, int]]:
    """All pictures in the order they come, with one thread; whether an error came between the last key frame and it;
    and the number of key frames up to it. `skip` "NONREF" leaves out what no other picture is made from, and the errors
    in it: a reader that does so too cannot know them."""
    pictures, tainted, group = [], False, 0
    try:
        with av.open(io.BytesIO(data), metadata_errors="ignore") as container:
            streams = [stream for stream in container.streams.video if stream.codec_context is not None]
            for stream in streams[:1]:
                stream.thread_type, stream.codec_context.thread_count = "SLICE", 1
                stream.codec_context.skip_frame = skip
                for packet in container.demux(stream):
                    tainted |= packet.is_corrupt
                    try:
                        frames = packet.decode()
                    except av.error.FFmpegError:
                        tainted = True
                        continue
                    for frame in frames:
                        tainted = frame.is_corrupt or (tainted and not frame.key_frame)
                        group += frame.key_frame
                        pictures.append((frame.to_ndarray(format="rgb24"), tainted, group))
    except (av.error.FFmpegError, IndexError):  # IndexError: of PyAV, where a stream appears while reading
        pass
    return pictures


def _number(picture: np.ndarray) -> int | None:
    try:
        return read_number(picture)
    except (AssertionError, ValueError):
        return None
