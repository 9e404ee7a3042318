"""`FluxVideoProcessor`: from videos of any kind to the pixels and the token budget that a FluxViT model takes."""

from difflib import get_close_matches

import numpy as np
import torch
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    ChannelDimension,
    PILImageResampling,
    SizeDict,
)
from transformers.utils import logging
from transformers.video_processing_utils import BaseVideoProcessor
from transformers.video_utils import VideoMetadata, get_video_size, infer_channel_dimension_format

from .frame_sampling_fluxvit import FEWEST_KEY_FRAMES, sample_segments, segments_with_key_frames
from .grid_fluxvit import (
    AUTO,
    Framing,
    Grid,
    check_multiples,
    check_tubelets,
    choose_grid,
    fit_grid,
    largest_budget,
    normalize_grids,
    with_frames,
)
from .model_settings_fluxvit import model_settings
from .option_limits_fluxvit import (
    MOST_FRAMES,
    check_clip_pixels,
    check_typed_options,
)
from .processor_options_fluxvit import (
    OWN_WHEN_NONE,
    FluxVideoProcessorKwargs,
    beside_options,
    check_key_frame_options,
)
from .video_batch_fluxvit import array_metadata, batched_metadata, flat_videos
from .video_http_fluxvit import DownloadLimits
from .video_source_fluxvit import is_video_source

logger = logging.get_logger(__name__)


def _size_dict(grid: Grid) -> SizeDict:
    if isinstance(grid.size, int):
        return SizeDict(shortest_edge=grid.size)
    height, width = grid.size
    return SizeDict(height=height, width=width)


def _height_width(size: SizeDict) -> tuple[int, int]:
    return size.height or size.shortest_edge, size.width or size.shortest_edge


def _longest_and_largest(videos: list, metadata: list[VideoMetadata]) -> tuple[int, int]:
    """(frames of the longest, largest of the shorter sides)"""
    sides = [
        min((entry.height, entry.width) if is_video_source(video) else get_video_size(video))
        for video, entry in zip(videos, metadata, strict=True)
    ]
    return max(entry.total_num_frames for entry in metadata), max(sides)


