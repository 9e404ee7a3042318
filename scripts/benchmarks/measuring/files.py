"""Video files to decode: a few seconds are encoded and repeated until the file is long enough."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from flux_hf.files import whole_file

RATE = 30


@dataclass(frozen=True)
class FileKind:
    """A file to measure with.

    Attributes:
        seconds, width, height: of the video.
        key_every: frames between key frames.
        codec: "libx264" (mp4) or "libvpx-vp9" (webm).
        rate: frames a second.
    """

    seconds: int
    width: int
    height: int
    key_every: int = 250
    codec: str = "libx264"
    rate: int = RATE

    @property
    def name(self) -> str:
        length = f"{self.seconds // 60} min" if self.seconds % 60 == 0 and self.seconds > 60 else f"{self.seconds} s"
        codec = "H.264" if self.codec == "libx264" else "VP9"
        rate = "" if self.rate == RATE else f" {self.rate} frames/s"
        return f"{length}{rate} {self.width}x{self.height} {codec}, key frame every {self.key_every}"

    @property
    def file_name(self) -> str:
        ending = "mp4" if self.codec == "libx264" else "webm"
        rate = "" if self.rate == RATE else f"_{self.rate}fps"
        return f"{self.codec}_{self.width}x{self.height}_{self.seconds}s_{self.key_every}{rate}.{ending}"


HD, FULL_HD = (1280, 720), (1920, 1080)
WEBM_FILES = [FileKind(seconds, *HD, 128, "libvpx-vp9") for seconds in (60, 600)]
FILES = [
    *(FileKind(seconds, *size, key) for seconds in (60, 600) for size in (HD, FULL_HD) for key in (250, 48)),
    *WEBM_FILES,
    FileKind(10, 340, 256),
]
FEW_KEY_FRAMES_FILE = FileKind(60, *HD, rate=25)
"""Six key frames, where a grid of eight frames has eight segments."""
SCALED_FILES = [*(FileKind(60, *size, key) for size in (HD, FULL_HD) for key in (48, 250)), FileKind(10, 340, 256)]
MEMORY_FILES = (FileKind(10, *FULL_HD), FileKind(600, *FULL_HD))
"""A short and a long file that differ in nothing else."""
QUICK_FILES = [FileKind(60, *HD), FileKind(600, *HD), FileKind(60, *HD, 128, "libvpx-vp9"), FileKind(10, 340, 256)]


def video_file(kind: FileKind, folder: Path) -> Path:
    """The path of such a file, made when it is not there yet: two groups of pictures of a moving texture, repeated."""
    path = folder / kind.file_name
    if path.exists():
        return path
    frames = kind.seconds * kind.rate
    packets = _encoded(kind, min(2 * kind.key_every, frames))
    with whole_file(path) as partial, av.open(str(partial), "w") as output:
        stream = _stream(output, kind)
        stream.codec_context.open()
        if packets["extradata"]:
            stream.codec_context.extradata = packets["extradata"]
        for start in range(0, frames, 2 * kind.key_every):
            for content, pts, dts, key in packets["packets"]:
                if start + pts < frames:
                    packet = av.Packet(content)
                    packet.pts, packet.dts, packet.is_keyframe = start + pts, start + dts, key
                    packet.time_base, packet.stream = Fraction(1, kind.rate), stream
                    output.mux(packet)
    return path


def _stream(output, kind: FileKind):
    fast = {"preset": "ultrafast", "bf": "2", "sc_threshold": "0", "keyint_min": str(kind.key_every)}
    if kind.codec != "libx264":
        fast = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "keyint_min": str(kind.key_every)}
    stream = output.add_stream(kind.codec, rate=kind.rate, options={"g": str(kind.key_every), **fast})
    stream.width, stream.height, stream.pix_fmt = kind.width, kind.height, "yuv420p"
    stream.bit_rate = 4_000_000 if kind.height > 300 else 500_000
    return stream


def _encoded(kind: FileKind, count: int) -> dict:
    coarse = np.random.default_rng(0).integers(30, 220, (kind.height // 16 + 8, kind.width // 16 + 40), np.uint8)
    texture = coarse.repeat(16, 0).repeat(16, 1)
    chroma = np.full((kind.height // 2, kind.width), 128, np.uint8)
    packets = []
    with av.open("/dev/null", "w", format="matroska") as output:
        stream = _stream(output, kind)
        for number in range(count):
            left = 2 * number % (texture.shape[1] - kind.width)
            luma = texture[: kind.height, left : left + kind.width]
            frame = av.VideoFrame.from_ndarray(np.concatenate([luma, chroma]), "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, kind.rate)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        rows = [(bytes(packet), *_frames(packet, kind.rate), packet.is_keyframe) for packet in packets]
        return {"packets": rows, "extradata": stream.codec_context.extradata}


def _frames(packet, rate: int) -> tuple[int, int]:
    """Presentation and decoding time in frames."""
    return tuple(round(stamp * packet.time_base * rate) for stamp in (packet.pts, packet.dts))
