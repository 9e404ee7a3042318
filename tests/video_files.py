"""Encodes small video files for tests, with the number of each frame drawn into its pixels.

The number is drawn as `BITS` blocks, 4 a row, bright for 1 and dark for 0, big enough to survive lossy codecs, scaling
and conversion to grey.
"""

import io
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np

BITS = 12


def number_picture(number: int, height: int = 96, width: int = 128) -> np.ndarray:
    """uint8 picture (height, width, 3) that shows `number`, from 0 to 4095."""
    picture = np.full((height, width, 3), 128, np.uint8)
    for bit, (rows, columns) in enumerate(_blocks(height, width)):
        picture[rows, columns] = 235 if number >> bit & 1 else 20
    return picture


def read_number(picture: np.ndarray) -> int:
    """The number that a picture (height, width, 3) shows. Fails if a block is neither clearly bright nor dark."""
    number = 0
    for bit, (rows, columns) in enumerate(_blocks(*picture.shape[:2])):
        block = picture[rows, columns]
        quarter_h, quarter_w = block.shape[0] // 4, block.shape[1] // 4
        level = block[quarter_h : -quarter_h or None, quarter_w : -quarter_w or None].mean()
        assert abs(level - 128) > 40, f"block {bit} is unclear: {level:.0f}"
        number |= int(level > 128) << bit
    return number


def read_numbers(frames: np.ndarray) -> list[int]:
    """The numbers that frames (frames, height, width, 3) show."""
    return [read_number(frame) for frame in frames]


def encode_video(
    num_frames: int = 100,
    container: str = "mp4",
    codec: str = "libx264",
    pixels: str = "yuv420p",
    height: int = 96,
    width: int = 128,
    rate: int = 25,
    options: dict | None = None,
    container_options: dict | None = None,
    milliseconds: list[int] | None = None,
    display_matrix: list[int] | None = None,
    picture=number_picture,
) -> bytes:
    """A video file as bytes.

    Args:
        options, container_options: for the codec and the container.
        milliseconds: time stamp of each frame; default a steady `rate`.
        display_matrix: nine integers, 65536 meaning 1 in the first two columns.
        picture: function (number, height, width) -> uint8 array (height, width, 3), stored as it is.
    """
    options = dict(options or {})
    if codec == "libx265":  # its thread pool ends in a segmentation fault once in some thousand files
        options["x265-params"] = ":".join([*filter(None, [options.get("x265-params")]), "pools=none:frame-threads=1"])
    with TemporaryDirectory() as folder:
        path = Path(folder, "video")
        with av.open(str(path), "w", format=container, options=container_options or {}) as output:
            stream = output.add_stream(codec, rate=rate, options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, pixels
            stream.codec_context.thread_count = 1
            if milliseconds:
                stream.codec_context.time_base = Fraction(1, 1000)
            if display_matrix:
                stream.set_display_matrix(display_matrix)
            for number in range(num_frames):
                frame = av.VideoFrame.from_ndarray(picture(number, height, width), format="rgb24")
                if milliseconds:
                    frame.pts, frame.time_base = milliseconds[number], Fraction(1, 1000)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        return path.read_bytes()


def encode_sound(container: str = "wav", codec: str = "pcm_s16le", cover: bool = False) -> bytes:
    """An audio file of half a second as bytes, with a cover picture or without."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=16000)
        if cover:
            picture = output.add_stream("png", rate=1)
            picture.width, picture.height, picture.pix_fmt = 128, 96, "rgb24"
            picture.disposition = av.stream.Disposition.attached_pic
            output.mux(picture.encode(av.VideoFrame.from_ndarray(number_picture(1), format="rgb24")))
            output.mux(picture.encode(None))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 16000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def _blocks(height: int, width: int):
    block_h, block_w = height // 4, width // 4
    for bit in range(BITS):
        row, column = divmod(bit, 4)
        yield slice(row * block_h, (row + 1) * block_h), slice(column * block_w, (column + 1) * block_w)