class FluxVideoProcessor(BaseVideoProcessor):
    """Decodes, samples, resizes, crops and normalises videos for FluxViT.

    The token budget chooses the grid, (number of frames, size), from `grids` or a default table (`choose_grid`). Frames
    are taken sparsely, one from each of equally long segments; the shorter side is resized to the grid's size
    (bilinear, antialiased) and the middle square cut out. All videos of one call come out on one grid, whatever their
    lengths and sizes. A clip with fewer frames than the grid repeats frames evenly.

    Options, given here, in a saved configuration or for one call:
        token_budget: number of tokens the model shall keep; also handed on to the model, as an int. "auto": the model
            finds the smallest one that is sure enough for each video; all come out on one grid, that of "auto" in
            `grids`, else of their largest budget. Default None: the model's own setting, and a grid of 8 frames of
            16 x 16 patches.
        grids: token budget -> (num_frames, size in pixels), multiples of `tubelet_size` and `patch_size`; instead of
            the default table.
        patch_size: side of a patch in pixels, default 14.
        tubelet_size: frames that a token covers, default 1. Every number of frames is a multiple of it: what `fps` asks
            for is rounded down, but to one tubelet at least.
        fit_source: cut the grid of a budget down to what the video holds (`fit_grid`), so that no frame is repeated and
            no picture enlarged to fill the budget. The videos of one call share one grid: that of the longest of them
            and of the largest short side. Default False: every video comes out on the grid of its budget.
        num_frames: wins over the grid's number of frames. Asked for in a call, more than a clip has is an error; as the
            processor's own setting it repeats frames.
        model_frames: `num_frames` of the configuration of a model that is no FluxViT. The stock pipeline asks every
            processor for as many, so a call that does leaves the number to the processor. Default None.
        fps: frames per second of video to take, wins over the grid, excludes `num_frames`.
        decoding: which frame of a segment is taken from a video that has to be decoded. "fast", the default: the middle
            one, unless others make reading much cheaper (`middles_unless_cheaper`), so that a long video takes little
            longer than a short one. "exact": the middle one. "keyframes": a key frame of each, on a grid that follows
            the film: as many frames, up to the grid's, as there are segments that all hold a key frame
            (`segments_with_key_frames`), and a size that has grown until there are as many tokens as before. A film
            without so many key frames is read as with "fast", and a warning says so. It excludes `num_frames`, `fps`,
            `size` and `crop_size`, and the videos of one call have to come out on one grid. All three give the same
            frames every time, and each of them as it was encoded. From arrays and lists of frames it is always the
            middle one.
        download_seconds: that all transfers of one video from a URL may take together. Default 300.
        download_bytes: of one video that are held in memory, where its server, its archive or its file object gives it
            only as a whole. Default 2**30 (1 GiB).
        size: wins over the grid's size. `n` or `{"shortest_edge": n}`: the square n x n; `{"height": h, "width": w}`:
            exactly that, without keeping the aspect ratio.
        crop_size: what is cut out of the resized frame, default the square of `size`; that of a call, where the call
            gives a `size` alone.
        do_sample_frames: default True, also for arrays and lists of frames; False takes all frames.
        do_resize, do_center_crop, do_rescale, do_normalize, do_convert_rgb, resample, rescale_factor, image_mean,
            image_std, input_data_format, device, return_metadata: as in every transformers video processor. By default
            all steps are done, with the ImageNet mean and deviation.

    Raises:
        ValueError: an option has the wrong type or value; the message names it.
        TypeError: an option is not known.
    """

    valid_kwargs = FluxVideoProcessorKwargs
    model_input_names = ["pixel_values_videos", "token_budget"]

    token_budget = None
    grids = None
    patch_size = 14
    tubelet_size = 1
    fit_source = False
    num_frames = None
    model_frames = None
    fps = None
    decoding = "fast"
    download_seconds = None
    download_bytes = None
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
        self._check_options({name: value for name, value in kwargs.items() if not beside_options(name)})
        super().__init__(**kwargs)
        if missing := [name for name in ("patch_size", "tubelet_size", "decoding") if getattr(self, name) is None]:
            raise ValueError(f"{missing[0]} must be set, got None")
        if self.grids:
            check_multiples(self.grids, self.patch_size, self.tubelet_size)
        if self.num_frames:
            check_tubelets(self.num_frames, self.tubelet_size, "num_frames")
        if self.decoding == "keyframes":
            check_key_frame_options(vars(self))

    @classmethod
    def from_dict(cls, video_processor_dict: dict, **kwargs):
        """As in every processor. Keys of a configuration that this version does not know are left out with a
        warning."""
        if not isinstance(video_processor_dict, dict):
            raise ValueError(
                f"a configuration of {cls.__name__} must be a JSON object, got {video_processor_dict!r:.100}"
            )
        known = cls.valid_kwargs.__annotations__
        unknown = [name for name in video_processor_dict if name not in known and not beside_options(name)]
        if unknown:
            logger.warning(f"{cls.__name__} ignores unknown keys of its configuration: {', '.join(sorted(unknown))}")
        return super().from_dict({k: v for k, v in video_processor_dict.items() if k not in unknown}, **kwargs)

    def to_dict(self) -> dict:
        """As in every processor, as JSON has it: the keys of `grids` are text."""
        settings = super().to_dict()
        if settings.get("grids"):
            settings["grids"] = {str(budget): grid for budget, grid in settings["grids"].items()}
        return settings

    @classmethod
    def for_model(cls, model, **options):
        """A processor that makes what a video model takes.

        Patches and tubelets are the model's, the token budget is that of its configuration, if it has one. Colours,
        resampling, resizing and cropping are those of the processor of the checkpoint that the model came from
        (`model.name_or_path`; on the Hub its default branch), else the defaults of its family, and a warning says so if
        there is a checkpoint. Every budget has one grid: the number of frames and the size that the model was trained
        on (`num_frames`, `size` and `crop_size` are set), because the weights know no other; 8 frames, where a model
        was trained on pictures. A FluxViT, and every model whose checkpoint has a `FluxVideoProcessor`, keeps that
        processor's grids.

        Args:
            model: a FluxViT, a model with token selection, a stock one of transformers, or a timm ViT.
            **options: any option of the class; they win. With `grids` the table counts: `num_frames`, `size` and
                `crop_size` are then only what is given here. `size` alone is also what is cut out.

        Raises:
            ValueError: the model's patches are not square, a file of its checkpoint is damaged, or an option is wrong.
            TypeError: an option is not known.
        """
        cls._check_options(options)
        settings = model_settings(model)
        if options.get("grids"):
            settings |= dict.fromkeys(("num_frames", "size", "crop_size"))
        elif options.get("size"):
            settings["crop_size"] = None
        return cls.from_dict(settings, **options)

    def choose_grid(self, token_budget: int | str | None = None, *, source: tuple[int, int] | None = None) -> Grid:
        """The grid (num_frames, size in pixels) that videos come out on for a token budget, default the processor's
        own. The size is an int for squares, else (height, width).

        The processor's own `num_frames`, `size` and `crop_size`, where set, win over the table. Without
        `do_center_crop` and with a shortest edge, the longer side is the video's.

        Args:
            token_budget: number of tokens to keep, or "auto".
            source: (frames, shorter side in pixels) of the video the grid is for; then the grid is cut down to it
                (`fit_grid`), whatever `fit_source` is. Default: the grid for a video that is long and large enough.
        """
        return self.framing(token_budget, source=source).grid

    def framing(
        self,
        token_budget: int | str | None = None,
        *,
        grid: Grid | None = None,
        source: tuple[int, int] | None = None,
        metadata: VideoMetadata | None = None,
        grids: dict[int | str, Grid] | None = None,
        patch_size: int | None = None,
        tubelet_size: int | None = None,
        num_frames: int | None = None,
        fps: int | float | None = None,
        decoding: str | None = None,
        size: SizeDict | None = None,
        crop_size: SizeDict | None = None,
        do_center_crop: bool | None = None,
        **kwargs,
    ) -> Framing:
        """How many frames are taken of a video, to what they are resized, and what is cut out of them.

        Args:
            token_budget, source: as of `choose_grid`.
            grid: instead of the table's; `num_frames`, `size` and `crop_size` win over it, too.
            metadata: of the video, whose key frames the grid follows with `decoding` "keyframes". Default: the grid of
                a video with enough of them.
            grids, patch_size, tubelet_size, num_frames, decoding, size, crop_size, do_center_crop: default the
                processor's own.
            **kwargs: other options of a call; they change nothing here.

        Raises:
            ValueError: a number of frames is no multiple of `tubelet_size`, the clip would be too large, or an option
                excludes `decoding="keyframes"`.
        """
        budget = self.token_budget if token_budget is None else token_budget
        patch_size, tubelet_size = patch_size or self.patch_size, tubelet_size or self.tubelet_size
        grids = self.grids if grids is None else grids
        if grid is None:
            grid = choose_grid(budget, patch_size, grids, tubelet_size)
        if source is not None:
            most = largest_budget(grids) if budget == AUTO else budget
            grid = fit_grid(grid, most, *source, patch_size, tubelet_size)
        if metadata is not None and (decoding or self.decoding) == "keyframes":
            asked = {"num_frames": num_frames, "fps": fps, "size": size, "crop_size": crop_size}
            check_key_frame_options({name: asked[name] or getattr(self, name) for name in asked})
            frames = segments_with_key_frames(metadata, grid.frames, tubelet_size)
            if frames is not None:
                grid = with_frames(grid, frames, source and source[1], patch_size=patch_size)
            elif hasattr(metadata, "key_frames"):
                logger.warning_once(
                    f'decoding="keyframes": a video does not have {FEWEST_KEY_FRAMES} key frames, evenly spread; such '
                    'videos are read as with decoding="fast"'
                )
        resize = size or self.size or _size_dict(grid)
        cropped = self.do_center_crop if do_center_crop is None else do_center_crop
        crop = (crop_size or self.crop_size or resize) if cropped else resize
        framing = Framing(num_frames or self.num_frames or grid.frames, resize, _height_width(crop))
        check_tubelets(framing.frames, tubelet_size, "num_frames")
        check_clip_pixels(
            framing.frames,
            _height_width(resize),
            framing.crop,
            token_budget=budget,
            num_frames=framing.frames,
            size=dict(resize),
            crop_size=framing.crop,
        )
        return framing

    def preprocess(self, videos, **kwargs) -> BatchFeature:
        """Prepares one video or many for the model.

        Args:
            videos: one or a list of: path, http(s) URL, another address (`read_video` says which), bytes, binary file
                object, dictionary with "path" and/or "bytes", array or tensor (frames, height, width, channels) or
                (frames, channels, height, width) with values 0-255, list of PIL images or of 3-dimensional arrays.
            return_tensors: "pt" for a stacked float tensor, "np" for an array, default a list of tensors.
            **kwargs: any option of the class, for this call. None for one that has to do with the grid means the
                processor's own setting.

        Returns:
            `BatchFeature` with `pixel_values_videos` (videos, frames, channels, height, width) float32 and, if a budget
            is set, `token_budget`, an int or "auto".

        Raises:
            VideoDecodeError: a video cannot be read.
            ValueError: clips that cannot be stacked; more `num_frames` asked for in the call than a clip has; frames
                that are not sampled and no multiple of `tubelet_size`.
        """
        options = self._options_of_call(kwargs)
        clips, metadata, framing = self._take_clips(flat_videos(videos), options)
        height, width = framing.crop
        options |= {"size": framing.resize, "crop_size": SizeDict(height=height, width=width)}
        self._validate_preprocess_kwargs(**options)
        pixels = self._prepare_input_videos(
            clips, options["do_convert_rgb"], options["input_data_format"], options["device"]
        )
        batch = self._preprocess(pixels, **options)
        if options["return_metadata"]:
            batch["video_metadata"] = metadata
        return batch

    def sample_frames(
        self,
        metadata: VideoMetadata,
        num_frames=None,
        fps=None,
        grid_frames: int | None = None,
        decoding: str | None = None,
        tubelet_size: int | None = None,
        **kwargs,
    ) -> np.ndarray:
        """Which frames to take of a video: one from each of equally long segments.

        Args:
            metadata: `total_num_frames` of the video, and `fps` if frames per second are asked for. Without
                `key_frames` (`SeekableMetadata`) the middles of the segments are taken.
            num_frames, fps: how many frames, at most one of them. Default: the processor's own, else the grid's.
            grid_frames: frames of the grid, default that of `choose_grid`.
            decoding: "fast", "exact" or "keyframes", default the processor's own.
            tubelet_size: the number of frames is a multiple of it, default the processor's own.
            **kwargs: `token_budget`, `grids` and `patch_size` for the grid; others are ignored.

        Returns:
            int array of frame numbers, ascending.

        Raises:
            ValueError: both are given, `fps` without the video's, more frames asked for than the video has, or no
                multiple of `tubelet_size`.
        """
        if num_frames is None and fps is None:
            num_frames, fps = self.num_frames, self.fps
        if num_frames is not None and fps is not None:
            raise ValueError(f"num_frames={num_frames} and fps={fps} exclude each other, give one of them")
        total = metadata.total_num_frames
        tubelet_size, decoding = tubelet_size or self.tubelet_size, decoding or self.decoding
        if decoding == "keyframes":
            check_key_frame_options({"num_frames": num_frames, "fps": fps})
        asked = num_frames is not None and num_frames != self.num_frames
        if fps is not None:
            if not metadata.fps:
                raise ValueError(
                    f"fps={fps} needs the frame rate of the video: give video_metadata with fps, or num_frames"
                )
            tubelets = int(total / metadata.fps * fps + 1e-6) // tubelet_size
            num_frames = max(1, tubelets) * tubelet_size
            if num_frames > MOST_FRAMES:
                raise ValueError(f"fps={fps} asks for {num_frames} frames of the video, accepted are {MOST_FRAMES}")
        elif num_frames is None:
            options = kwargs | {"tubelet_size": tubelet_size, "decoding": decoding, "metadata": metadata}
            num_frames = grid_frames or self.framing(**options).frames
        check_tubelets(num_frames, tubelet_size, "num_frames")
        if asked and num_frames > total:
            raise ValueError(f"num_frames={num_frames} is more than the {total} frames of the video")
        return sample_segments(metadata, num_frames, decoding)

    def take_frames(self, video, choose=None, metadata: VideoMetadata | None = None, **kwargs) -> tuple:
        """The frames of one video and its metadata, of arrays `metadata` or what can be known without.

        Args:
            video: one of what `flat_videos` gives.
            choose: function that is called with `metadata=` and returns the numbers of the frames to take, see
                `read_video`. Default: all.
            **kwargs: `download_seconds` and `download_bytes`, default the processor's own; `transform`, see
                `read_video`, for what is decoded; others are ignored.
        """
        if is_video_source(video):
            return self.fetch_videos(video, choose, **kwargs)
        metadata = metadata or array_metadata(video)
        if choose is not None:
            metadata.frames_indices = choose(metadata=metadata)
            if max(metadata.frames_indices) >= len(video):
                raise ValueError(
                    f"video_metadata says {metadata.total_num_frames} frames, the array has {len(video)}; "
                    "set do_sample_frames=False if its frames are chosen already"
                )
            video = video[metadata.frames_indices]
        elif metadata.frames_indices is None:
            metadata.frames_indices = list(range(len(video)))
        return video, metadata

    def fetch_videos(self, video_url_or_urls, sample_indices_fn=None, transform=None, **kwargs):
        """(frames, metadata) of one video to decode, or for a list two lists; without a function all frames. Options
        are those of `take_frames`."""
        if isinstance(video_url_or_urls, list):
            each = [self.fetch_videos(video, sample_indices_fn, transform, **kwargs) for video in video_url_or_urls]
            return list(zip(*each, strict=True))
        from .video_decoding_fluxvit import read_video  # PyAV is imported when the first video is decoded

        limits = self._download_limits(**kwargs)
        return read_video(video_url_or_urls, sample_indices_fn, limits=limits, transform=transform)

    def _download_limits(self, download_seconds=None, download_bytes=None, **kwargs) -> DownloadLimits:
        limits = {
            "seconds": download_seconds or self.download_seconds,
            "size": download_bytes or self.download_bytes,
        }
        return DownloadLimits(**{name: value for name, value in limits.items() if value is not None})

    @classmethod
    def _check_options(cls, options: dict):
        known = cls.valid_kwargs.__annotations__
        for name in options:
            if name not in known:
                close = get_close_matches(name, known, n=1)
                hint = f", did you mean {close[0]!r}?" if close else f"; options are {', '.join(sorted(known))}"
                raise TypeError(f"{cls.__name__} has no option {name!r}{hint}")
        check_typed_options(cls.valid_kwargs, options)

    def _options_of_call(self, asked: dict) -> dict:
        """All options, in transformers' standard form: what a call asks for, else the processor's own."""
        self._check_options(asked)
        asked = {name: value for name, value in asked.items() if value is not None or name not in OWN_WHEN_NONE}
        if "num_frames" in asked and asked["num_frames"] == self.model_frames:
            del asked["num_frames"]
        if "fps" in asked or "num_frames" in asked:  # the one asked for now wins over the other as a setting
            asked = {"fps": None, "num_frames": None} | asked
        if "size" in asked:  # a crop of another size is none of it
            asked = {"crop_size": asked["size"]} | asked
        own = {name: getattr(self, name, None) for name in self.valid_kwargs.__annotations__}
        return self._standardize_kwargs(**(own | asked))

    def _take_clips(self, videos: list, options: dict) -> tuple[list, list[VideoMetadata], Framing]:
        """Frames and metadata of every video, and the one framing that all of them get."""
        sources = batched_metadata(videos, options["video_metadata"])
        fits, follows = (
            options["do_sample_frames"] and wish for wish in (options["fit_source"], options["decoding"] == "keyframes")
        )
        shared = None
        if fits and not follows and len(videos) > 1:
            from .video_decoding_fluxvit import probe_video

            probed = [
                probe_video(video, self._download_limits(**options)) if is_video_source(video) else entry
                for video, entry in zip(videos, sources, strict=True)
            ]
            shared = self.framing(**options, source=_longest_and_largest(videos, probed))
        elif not fits and not follows:
            shared = self.framing(**options)
        taken = [
            self._take_clip(video, metadata, shared, options) for video, metadata in zip(videos, sources, strict=True)
        ]
        clips, found, framings = (list(column) for column in zip(*taken, strict=True))
        if len(set(framings)) > 1:
            grids = ", ".join(sorted({str(framing.grid) for framing in framings}))
            raise ValueError(
                f'decoding="keyframes": the videos of one call come out on different grids ({grids}); hand them over '
                "one at a time"
            )
        return clips, found, framings[0]

    def _take_clip(self, video, metadata: VideoMetadata | None, shared: Framing | None, options: dict) -> tuple:
        """(frames, metadata, framing) of one video; `shared` None: the framing is the one for this video."""
        framing = shared

        def choose(metadata):
            nonlocal framing
            if shared is None:
                source = _longest_and_largest([video], [metadata]) if options["fit_source"] else None
                framing = self.framing(**options, source=source, metadata=metadata)
            return self.sample_frames(metadata, **options, grid_frames=framing.frames)

        choose_or_all = choose if options["do_sample_frames"] else None
        clip, metadata = self.take_frames(video, choose_or_all, metadata, **options)
        check_tubelets(len(clip), options["tubelet_size"], "do_sample_frames=False: the number of frames")
        return clip, metadata, framing

    def _standardize_kwargs(self, grids=None, **kwargs) -> dict:
        options = super()._standardize_kwargs(**kwargs)
        for name in ("size", "crop_size"):
            if options[name] is not None and None in _height_width(options[name]):
                raise ValueError(
                    f"{name} must be n, {{'shortest_edge': n}} or {{'height': h, 'width': w}}, got "
                    f"{dict(options[name])}"
                )
        return options | {"grids": normalize_grids(grids) if grids else None}

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
            for name, numbers in (("image_mean", image_mean), ("image_std", image_std)) if do_normalize else ():
                if isinstance(numbers, tuple) and len(numbers) not in (1, video.shape[1]):
                    raise ValueError(f"{name} has {len(numbers)} numbers, the video {video.shape[1]} channels")
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
