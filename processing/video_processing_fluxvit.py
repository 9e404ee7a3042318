"""`FluxVideoProcessor`: from videos of any kind to the pixels and the token budget that a FluxViT model takes."""

from difflib import get_close_matches
from typing import Annotated

import numpy as np
import torch
from huggingface_hub.dataclasses import validate_typed_dict
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    ChannelDimension,
    PILImageResampling,
    SizeDict,
)
from transformers.processing_utils import VideosKwargs
from transformers.utils import logging
from transformers.video_processing_utils import BaseVideoProcessor
from transformers.video_utils import VideoMetadata, get_video_size, infer_channel_dimension_format

from .frame_sampling_fluxvit import DECODING_MODES, sample_segments
from .grid_fluxvit import check_patch_multiple, choose_grid, fit_grid, normalize_grids
from .video_batch_fluxvit import batched_metadata, flat_videos
from .video_source_fluxvit import is_video_source

logger = logging.get_logger(__name__)

SAVED_BESIDE_OPTIONS = {
    "auto_map",
    "feature_extractor_type",
    "image_processor_type",
    "processor_class",
    "transformers_version",
    "video_processor_type",
}
"""Keys that a saved configuration holds without being options."""


def _beside_options(name: str) -> bool:
    return name in SAVED_BESIDE_OPTIONS or name.startswith("_")


def _at_least_one(value):
    if isinstance(value, (bool, int)) and (isinstance(value, bool) or value < 1):
        raise ValueError(f"it must be an integer >= 1, got {value}")


def _above_zero(value):
    if isinstance(value, (int, float)) and (isinstance(value, bool) or not value > 0):
        raise ValueError(f"it must be a number > 0, got {value}")


def _positive_size(value):
    numbers = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
    for number in numbers:
        _at_least_one(number)


def _grid_table(value):
    if isinstance(value, dict):
        normalize_grids(value)


def _decoding_mode(value):
    if isinstance(value, str) and value not in DECODING_MODES:
        raise ValueError(f"it must be one of {', '.join(DECODING_MODES)}, got {value!r}")


class FluxVideoProcessorKwargs(VideosKwargs, total=False):
    """Options of `FluxVideoProcessor` beside those of every video processor; see there.

    Attributes:
        token_budget (`int`, *optional*): number of tokens the model shall keep.
        grids (`dict`, *optional*): token budget -> (num_frames, size in pixels).
        patch_size (`int`, *optional*): side of the model's patches in pixels.
        fit_source (`bool`, *optional*): cut the grid down to the frames and the size of the video.
        num_frames (`int`, *optional*): number of frames, in place of the grid's.
        fps (`int` or `float`, *optional*): frames per second of video, in place of a number of frames.
        decoding (`str`, *optional*): "fast" or "exact", which frame of each segment to take.
        size, crop_size (`int` or `dict`, *optional*): positive numbers of pixels.
    """

    token_budget: Annotated[int | None, _at_least_one]
    grids: Annotated[dict | None, _grid_table]
    patch_size: Annotated[int | None, _at_least_one]
    fit_source: bool | None
    num_frames: Annotated[int | None, _at_least_one]
    fps: Annotated[int | float | None, _above_zero]
    decoding: Annotated[str | None, _decoding_mode]
    size: Annotated[int | list[int] | tuple[int, ...] | dict[str, int] | None, _positive_size]
    crop_size: Annotated[int | list[int] | tuple[int, ...] | dict[str, int] | None, _positive_size]


