"""Video files of several codecs, from good to bad, once or twice encoded; equal frames give equal bytes."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from flux_hf.files import whole_file


@dataclass(frozen=True)
class Codec:
    """
    Attributes:
        encoder: its name in FFmpeg.
        container: format of the file.
        suffix: of its name.
        scale: option that sets the quality: a crf, or a quantiser of libav's own encoders.
        best, worst: range of it that is drawn from.
    """

    encoder: str
    container: str
    suffix: str
    scale: str
    best: int
    worst: int


CODECS = {
    "h264": Codec("libx264", "mp4", ".mp4", "crf", 18, 40),
    "hevc": Codec("libx265", "mp4", ".mp4", "crf", 18, 40),
    "vp8": Codec("libvpx", "matroska", ".mkv", "crf", 8, 58),
    "vp9": Codec("libvpx-vp9", "matroska", ".mkv", "crf", 20, 58),
    "mpeg4": Codec("mpeg4", "avi", ".avi", "q", 2, 18),
    "mjpeg": Codec("mjpeg", "avi", ".avi", "q", 2, 22),
}
SHARES = (0.36, 0.16, 0.12, 0.12, 0.14, 0.10)


@dataclass(frozen=True)
class Encoding:
    """One generation: the codec's name, its own figure of quality (lower is better) and frames between key frames."""

    codec: str
    quality: int
    key_frames: int


def draw_encodings(rng: np.random.Generator) -> list[Encoding]:
    """One generation, or two for a quarter of the clips; the last one is the file's."""
    return [_draw_encoding(rng) for _ in range(2 if rng.random() < 0.25 else 1)]


def _draw_encoding(rng: np.random.Generator) -> Encoding:
    name = str(rng.choice(list(CODECS), p=SHARES))
    return Encoding(name, int(rng.integers(CODECS[name].best, CODECS[name].worst + 1)), int(rng.integers(8, 250)))


def write_clip(path: Path, frames: Iterable[np.ndarray], encodings: list[Encoding], frame_rate: int | Fraction) -> None:
    """Encode uint8 frames (height, width, 3) to `path`, which appears when it is whole; each generation is made of
    what the one before decodes to."""
    for encoding in encodings[:-1]:
        file = io.BytesIO()
        _encode(file, frames, encoding, frame_rate)
        frames = _decode(file)
    with whole_file(path) as partial:
        _encode(str(partial), frames, encodings[-1], frame_rate)


def _encode(target, frames: Iterable[np.ndarray], encoding: Encoding, frame_rate: int | Fraction) -> None:
    codec = CODECS[encoding.codec]
    with av.open(target, "w", format=codec.container, options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(codec.encoder, rate=frame_rate, options=_options(encoding))
        stream.pix_fmt = "yuvj420p" if encoding.codec == "mjpeg" else "yuv420p"
        stream.thread_count = 1
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        stream.codec_context.gop_size = encoding.key_frames
        for place, array in enumerate(frames):
            if place == 0:
                stream.height, stream.width = array.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode(None))


def _options(encoding: Encoding) -> dict[str, str]:
    quality = str(encoding.quality)
    if encoding.codec == "h264":
        preset = "veryfast" if encoding.key_frames % 2 else "ultrafast"
        # With mbtree the bytes differ from run to run where x264 uses AVX-512 and the width is no multiple of 16.
        return {"crf": quality, "preset": preset, "x264-params": "mbtree=0"}
    if encoding.codec == "hevc":
        return {"crf": quality, "preset": "ultrafast", "x265-params": "pools=none:frame-threads=1:log-level=none"}
    if encoding.codec in ("vp8", "vp9"):
        # A positive speed lets VP8 choose its search by the clock.
        return {"crf": quality, "b": "0" if encoding.codec == "vp9" else "4M", "deadline": "realtime", "cpu-used": "-8"}
    return {"qmin": quality, "qmax": quality}


def _decode(file: io.BytesIO) -> Iterator[np.ndarray]:
    file.seek(0)
    with av.open(file) as container:
        container.streams.video[0].thread_count = 1
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")
