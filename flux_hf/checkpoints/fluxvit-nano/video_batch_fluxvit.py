"""Whatever a caller hands over as videos, as a flat list: things to decode, and 4-dimensional arrays."""

import reprlib
from collections.abc import Mapping
from dataclasses import fields

import numpy as np
import torch
from transformers.image_utils import is_pil_image
from transformers.video_utils import VideoMetadata, get_video_size

from .frame_sampling_fluxvit import SeekableMetadata
from .video_source_fluxvit import is_video_source

OF_DECODING = {field.name for field in fields(SeekableMetadata)} - {field.name for field in fields(VideoMetadata)}
"""What is known of a file and not of the frames taken from it."""

EXPECTED = (
    "a video must be a path, an http(s) URL, bytes, a binary file object, a dictionary with 'path' or 'bytes', an "
    "array or tensor of 4 dimensions, or a list of frames (PIL images or 3-dimensional arrays)"
)


def flat_videos(videos) -> list:
    """One video, a batch, or nested lists of them, as a flat list.

    Returns:
        list of things to decode, as they came, and of arrays or tensors (frames, height, width, channels) or (frames,
        channels, height, width). A single image becomes a video of one frame, a 5-dimensional array a video per entry.

    Raises:
        TypeError: something is no video. ValueError: an empty list, frames of different sizes, wrong number of
            dimensions.
    """
    if is_video_source(videos):
        return [videos]
    if is_pil_image(videos):
        return [_image_array(videos)[None]]
    if isinstance(videos, (np.ndarray, torch.Tensor)):
        return _split_array(videos)
    if not isinstance(videos, (list, tuple)):
        raise TypeError(f"{EXPECTED}; got {type(videos).__name__}")
    if not videos:
        raise ValueError("the list of videos or frames is empty")
    if all(_is_frame(item) for item in videos):
        return [_stack_frames(videos)]
    return [video for item in videos for video in flat_videos(item)]


def batched_metadata(videos: list, video_metadata) -> list[VideoMetadata]:
    """One `VideoMetadata` per video, from whatever nesting of them or of dictionaries. Without one an array gets
    what its shape tells.

    Raises:
        ValueError: there are not as many entries as videos.
    """
    if video_metadata is None:
        return [None if is_video_source(video) else array_metadata(video) for video in videos]
    entries = _flat_metadata(video_metadata)
    if len(entries) != len(videos):
        raise ValueError(f"got {len(videos)} videos but {len(entries)} entries of video_metadata, give one per video")
    return entries


def _flat_metadata(value) -> list[VideoMetadata]:
    if isinstance(value, Mapping):
        try:
            return [VideoMetadata(**{name: value[name] for name in value if name not in OF_DECODING})]
        except TypeError as error:
            reason = str(error)[:200]
            raise ValueError(f"video_metadata {reprlib.repr(dict(value))}: {reason}") from error
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"video_metadata must hold VideoMetadata or dictionaries, got {type(value).__name__}")
    return [entry for item in value for entry in _flat_metadata(item)]


def array_metadata(video) -> VideoMetadata:
    """What is known of an array or tensor of frames."""
    height, width = get_video_size(video)
    return VideoMetadata(total_num_frames=len(video), height=height, width=width)


def _split_array(array) -> list:
    if array.ndim == 5:
        return list(array)
    if array.ndim == 4:
        if 0 in array.shape:
            raise ValueError(f"a video has no frames or no pixels: shape {tuple(array.shape)}")
        return [array]
    if array.ndim == 3:
        return [array[None]]
    raise ValueError(f"{EXPECTED}; got shape {tuple(array.shape)}")


def _is_frame(item) -> bool:
    return is_pil_image(item) or (isinstance(item, (np.ndarray, torch.Tensor)) and item.ndim == 3)


def _stack_frames(frames):
    frames = [_image_array(frame) if is_pil_image(frame) else frame for frame in frames]
    shapes = {tuple(frame.shape) for frame in frames}
    if len(shapes) > 1:
        raise ValueError(f"the frames of a video must have one size, got shapes {', '.join(map(str, sorted(shapes)))}")
    if all(isinstance(frame, torch.Tensor) for frame in frames):
        return torch.stack(frames)
    return np.stack([np.asarray(frame) for frame in frames])


def _image_array(image) -> np.ndarray:
    """uint8 array (height, width, 3), or 4 channels for an image with transparency."""
    transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    return np.array(image.convert("RGBA" if transparent else "RGB"))
