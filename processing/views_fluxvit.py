"""The views of a video whose scores are averaged: temporal clips x spatial crops, all from one decoding."""

from dataclasses import dataclass

import numpy as np
import torch
from transformers.video_utils import VideoMetadata

from .cropping_fluxvit import crops_along_longer_side
from .frame_sampling_fluxvit import cut, intact_frames, sample_segments, segment_middles
from .grid_fluxvit import Framing, Grid
from .video_batch_fluxvit import flat_videos

CLIP_SAMPLINGS = ("middles", "ticks")


@dataclass(frozen=True)
class Views:
    """How many views of a video are scored, and which frames they take.

    Attributes:
        num_clips: temporal clips. Kinetics: 4, Something-Something: 2.
        num_crops: spatial crops, evenly along the longer side; 1 is the central one. The paper takes 3.
        clip_sampling: "middles" takes the same place in each segment (`segment_middles`; the official evaluation on
            Kinetics; one clip is what the processor takes), "ticks" takes every S-th of frames * S even steps, from
            the first frame on (the official evaluation on Something-Something).
    """

    num_clips: int = 1
    num_crops: int = 1
    clip_sampling: str = "middles"

    def __post_init__(self):
        if self.num_clips < 1 or self.num_crops < 1:
            raise ValueError(f"num_clips and num_crops must be >= 1, got {self.num_clips} and {self.num_crops}")
        if self.clip_sampling not in CLIP_SAMPLINGS:
            raise ValueError(f"clip_sampling must be one of {', '.join(CLIP_SAMPLINGS)}, got {self.clip_sampling!r}")

    @property
    def count(self) -> int:
        return self.num_clips * self.num_crops

    @property
    def one_clip(self) -> bool:
        """Whether they take the frames that the processor takes; the others are those of a protocol."""
        return self.num_clips == 1 and self.clip_sampling == "middles"


def clip_frames(total: int, num_frames: int, views: Views) -> np.ndarray:
    """Frame numbers (clips, num_frames) of a video of `total` frames, as the official protocol takes them.

    "ticks": clip c of S takes frame int(c * t / S + t * i) with t = total / num_frames; a video that is shorter than
    `num_frames` repeats frames.
    """
    if views.clip_sampling == "middles":
        return np.stack([segment_middles(total, num_frames, c, views.num_clips) for c in range(views.num_clips)])
    # In whole numbers: c * t / S + t * i = total * (c + i * S) / (num_frames * S).
    steps = np.arange(views.num_clips)[:, None] + np.arange(num_frames) * views.num_clips
    return total * steps // (num_frames * views.num_clips)


def frames_to_decode(metadata, num_frames: int, views: Views, decoding: str) -> np.ndarray:
    """Frame numbers (clips, num_frames): one clip of "middles" is what the processor takes with `decoding`,
    several clips and "ticks" are those of the protocol, see `clip_frames`; of all `intact_frames`."""
    if views.one_clip:
        return sample_segments(metadata, num_frames, decoding)[None]
    clips = clip_frames(metadata.total_num_frames, num_frames, views)
    return np.stack([intact_frames(numbers, metadata) for numbers in clips])


def check_processor(processor, views: Views):
    """Raises ValueError, naming the option, for a processor whose settings leave nothing to make views of."""
    for name in ("do_sample_frames", "do_resize", "do_center_crop"):
        if not getattr(processor, name):
            raise ValueError(f"views are sampled, resized and cropped, the processor has {name}=False")
    if processor.fps is not None:
        raise ValueError(f"views have a fixed number of frames, the processor has fps={processor.fps}")
    if views.num_crops > 1 and processor.size is not None and processor.size.height:
        raise ValueError(
            "num_crops > 1 needs frames that keep their aspect ratio; the processor has "
            f"size={dict(processor.size)}, accepted is shortest_edge"
        )


def read_views(
    video,
    processor,
    wanted: list[tuple[int | None, Grid | None]],
    views: Views,
    *,
    start: float | None = None,
    end: float | None = None,
    num_frames: int | None = None,
) -> tuple[list[Framing], dict[Framing, torch.Tensor], VideoMetadata]:
    """Decode a video once and make all its views in all framings that are wanted of it.

    Args:
        video: anything a `FluxVideoProcessor` takes, one of it.
        processor: the `FluxVideoProcessor` whose pixels the views are; `check_processor` says which.
        wanted: pairs of a token budget (None: the processor's) and the grid for it (None: the processor's choice). Both
            are cut down to the video where the processor says so (`fit_source`), and with its `decoding` "keyframes"
            one clip follows the video's key frames.
        start, end: seconds; all views are of the part between them, as if it were the whole video. Default: no cut.
        num_frames: instead of the grids' number of frames.

    Returns:
        the framing of each that is wanted; framing -> pixels (clips * crops, frames, channels, height, width), clip
        by clip; and what `take_frames` says of the video.

    Raises:
        VideoDecodeError: the video cannot be read, or has no frame between the times.
    """
    (video,) = flat_videos(video)
    framings, numbers = [], {}

    def choose(metadata) -> np.ndarray:
        first, part = cut(metadata, video, start, end)
        source = (part.total_num_frames, min(part.height, part.width)) if processor.fit_source else None
        options = {"source": source, "num_frames": num_frames, "metadata": part if views.one_clip else None}
        framings[:] = [processor.framing(budget, grid=grid, **options) for budget, grid in wanted]
        numbers.clear()
        for framing in set(framings):
            numbers[framing] = first + frames_to_decode(part, framing.frames, views, processor.decoding)
        return np.unique(np.concatenate([clips.ravel() for clips in numbers.values()]))

    frames, metadata = processor.take_frames(video, choose)
    decoded = np.asarray(metadata.frames_indices)
    pixels = {}
    for framing, clips in numbers.items():
        needed = np.unique(clips)
        crops = _crops(frames[np.searchsorted(decoded, needed)], processor, framing, views.num_crops)
        places = np.searchsorted(needed, clips)
        pixels[framing] = torch.stack([crop[place] for place in places for crop in crops])
    return framings, pixels, metadata


def _crops(frames, processor, framing: Framing, num_crops: int) -> list[torch.Tensor]:
    """The frames, which are those of several clips and so any number of them, once for each crop."""
    height, width = framing.crop
    options = {"do_sample_frames": False, "tubelet_size": 1, "size": dict(framing.resize), "return_tensors": "pt"}
    if num_crops == 1:
        options["crop_size"] = {"height": height, "width": width}
    else:
        options["do_center_crop"] = False
    (video,) = processor(frames, **options)["pixel_values_videos"]
    return [video] if num_crops == 1 else crops_along_longer_side(video, height, width, num_crops)


__all__ = ["Views", "check_processor", "clip_frames", "frames_to_decode", "read_views"]
