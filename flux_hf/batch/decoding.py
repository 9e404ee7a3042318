"""From one video, or a part of a film, to the small frames that its clips are made of; runs in worker processes."""

import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from transformers.image_utils import SizeDict

from flux_hf.batch.windows import window_times
from flux_hf.processing.frame_sampling_fluxvit import cut
from flux_hf.processing.grid_fluxvit import Framing
from flux_hf.processing.video_decoding_fluxvit import read_video  # noqa: F401 (PyAV, before workers are forked)
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.processing.video_source_fluxvit import VideoDecodeError
from flux_hf.processing.views_fluxvit import Views, frames_to_decode

MOST_BYTES = 2**26
"""Of the small frames that a worker hands over at once. A film that has more is read in parts."""


@dataclass(frozen=True)
class Decoder:
    """What worker processes do with a video.

    Attributes:
        processor: makes the clips.
        token_budget: chooses the grid.
        window, stride: seconds; None: a video is one clip.
    """

    processor: FluxVideoProcessor
    token_budget: int | str | None
    window: float | None = None
    stride: float | None = None

    def __call__(self, video: dict, number: int = 0) -> "Part":
        """Part `number` of a video.

        Args:
            video: {"path" and/or "bytes", and optionally "start" and "end" in seconds}.
        """
        started = time.perf_counter()
        try:
            clips, parts = self._clips(video, number)
        except (VideoDecodeError, MemoryError) as error:
            return Part([], 1, _milliseconds(started), str(error) or "it does not fit into memory")
        return Part(clips, parts, _milliseconds(started))

    def _clips(self, video: dict, number: int) -> tuple[list["Clips"], int]:
        source = {"path": video.get("path"), "bytes": video.get("bytes")}
        looks, parts, done = [], 1, []

        def choose(metadata) -> np.ndarray:
            nonlocal parts
            times, parts = self._times(metadata, video, number)
            looks[:] = [self._look(metadata, source, *span) for span in times]
            current = [look for look in looks if look.shape not in done]
            if not current:
                return np.zeros(1, np.int64)
            return np.unique(np.concatenate([look.numbers for look in current if look.shape == current[0].shape]))

        def small(frame: np.ndarray) -> np.ndarray:
            resize, crop = next(look.shape for look in looks if look.shape not in done)
            return self._small(frame, resize, crop)

        clips = []
        while not done or any(look.shape not in done for look in looks):
            frames, metadata = self.processor.take_frames(source, choose, transform=small)
            left = [look.shape for look in looks if look.shape not in done]
            if not left:
                break
            done.append(left[0])
            decoded = np.asarray(metadata.frames_indices)
            group = [look for look in looks if look.shape == left[0]]
            clips.append(
                Clips(frames, [(look.start, look.end, np.searchsorted(decoded, look.numbers)) for look in group])
            )
        return clips, parts

    def _times(self, metadata, video: dict, number: int) -> tuple[list[tuple], int]:
        """Start and end of the windows of a part, and how many parts there are."""
        if self.window is None:
            return [(video.get("start"), video.get("end"))], 1
        first, film = cut(metadata, video, video.get("start"), video.get("end"))
        if not film.duration:
            raise VideoDecodeError(video.get("path") or "a video", "windows need its frame rate, which it does not say")
        offset = first / metadata.fps
        times = [
            (round(offset + start, 6), round(offset + end, 6))  # what is answered is what is said
            for start, end in window_times(film.duration, self.window, self.stride)
        ]
        framing = self.processor.framing(self.token_budget)
        each = max(1, MOST_BYTES // (3 * framing.frames * framing.crop[0] * framing.crop[1]))
        return times[number * each : (number + 1) * each], -(-len(times) // each)

    def _look(self, metadata, source: dict, start: float | None, end: float | None) -> "_Look":
        first, part = cut(metadata, source, start, end)
        held = (part.total_num_frames, min(part.height, part.width)) if self.processor.fit_source else None
        framing = self.processor.framing(self.token_budget, source=held, metadata=part)
        numbers = frames_to_decode(part, framing.frames, Views(), self.processor.decoding)[0]
        return _Look(start, end, first + numbers, framing)

    def _small(self, frame: np.ndarray, resize: SizeDict, crop: tuple[int, int]) -> np.ndarray:
        """One frame as the processor resizes and crops it."""
        picture = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None]
        height, width = crop
        picture = self.processor.resize(picture, size=resize, resample=self.processor.resample)
        picture = self.processor.center_crop(picture, SizeDict(height=height, width=width))
        return picture[0].permute(1, 2, 0).numpy()


@dataclass
class Clips:
    """Frames, uint8 (frames, height, width, 3), and the clips that they make: start and end in seconds (None: of the
    video) and the places of their frames."""

    frames: np.ndarray
    windows: list[tuple[float | None, float | None, np.ndarray]]


@dataclass
class Part:
    """What came of a part of a video: its clips, how many parts the video has, the milliseconds that reading took, and
    why it cannot be read."""

    clips: list[Clips]
    parts: int
    milliseconds: float
    error: str | None = None


class _Look(NamedTuple):
    start: float | None
    end: float | None
    numbers: np.ndarray
    framing: Framing

    @property
    def shape(self) -> tuple:
        return self.framing.resize, self.framing.crop


def _milliseconds(started: float) -> float:
    return 1000 * (time.perf_counter() - started)
