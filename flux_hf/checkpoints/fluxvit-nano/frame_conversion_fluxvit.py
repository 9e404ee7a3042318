"""From decoded frames to upright RGB arrays."""

import av
import numpy as np

from .video_source_fluxvit import VideoDecodeError


class FrameWriter:
    """Converts frames to upright RGB, each into every place of one preallocated array where its number is wanted.

    Args:
        numbers: int array, the frame numbers wanted.
        short_side: see `read_video`.
        threads: of the conversion.
        name: of the video, for messages.
        transform: see `read_video`.

    Attributes:
        array: uint8 (len(numbers), height, width, 3), or what `transform` makes of it; None before the first
            frame, as `height` and `width`, the upright native size.
    """

    def __init__(self, numbers: np.ndarray, short_side: int | None, threads: int, name: str, transform=None):
        self._numbers, self._short_side, self._threads, self._name = numbers, short_side, threads, name
        self._transform = transform
        self._scaler, self._converter = av.video.reformatter.VideoReformatter(), av.video.reformatter.VideoReformatter()
        self.array = self.height = self.width = None

    def write(self, number: int, frame):
        """Puts a decoded frame, an `av.VideoFrame`, into every place of its number.

        Raises:
            VideoDecodeError: the frames do not fit into memory.
        """
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
        if self._transform is not None:
            rgb = self._transform(rgb)
        if self.array is None:
            self.array = self._empty((len(self._numbers), *rgb.shape))
        self.array[self._numbers == number] = rgb

    def _empty(self, shape: tuple) -> np.ndarray:
        try:
            return np.empty(shape, dtype=np.uint8)
        except MemoryError as error:
            count, height, width, _ = shape
            raise VideoDecodeError(
                self._name, f"{count} frames of {width} x {height} pixels do not fit into memory"
            ) from error


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
