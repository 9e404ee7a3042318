"""What a video model takes: settings of a processor for it, read from the model and from the checkpoint that it came
from. Families are told apart by their configurations; none of their code is imported."""

import json
import math

import numpy as np
import torch
import transformers
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, SizeDict
from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING
from transformers.utils import logging
from transformers.video_processing_utils import BaseVideoProcessor

from .grid_fluxvit import UNLIMITED_GRID
from .option_limits_fluxvit import RESAMPLINGS

logger = logging.get_logger(__name__)

COLOURS_OF_CHECKPOINTS = {
    "videomae": {"image_mean": IMAGENET_DEFAULT_MEAN, "image_std": IMAGENET_DEFAULT_STD},
    "timesformer": {"image_mean": (0.45,) * 3, "image_std": (0.225,) * 3},
}
"""Mean and deviation in the published checkpoints of families whose processor class has other defaults."""

TAKEN_OVER = (
    "do_convert_rgb",
    "do_normalize",
    "do_rescale",
    "do_resize",
    "image_mean",
    "image_std",
    "resample",
    "rescale_factor",
)

CROP_SHARE = 0.875
"""`crop_pct` where a timm model's `pretrained_cfg` has none, as in timm."""


def model_settings(model) -> dict:
    """Options of a `FluxVideoProcessor` that makes what the model takes.

    `patch_size`, `tubelet_size`, `model_frames` and, where its configuration has one, `token_budget` are the model's.
    All others are those of the `FluxVideoProcessor` that was saved with its checkpoint (`model.name_or_path`). Where
    none was, a FluxViT has the defaults; another model has colours, resampling, resizing and cropping of its
    checkpoint's stock processor, at the size that it was trained on, and as `num_frames` the number of frames that it
    was trained on.

    A model does not know its revision: of a repository on the Hub the default branch is read. Where the checkpoint has
    no processor or cannot be reached, a warning names the defaults that are taken.

    Raises:
        ValueError: the model's patches are not square, or a file of the checkpoint is damaged.
    """
    config, network = getattr(model, "config", None), getattr(model, "timm_model", model)
    tubelet, patch = _patch_shape(model, config, network)
    own = {"patch_size": patch, "tubelet_size": tubelet}
    if getattr(config, "token_budget", None) is not None:
        own["token_budget"] = config.token_budget
    family = getattr(config, "model_type", "").removeprefix("flux_")
    if not family.startswith("fluxvit") and getattr(config, "num_frames", None):
        own["model_frames"] = config.num_frames
    name = getattr(model, "name_or_path", "")
    saved, problem = _saved_settings(name) if name else ({}, None)
    if saved.get("video_processor_type") == "FluxVideoProcessor":
        return saved | own
    frames, size = _native_clip(model, config, network)
    settings = {"num_frames": frames or tubelet * UNLIMITED_GRID.frames}
    pretrained = getattr(config, "pretrained_cfg", None) or getattr(network, "pretrained_cfg", None)
    if family.startswith("fluxvit"):
        settings, source = {}, "the defaults of FluxVideoProcessor"
    elif pretrained and not saved:  # timm keeps its processor in there
        return settings | _of_timm(pretrained, size) | own
    else:
        stock_class = _named_class(saved) or _class_for(type(config))
        if stock_class is None and not saved:
            problem = problem or "transformers has no processor for this model"
        stock = (stock_class or BaseVideoProcessor)(**(saved or COLOURS_OF_CHECKPOINTS.get(family, {})))
        settings |= _of_stock_processor(stock, size)
        source = "ImageNet's colours" if stock_class is None else f"the defaults of {family}"
    if problem:
        shown = ", ".join(f"{key}={value}" for key, value in settings.items() if not key.startswith("do_"))
        logger.warning(f"{name or type(model).__name__}: {problem}. Its processor has {source}: {shown}")
    return settings | own


def _patch_shape(model, config, network) -> tuple[int, int]:
    """(frames, pixels) of a token."""
    tubelet = getattr(config, "tubelet_size", 1)
    patch = getattr(config, "patch_size", None) or getattr(getattr(network, "patch_embed", None), "patch_size", None)
    if hasattr(model, "patch_shape"):
        tubelet, patch = model.patch_shape
    elif isinstance(tubelet, (list, tuple)):
        tubelet, *patch = tubelet
    height, width = _height_width(patch) or (None, None)
    if height is None or height != width:
        raise ValueError(
            f"a processor can be made for a model with square patches; {type(model).__name__} has patch_size {patch}"
        )
    return tubelet, height


def _native_clip(model, config, network) -> tuple[int | None, tuple[int, int] | None]:
    """Number of frames and (height, width) that a model was trained on; None what it does not say."""
    if hasattr(model, "native_grid"):
        frames, *size = model.native_grid
        return (frames if frames > 1 else None), tuple(size)
    frames = getattr(config, "num_frames", None) or getattr(config, "frames_per_clip", None)
    of_embedding = getattr(getattr(network, "patch_embed", None), "img_size", None)
    named = [getattr(config, name, None) for name in ("image_size", "crop_size", "img_size")]
    return frames, _height_width(next((size for size in [*named, of_embedding] if size), None))


