"""The options of `FluxVideoProcessor`: their types, and which of them go together."""

from typing import Annotated, Literal

import torch
from torchvision.transforms import InterpolationMode
from transformers.image_utils import ChannelDimension
from transformers.processing_utils import VideosKwargs

from .frame_sampling_fluxvit import DECODING_MODES
from .option_limits_fluxvit import (
    LARGEST_FACTOR,
    LARGEST_PATCH,
    LARGEST_TUBELET,
    MOST_BYTES,
    MOST_FPS,
    MOST_FRAMES,
    MOST_TOKENS,
    colour_numbers,
    counted,
    device_name,
    one_of,
    resampling,
    side_lengths,
    within,
)

SAVED_BESIDE_OPTIONS = {
    "auto_map",
    "feature_extractor_type",
    "image_processor_type",
    "processor_class",
    "transformers_version",
    "video_processor_type",
}
"""Keys that a saved configuration holds without being options."""


OWN_WHEN_NONE = {
    "crop_size",
    "decoding",
    "download_bytes",
    "download_seconds",
    "fit_source",
    "fps",
    "grids",
    "model_frames",
    "num_frames",
    "patch_size",
    "size",
    "token_budget",
    "tubelet_size",
}
"""Options for which None in a call means the processor's own setting."""

FIXES_THE_GRID = ("num_frames", "fps", "size", "crop_size")
"""Options that leave `decoding="keyframes"` nothing to choose."""

Numbers = float | int | list[float | int] | tuple[float | int, ...] | None


class FluxVideoProcessorKwargs(VideosKwargs, total=False):
    """Options of `FluxVideoProcessor` beside those of every video processor; see there. Types are checked from these
    annotations before values; of transformers' own validators most check nothing.

    Attributes:
        token_budget (`int` or `"auto"`, *optional*): number of tokens the model shall keep.
        grids (`dict`, *optional*): token budget or "auto" -> (num_frames, size in pixels).
        patch_size (`int`, *optional*): side of the model's patches in pixels.
        tubelet_size (`int`, *optional*): frames that a token of the model covers.
        fit_source (`bool`, *optional*): cut the grid down to the frames and the size of the video.
        num_frames (`int`, *optional*): number of frames, instead of the grid's.
        model_frames (`int`, *optional*): the `num_frames` that leaves the number of frames to the processor.
        fps (`int` or `float`, *optional*): frames per second of video, instead of a number of frames.
        decoding (`str`, *optional*): "fast", "exact" or "keyframes", which frame of each segment to take.
        download_seconds (`int` or `float`, *optional*): how long the transfers of one video may take.
        download_bytes (`int`, *optional*): how much of one video may be held in memory.
        size, crop_size (`int` or `dict`, *optional*): positive numbers of pixels.
        resample, rescale_factor, image_mean, image_std, input_data_format, device: as of every video processor.
    """

    token_budget: Annotated[int | Literal["auto"] | None, counted(MOST_TOKENS)]
    grids: dict | None
    patch_size: Annotated[int | None, counted(LARGEST_PATCH)]
    tubelet_size: Annotated[int | None, counted(LARGEST_TUBELET)]
    fit_source: bool | None
    num_frames: Annotated[int | None, counted(MOST_FRAMES)]
    model_frames: Annotated[int | None, counted(MOST_FRAMES)]
    fps: Annotated[int | float | None, within(1 / LARGEST_FACTOR, MOST_FPS, "a number > 0")]
    decoding: Annotated[str | None, one_of(DECODING_MODES)]
    download_seconds: Annotated[int | float | None, within(1 / LARGEST_FACTOR, LARGEST_FACTOR, "a number > 0")]
    download_bytes: Annotated[int | None, counted(MOST_BYTES)]
    size: Annotated[int | list[int] | tuple[int, ...] | dict[str, int] | None, side_lengths]
    crop_size: Annotated[int | list[int] | tuple[int, ...] | dict[str, int] | None, side_lengths]
    resample: Annotated[int | InterpolationMode | None, resampling]
    rescale_factor: Annotated[float | int | None, within(1 / LARGEST_FACTOR, LARGEST_FACTOR)]
    image_mean: Annotated[Numbers, colour_numbers(-LARGEST_FACTOR)]
    image_std: Annotated[Numbers, colour_numbers(1 / LARGEST_FACTOR)]
    input_data_format: Annotated[str | ChannelDimension | None, one_of([layout.value for layout in ChannelDimension])]
    device: Annotated[str | torch.device | None, device_name]


def beside_options(name: str) -> bool:
    return name in SAVED_BESIDE_OPTIONS or name.startswith("_")


def check_key_frame_options(settings: dict):
    """Raises ValueError for an option that excludes `decoding="keyframes"`."""
    for name in FIXES_THE_GRID:
        if settings.get(name) is not None:
            raise ValueError(
                f'decoding="keyframes" chooses the number of frames and the size itself, but {name} is set; leave it '
                'out, or take decoding="fast"'
            )
