"""The views of a video that an evaluation averages: temporal clips x spatial crops, all from one decoding."""

from dataclasses import dataclass

import numpy as np
import torch
from transformers.image_utils import SizeDict

from flux_hf.data.reading import cut
from flux_hf.processing.cropping_fluxvit import crops_along_longer_side
from flux_hf.processing.frame_sampling_fluxvit import sample_segments, segment_middles
from flux_hf.processing.video_decoding_fluxvit import read_video
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor

CLIP_SAMPLINGS = ("middles", "ticks")

Grid = tuple[int, int]
"""(frames, size in pixels)"""


@dataclass(frozen=True)
class Views:
    """How many views of a video are scored, and which frames they take.

    Attributes:
        num_clips: temporal clips. Kinetics: 4, Something-Something: 2.
        num_crops: spatial crops, squares evenly along the longer side; 1 is the central one. The paper takes 3.
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


def clip_frames(total: int, num_frames: int, views: Views) -> np.ndarray:
    """Frame numbers (clips, num_frames) of a video of `total` frames.

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
    several clips and "ticks" are those of the protocol, see `clip_frames`."""
    if views.num_clips == 1 and views.clip_sampling == "middles":
        return sample_segments(metadata, num_frames, decoding)[None]
    return clip_frames(metadata.total_num_frames, num_frames, views)


def check_processor(processor: FluxVideoProcessor, views: Views):
    """Raises ValueError, naming the option, for a processor whose settings leave nothing to make views of."""
    for name in ("do_sample_frames", "do_resize", "do_center_crop"):
        if not getattr(processor, name):
            raise ValueError(f"evaluation samples, resizes and crops; the processor has {name}=False")
    if processor.fps is not None:
        raise ValueError(f"evaluation takes a fixed number of frames; the processor has fps={processor.fps}")
    if views.num_crops > 1 and processor.size is not None and processor.size.height:
        raise ValueError(
            "num_crops > 1 needs frames that keep their aspect ratio; the processor has "
            f"size={dict(processor.size)}, accepted is shortest_edge"
        )


def read_views(
    source,
    processor: FluxVideoProcessor,
    choose_grids,
    views: Views,
    *,
    start: float | None = None,
    end: float | None = None,
) -> tuple[list[Grid], dict[Grid, torch.Tensor]]:
    """Decode a video once and make all its views on all grids that are wanted of it.

    Args:
        source: anything `read_video` takes.
        choose_grids: function ((frames, short side of the video)) -> list of grids, which may repeat.
        start, end: seconds; all views are of the part between them, as if it were the whole video. Default: no cut.

    Returns:
        the grids as chosen, and grid -> pixels (clips * crops, frames, channels, height, width), clip by clip.

    Raises:
        VideoDecodeError: the video cannot be read, or has no frame between the times.
    """
    grids, numbers = [], {}

    def wanted(metadata) -> np.ndarray:
        first, part = cut(metadata, source, start, end)
        grids[:] = choose_grids((part.total_num_frames, min(part.height, part.width)))
        numbers.clear()
        for grid in set(grids):
            numbers[grid] = first + frames_to_decode(part, grid[0], views, processor.decoding)
        return np.unique(np.concatenate([clips.ravel() for clips in numbers.values()]))

    frames, metadata = read_video(source, wanted)
    decoded = np.asarray(metadata.frames_indices)
    pixels = {}
    for grid, clips in numbers.items():
        needed = np.unique(clips)
        resized = _resized(frames[np.searchsorted(decoded, needed)], processor, grid)
        crops = _crops(resized, processor, grid, views.num_crops)
        places = np.searchsorted(needed, clips)
        pixels[grid] = torch.stack([crop[place] for place in places for crop in crops])
    return list(grids), pixels


def _resized(frames: np.ndarray, processor: FluxVideoProcessor, grid: Grid) -> torch.Tensor:
    size = {} if processor.size is not None else {"size": grid[1]}
    options = {"do_sample_frames": False, "do_center_crop": False, "return_tensors": "pt"} | size
    return processor(frames, **options)["pixel_values_videos"][0]


def _crops(video: torch.Tensor, processor: FluxVideoProcessor, grid: Grid, num_crops: int) -> list[torch.Tensor]:
    size = processor.crop_size or processor.size or SizeDict(shortest_edge=grid[1])
    height, width = (size.height or size.shortest_edge), (size.width or size.shortest_edge)
    if num_crops == 1:
        return [processor.center_crop(video, SizeDict(height=height, width=width))]
    return crops_along_longer_side(video, height, width, num_crops)