class FluxVideoProcessor(BaseVideoProcessor):
    """Decodes, samples, resizes, crops and normalises videos for FluxViT.

    The token budget chooses the grid, (number of frames, size), from `grids` or a default table (`choose_grid`). Frames
    are taken sparsely, one from each of equally long segments; the shorter side is resized to the grid's size
    (bilinear, antialiased) and the middle square cut out. All videos of one call come out on one grid, whatever their
    lengths and sizes. A clip with fewer frames than the grid repeats frames evenly.

    Options, given here, in a saved configuration or for one call:
        token_budget: number of tokens the model shall keep; also handed on to the model, as an int. Default None: the
            model's own setting, and a grid of 8 frames of 16 x 16 patches.
        grids: token budget -> (num_frames, size in pixels), a multiple of `patch_size`; in place of the default table.
        patch_size: side of a patch in pixels, default 14.
        fit_source: cut the grid of a budget down to what the video holds (`fit_grid`), so that no frame is repeated and
            no picture enlarged to fill the budget. The videos of one call share one grid: that of the longest of them
            and of the largest short side. Default False: every video comes out on the grid of its budget.
        num_frames: wins over the grid's number of frames. Asked for in a call, more than a clip has is an error; as the
            processor's own setting it repeats frames.
        fps: frames per second of video to take, wins over the grid, excludes `num_frames`.
        decoding: which frame of a segment is taken from a video that has to be decoded. "fast", the default: the one
            that is cheapest to reach (`cheapest_in_segments`), so that a long video takes no longer than a short one.
            "exact": the middle one. Both give the same frames every time, and each of them as it was encoded. From
            arrays and lists of frames it is always the middle one.
        size: wins over the grid's size. `n` or `{"shortest_edge": n}`: the square n x n; `{"height": h, "width": w}`:
            exactly that, without keeping the aspect ratio.
        crop_size: what is cut out of the resized frame, default the square of `size`.
        do_sample_frames: default True, also for arrays and lists of frames; False takes all frames.
        do_resize, do_center_crop, do_rescale, do_normalize, do_convert_rgb, resample, rescale_factor, image_mean,
            image_std, input_data_format, device, return_metadata: as in every transformers video processor. By default
            all steps are done, with the ImageNet mean and deviation.

    Raises:
        StrictDataclassFieldValidationError: an option has the wrong type or value; the message names it.
        TypeError: an option is not known.
    """

    valid_kwargs = FluxVideoProcessorKwargs
    model_input_names = ["pixel_values_videos", "token_budget"]

    token_budget = None
    grids = None
    patch_size = 14
    fit_source = False
    num_frames = None
    fps = None
    decoding = "fast"
    do_sample_frames = True
    do_convert_rgb = True
    do_resize = True
    size = None
    default_to_square = False
    resample = PILImageResampling.BILINEAR
    do_center_crop = True
    crop_size = None
    do_rescale = True
    do_normalize = True
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD

    def __init__(self, **kwargs):
        self._check_options({name: value for name, value in kwargs.items() if not _beside_options(name)})
        super().__init__(**kwargs)
        if self.grids:
            check_patch_multiple(self.grids, self.patch_size)

    @classmethod
    def from_dict(cls, video_processor_dict: dict, **kwargs):
        """As in every processor. Keys this version does not know, in a configuration, are left out with a warning."""
        known = cls.valid_kwargs.__annotations__
        unknown = [name for name in video_processor_dict if name not in known and not _beside_options(name)]
        if unknown:
            logger.warning(f"{cls.__name__} ignores unknown keys of its configuration: {', '.join(sorted(unknown))}")
        return super().from_dict({k: v for k, v in video_processor_dict.items() if k not in unknown}, **kwargs)

    def choose_grid(self, token_budget: int | None = None, *, source: tuple[int, int] | None = None) -> tuple[int, int]:
        """(num_frames, size in pixels) for a token budget, default the processor's own.

        The processor's own `num_frames` and `size`, where set, win over the table.

        Args:
            token_budget: number of tokens to keep.
            source: (frames, shorter side in pixels) of the video the grid is for; then the grid is cut down to it
                (`fit_grid`), whatever `fit_source` is. Default: the grid for a video that is long and large enough.
        """
        budget = self.token_budget if token_budget is None else token_budget
        frames, side = choose_grid(budget, self.patch_size, self.grids)
        if source is not None:
            frames, side = fit_grid((frames, side), budget, *source, self.patch_size)
        if self.size is not None:
            side = self.size.shortest_edge or self.size.height
        return self.num_frames or frames, side

    def preprocess(self, videos, **kwargs) -> BatchFeature:
        """Prepares one video or many for the model.

        Args:
            videos: one or a list of: path, http(s) URL, bytes, binary file object, dictionary with "path" and/or
                "bytes", array or tensor (frames, height, width, channels) or (frames, channels, height, width) with
                values 0-255, list of PIL images or of 3-dimensional arrays.
            return_tensors: "pt" for a stacked float tensor, "np" for an array, default a list of tensors.
            **kwargs: any option of the class, for this call. None for one that has to do with the grid means the
                processor's own setting.

        Returns:
            `BatchFeature` with `pixel_values_videos` (videos, frames, channels, height, width) float32 and, if a budget
            is set, `token_budget`, an int.

        Raises:
            VideoDecodeError: a video cannot be read.
            ValueError: clips that cannot be stacked; more `num_frames` asked for in the call than a clip has.
        """
        self._check_options(kwargs)
        for name in ("token_budget", "grids", "patch_size", "num_frames", "fps", "decoding", "size", "crop_size"):
            if name in kwargs and kwargs[name] is None:
                del kwargs[name]
        if "fps" in kwargs or "num_frames" in kwargs:  # the one asked for now wins over the other as a setting
            kwargs = {"fps": None, "num_frames": None} | kwargs
        fit_source = self.fit_source if kwargs.get("fit_source") is None else kwargs["fit_source"]
        grid = None
        if fit_source and kwargs.get("do_sample_frames", self.do_sample_frames) is not False:
            videos, kwargs["video_metadata"], grid = self._take_fitting_frames(videos, kwargs)
            kwargs["do_sample_frames"] = False
        size = self._standardize_kwargs(size=kwargs.get("size", self.size), default_to_square=False)["size"]
        if size is None:
            size = SizeDict(shortest_edge=(grid or self._grid(**kwargs))[1])
        kwargs["size"] = dict(size)
        if "crop_size" not in kwargs and self.crop_size is None:
            side = size.shortest_edge
            kwargs["crop_size"] = {"height": side or size.height, "width": side or size.width}
        return super().preprocess(videos, **kwargs)

    def sample_frames(
        self,
        metadata: VideoMetadata,
        num_frames=None,
        fps=None,
        fitted_frames: int | None = None,
        decoding: str | None = None,
        **kwargs,
    ) -> np.ndarray:
        """Which frames to take of a video: one from each of equally long segments.

        Args:
            metadata: `total_num_frames` of the video, and `fps` if frames per second are asked for. Without
                `key_frames` (`SeekableMetadata`) the middles of the segments are taken.
            num_frames, fps: how many frames, at most one of them. Default: the processor's own, else the grid's.
            fitted_frames: frames of a grid that was cut down to the video, in place of the grid's.
            decoding: "fast" or "exact", default the processor's own.
            **kwargs: `token_budget`, `grids` and `patch_size` for the grid; others are ignored.

        Returns:
            int array of frame numbers, ascending.

        Raises:
            ValueError: both are given, `fps` without the video's, or more frames asked for than the video has.
        """
        if num_frames is None and fps is None:
            num_frames, fps = self.num_frames, self.fps
        if num_frames is not None and fps is not None:
            raise ValueError(f"num_frames={num_frames} and fps={fps} exclude each other, give one of them")
        total = metadata.total_num_frames
        asked = num_frames is not None and num_frames != self.num_frames
        if fps is not None:
            if not metadata.fps:
                raise ValueError(
                    f"fps={fps} needs the frame rate of the video: give video_metadata with fps, or num_frames"
                )
            num_frames = max(1, int(total / metadata.fps * fps + 1e-6))
        elif num_frames is None:
            num_frames = fitted_frames or self._grid(**kwargs)[0]
        if asked and num_frames > total:
            raise ValueError(f"num_frames={num_frames} is more than the {total} frames of the video")
        return sample_segments(metadata, num_frames, decoding or self.decoding)

    def fetch_videos(self, video_url_or_urls, sample_indices_fn=None):
        """(frames, metadata) of one video to decode, or for a list two lists; without a function all frames."""
        if isinstance(video_url_or_urls, list):
            return list(zip(*[self.fetch_videos(video, sample_indices_fn) for video in video_url_or_urls], strict=True))
        from .video_decoding_fluxvit import read_video  # PyAV is imported when the first video is decoded

        return read_video(video_url_or_urls, sample_indices_fn)

    def _check_options(self, options: dict):
        known = self.valid_kwargs.__annotations__
        for name in options:
            if name not in known:
                close = get_close_matches(name, known, n=1)
                hint = f", did you mean {close[0]!r}?" if close else f"; options are {', '.join(sorted(known))}"
                raise TypeError(f"{type(self).__name__} has no option {name!r}{hint}")
        validate_typed_dict(self.valid_kwargs, options)

    def _grid(self, token_budget=None, grids=None, patch_size=None, **kwargs) -> tuple[int, int]:
        budget = self.token_budget if token_budget is None else token_budget
        return choose_grid(budget, patch_size or self.patch_size, self.grids if grids is None else grids)

    def _take_fitting_frames(self, videos, options: dict) -> tuple[list, list[VideoMetadata], tuple[int, int]]:
        """Frames and metadata of every video, and the one grid that fits them."""
        videos = flat_videos(videos)
        sources = batched_metadata(videos, options.get("video_metadata"))
        grid = None

        def fitted(metadata: list[VideoMetadata]) -> tuple[int, int]:
            budget = self.token_budget if options.get("token_budget") is None else options["token_budget"]
            sides = [
                min((entry.height, entry.width) if is_video_source(video) else get_video_size(video))
                for video, entry in zip(videos, metadata, strict=True)
            ]
            longest = max(entry.total_num_frames for entry in metadata)
            patch_size = options.get("patch_size") or self.patch_size
            return fit_grid(self._grid(**options), budget, longest, max(sides), patch_size)

        if len(videos) > 1:
            from .video_decoding_fluxvit import probe_video

            grid = fitted(
                [
                    probe_video(video) if is_video_source(video) else entry
                    for video, entry in zip(videos, sources, strict=True)
                ]
            )

        def sample(metadata):
            nonlocal grid
            if len(videos) == 1:
                grid = fitted([metadata])
            return self.sample_frames(metadata, **options, fitted_frames=grid[0])

        taken, metadata = self._decode_and_sample_videos(videos, options.get("video_metadata"), True, sample)
        return taken, metadata, grid

    def _standardize_kwargs(self, grids=None, **kwargs) -> dict:
        return super()._standardize_kwargs(**kwargs) | {"grids": normalize_grids(grids) if grids else None}

    def _decode_and_sample_videos(self, videos, video_metadata=None, do_sample_frames=None, sample_indices_fn=None):
        videos = flat_videos(videos)
        taken = []
        for video, metadata in zip(videos, batched_metadata(videos, video_metadata), strict=True):
            if is_video_source(video):
                taken.append(self.fetch_videos(video, sample_indices_fn if do_sample_frames else None))
            elif do_sample_frames:
                metadata.frames_indices = sample_indices_fn(metadata=metadata)
                if max(metadata.frames_indices) >= len(video):
                    raise ValueError(
                        f"video_metadata says {metadata.total_num_frames} frames, the array has {len(video)}; "
                        "set do_sample_frames=False if its frames are chosen already"
                    )
                taken.append((video[metadata.frames_indices], metadata))
            else:
                if metadata.frames_indices is None:
                    metadata.frames_indices = list(range(len(video)))
                taken.append((video, metadata))
        return [video for video, _ in taken], [metadata for _, metadata in taken]

    def _prepare_input_videos(self, videos, do_convert_rgb=None, input_data_format=None, device=None):
        prepared = []
        for video in videos:
            layout = input_data_format or infer_channel_dimension_format(video, num_channels=(1, 3, 4))
            if isinstance(video, np.ndarray):
                video = torch.from_numpy(np.require(video, requirements=["C", "W"]))
            if layout == ChannelDimension.LAST:  # left as it lies in memory: uint8 is resized faster that way
                video = video.permute(0, 3, 1, 2)
            if do_convert_rgb:
                video = self.convert_to_rgb(video)
            prepared.append(video if device is None else video.to(device))
        return prepared

    def _preprocess(
        self,
        videos,
        do_resize,
        size,
        resample,
        do_center_crop,
        crop_size,
        do_rescale,
        rescale_factor,
        do_normalize,
        image_mean,
        image_std,
        return_tensors=None,
        token_budget=None,
        **kwargs,
    ) -> BatchFeature:
        pixels = []
        for video in videos:
            if do_resize:
                video = self.resize(video, size=size, resample=resample)
            if do_center_crop:
                video = self.center_crop(video, crop_size)
            video = self.rescale_and_normalize(video, do_rescale, rescale_factor, do_normalize, image_mean, image_std)
            pixels.append(video.contiguous())
        shapes = sorted({tuple(video.shape) for video in pixels})
        if return_tensors is not None and len(shapes) > 1:
            raise ValueError(
                f"the clips come out in different shapes and cannot be stacked: {', '.join(map(str, shapes))}; "
                "leave do_resize, do_center_crop and do_sample_frames on, or return_tensors out"
            )
        data = {"pixel_values_videos": pixels}
        if token_budget is not None:
            data["token_budget"] = token_budget
        return BatchFeature(data, tensor_type=return_tensors, skip_tensor_conversion=["token_budget"])
