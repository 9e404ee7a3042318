"""The last seconds of a stream: a bounded number of its pictures, scaled down."""

import math
import threading
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from flux_hf.processing.frame_conversion_fluxvit import FrameWriter

FINENESS = 4
"""Pictures that are kept for each that a window shows: it is at most an eighth of a segment away from the middle."""


@dataclass(frozen=True)
class Window:
    """The last seconds, as a model is to see them.

    Attributes:
        frames: uint8 (frames, height, width, 3), one of each of equally long segments, that nearest to its middle.
        times: when they are shown, seconds of the stream's own time.
        start, end: of the window, in the same time.
        arrival: when its newest picture came, in seconds of the clock.
    """

    frames: np.ndarray
    times: list[float]
    start: float
    end: float
    arrival: float


class Ring:
    """Takes every picture of a stream, keeps those of the last seconds that windows are made of: the first of each of
    `FINENESS * most_frames` equal parts, and all of them while they are no more than that many, as of a short clip.

    Args:
        seconds: length of a window.
        most_frames: the most that a window is asked for.
        short_side: to which pictures are scaled down, in pixels.

    Attributes:
        condition: notified at every new picture.
        newest: number of pictures that came.
    """

    def __init__(self, seconds: float, most_frames: int, short_side: int):
        self._seconds, self._places = seconds, FINENESS * most_frames
        self._place = seconds / self._places
        self._short_side, self._size, self._writer = short_side, None, None
        self._kept: deque[tuple[float, np.ndarray]] = deque()
        self._end = self._arrival = self._next = None
        self.condition, self.newest = threading.Condition(), 0

    def clear(self) -> None:
        """Forget everything, as after a break: what comes next has nothing to do with it."""
        with self.condition:
            self._kept.clear()
            self._end = self._arrival = self._next = None

    def add(self, time: float, arrival: float, frame) -> None:
        """Take the next picture, an `av.VideoFrame` shown at `time`. Where its size is another, or its time a whole
        window away from the last one's, everything before is forgotten; one that is only a little late is left out."""
        if self._size != (frame.width, frame.height):
            self._size = frame.width, frame.height
            self._writer = FrameWriter(np.zeros(1, np.int64), self._short_side, 1, "")
            self.clear()
        if self._end is not None and abs(time - self._end) >= self._seconds:
            self.clear()
        if self._end is not None and time <= self._end:
            return
        wanted = self._next is None or time >= self._next
        if wanted:
            self._writer.write(0, frame)
            picture = self._writer.array[0].copy()
        with self.condition:
            self._end, self._arrival = time, arrival
            self.newest += 1
            if wanted:
                self._kept.append((time, picture))
                if self._next is not None:
                    self._next = self._after(time)
                elif len(self._kept) > self._places:
                    self._thin()
            while len(self._kept) > 1 and self._kept[1][0] <= time - self._seconds:
                self._kept.popleft()
            self.condition.notify_all()

    def _after(self, time: float) -> float:
        """The beginning of the next part."""
        return self._place * (time // self._place + 1)

    def _thin(self) -> None:
        everything = list(self._kept)
        self._kept.clear()
        self._next = -math.inf
        for time, picture in everything:
            if time >= self._next:
                self._kept.append((time, picture))
                self._next = self._after(time)

    def window(self, num_frames: int, short: bool = False) -> Window | None:
        """The window that ends with the newest picture; None before its length has passed, unless it may be `short`."""
        with self.condition:
            kept, end, arrival = list(self._kept), self._end, self._arrival
        if not kept or (not short and end - kept[0][0] < self._seconds - self._place):
            return None
        start = max(end - self._seconds, kept[0][0]) if short else end - self._seconds
        taken = [_nearest(kept, start + (end - start) * (i + 0.5) / num_frames) for i in range(num_frames)]
        return Window(np.stack([picture for _, picture in taken]), [time for time, _ in taken], start, end, arrival)


def _nearest(kept: list[tuple[float, np.ndarray]], time: float) -> tuple[float, np.ndarray]:
    place = bisect_left(kept, time, key=itemgetter(0))
    around = kept[max(place - 1, 0) : place + 1]
    return min(around, key=lambda entry: abs(entry[0] - time))