def _saved_settings(name: str) -> tuple[dict, str | None]:
    """What a checkpoint holds of its processor, or {} and why there is nothing."""
    try:
        saved, _ = BaseVideoProcessor.get_video_processor_dict(name)
    except OSError as error:
        if isinstance(error.__context__, json.JSONDecodeError):
            raise ValueError(f"{name}: {error}") from error
        return {}, str(error).split(". ")[0]
    if not isinstance(saved, dict):
        raise ValueError(f"{name}: the configuration of its processor must be a JSON object, got {saved!r:.100}")
    return saved, None


def _named_class(saved: dict) -> type[BaseVideoProcessor] | None:
    """The class that AutoVideoProcessor takes for a saved configuration."""
    name = saved.get("video_processor_type") or saved.get("image_processor_type") or ""
    name = name.replace("ImageProcessor", "VideoProcessor")
    found = getattr(transformers, name, None) if name.endswith("VideoProcessor") else None
    return found if isinstance(found, type) and issubclass(found, BaseVideoProcessor) else None


def _class_for(config_class: type) -> type[BaseVideoProcessor] | None:
    """The stock processor of a family, or of the one that a configuration is derived from."""
    for base in config_class.__mro__:
        found = VIDEO_PROCESSOR_MAPPING[base] if base in VIDEO_PROCESSOR_MAPPING else None
        found = found.get("torchvision") if isinstance(found, dict) else found
        if found is not None and found.__module__.startswith("transformers."):
            return found
    return None


def _of_stock_processor(stock: BaseVideoProcessor, native: tuple[int, int] | None) -> dict:
    """Options that make its pixels, at the size `native`: its resize and crop keep their proportion."""
    settings = {name: getattr(stock, name, None) for name in TAKEN_OVER}
    if settings["do_rescale"] and (offset := _offset(stock)):
        # (x * factor - offset - mean) / deviation, in the one step that ours takes
        mean, deviation = (
            (settings["image_mean"], settings["image_std"]) if settings["do_normalize"] else ([0.0], [1.0])
        )
        settings |= {"do_normalize": True, "image_mean": np.add(mean, offset).tolist(), "image_std": deviation}
    settings = {name: value for name, value in settings.items() if value is not None}
    edge = _edge(stock.size)
    shown = _edge(stock.crop_size) if stock.do_center_crop and stock.crop_size else edge
    native = native or (shown and (shown, shown))
    if native is None:
        return settings
    resized = edge * max(native) // shown if edge else max(native)
    return settings | _resize_and_crop(native, resized, exact=bool(stock.size and stock.size.height))


def _of_timm(pretrained: dict, native: tuple[int, int] | None) -> dict:
    """Options that make the pixels of timm's own transformation."""
    mode = pretrained.get("crop_mode") or "center"
    if mode not in ("center", "squash"):
        logger.warning(f"pretrained_cfg has crop_mode {mode!r}; accepted are center and squash, taken is center")
    numbers = {name: number for number, name in RESAMPLINGS.items()}
    native = native or _height_width(pretrained["input_size"][1:])
    resized = math.floor(max(native) / (pretrained.get("crop_pct") or CROP_SHARE))
    return {
        "image_mean": pretrained.get("mean") or IMAGENET_DEFAULT_MEAN,
        "image_std": pretrained.get("std") or IMAGENET_DEFAULT_STD,
        "resample": numbers.get(pretrained.get("interpolation"), numbers["bicubic"]),
        **_resize_and_crop(native, resized, exact=mode == "squash"),
    }


def _resize_and_crop(native: tuple[int, int], resized: int, exact: bool) -> dict:
    """`resized` pixels, of the shorter side or (exact) of both, and `native` cut out of them."""
    height, width = native
    if exact and resized == max(native):
        return {"size": {"height": height, "width": width}}
    size = {"height": resized, "width": resized} if exact else {"shortest_edge": resized}
    return (
        {"size": size}
        if height == width == resized
        else {"size": size, "crop_size": {"height": height, "width": width}}
    )


def _offset(stock: BaseVideoProcessor) -> float:
    """What a stock processor subtracts when it rescales; 1 for ViViT's, 0 for others."""
    black = stock.rescale_and_normalize(torch.zeros(3, 1, 1), True, stock.rescale_factor, False, None, None)
    return -float(black.flatten()[0])


def _edge(size: SizeDict | None) -> int | None:
    return size and (size.shortest_edge or size.height)


def _height_width(value) -> tuple[int, int] | None:
    """A pair from a pair, from one number, or from nothing."""
    return tuple(value) if isinstance(value, (list, tuple)) else value and (value, value)
