"""Random views of a clip with torchvision.transforms.v2; one draw for all frames of a clip."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import resized_crop, to_dtype
from torchvision.tv_tensors import Video

from flux_hf.training.arguments import ClipTrainingArguments
from flux_hf.training.degradation import degrade
from flux_hf.training.rand_augment import rand_augment

# In quarters of the room that the crop leaves.
CROP_PLACES = [(row, column) for row in range(5) for column in range(5) if row % 2 == column % 2]
GREY = 128
ERASED_AREA, ERASED_ASPECT = (0.02, 1 / 3), (0.3, 1 / 0.3)

# `random_colors`: what is exact in bytes, and fast there, and what is not.
RANDOM_COLORS = v2.Compose([v2.RandomChannelPermutation(), v2.RandomInvert(0.5)])
RANDOM_LIGHT = v2.ColorJitter(brightness=0.3, contrast=0.3)


@contextmanager
def random_state(*key) -> Iterator[np.random.Generator]:
    """Inside, torch's random numbers on the CPU and those of the generator that is given depend on `key` alone.
    Afterwards torch's go on as if nothing had been drawn. Those of other devices are left alone, which
    `torch.manual_seed` would seed, too."""
    seed = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big")
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield np.random.default_rng(seed)
    finally:
        torch.default_generator.set_state(before)


class ClipAugmentation:
    """Makes a training view: zoom out, random crop, flip, RandAugment, random colours, degradation, normalisation,
    random erasing.

    As the official `kinetics_sparse_o4a.py`, but for the order: it applies RandAugment to whole frames, here the crop
    comes first, so that there are fewer pixels to change.

    Args:
        args: which of it, and how strong.
        image_mean, image_std: of the processor, per channel for values in 0..1.
        flip: mirror half of the clips; default as `args` says.
    """

    def __init__(
        self,
        args: ClipTrainingArguments,
        image_mean: list[float],
        image_std: list[float],
        *,
        flip: bool | None = None,
    ):
        self.min_crop_area, self.max_crop_aspect = args.min_crop_area, args.max_crop_aspect
        self.crop_scales = args.multi_scale_crop
        self.zoom_out = v2.RandomZoomOut(GREY, (1.0, args.max_zoom_out)) if args.max_zoom_out > 1 else None
        self.flip = v2.RandomHorizontalFlip(0.5 if (args.flip if flip is None else flip) else 0.0)
        self.rand_augment = (args.rand_augment_ops, args.rand_augment_magnitude, args.rand_augment_std)
        self.colors = args.random_colors
        self.degradation = args.random_degradation
        self.erase = NoiseErasing(args.random_erasing, ERASED_AREA, ERASED_ASPECT, value="random", inplace=True)
        self.device = args.device if args.augment_on_device else torch.device("cpu")
        scales = (image_mean, image_std)
        self.mean, self.std = (torch.tensor(each, device=self.device)[:, None, None] for each in scales)

    def __call__(self, frames: np.ndarray, size: int) -> torch.Tensor:
        """uint8 (frames, height, width, 3) -> float32 (frames, 3, size, size), with `augment_on_device` there"""
        clip = Video(self._on_device(torch.from_numpy(np.ascontiguousarray(frames))).permute(0, 3, 1, 2))
        if self.zoom_out is not None:
            clip = self.zoom_out(clip)
        if self.crop_scales is not None:
            clip = multi_scale_crop(clip, size, self.crop_scales)
        else:
            aspect = (1 / self.max_crop_aspect, self.max_crop_aspect)
            clip = v2.RandomResizedCrop(size, (self.min_crop_area, 1.0), aspect, antialias=True)(clip)
        clip = rand_augment(self.flip(clip), *self.rand_augment)
        clip = Video(clip.contiguous())  # while a value is one byte
        if self.colors:
            clip = RANDOM_COLORS(clip)
        clip = to_dtype(clip, torch.float32, scale=True)
        if self.colors:
            clip = RANDOM_LIGHT(clip)
        if self.degradation:  # draws nothing where it is off
            clip = degrade(clip, self.degradation)
        return self.erase(Video(clip.sub(self.mean).div_(self.std))).as_subclass(torch.Tensor)

    def _on_device(self, frames: torch.Tensor) -> torch.Tensor:
        """Without waiting for a GPU: from pinned memory."""
        if self.device.type != "cuda":
            return frames.to(self.device)
        return frames.pin_memory().to(self.device, non_blocking=True)


class NoiseErasing(v2.RandomErasing):
    """`v2.RandomErasing` with new noise in every frame of the box, which all frames share, as `_erase_cube` of the
    official code. One patch for all frames would stand still, and the token selector would drop it."""

    def make_params(self, flat_inputs: list) -> dict:
        params, (clip,) = super().make_params(flat_inputs), flat_inputs
        if params["v"] is not None:
            params["v"] = torch.randn(*clip.shape[:-2], params["h"], params["w"])
        return params


def multi_scale_crop(clip: torch.Tensor, size: int, scales: list[float]) -> torch.Tensor:
    """MultiScaleCrop of the paper's pre-training (Table 14): height and width of the crop are two of `scales`,
    neighbours or the same, times the short side of the clip; it lies at one of 13 places: corners, centre, middles of
    the sides and of the quarters.

    Args:
        clip: (..., height, width).
        size: side of the result in pixels.
    """
    height, width = clip.shape[-2:]
    ordered = sorted(scales)
    pairs = [(a, b) for i, a in enumerate(ordered) for j, b in enumerate(ordered) if abs(i - j) <= 1]
    down, across = (round(scale * min(height, width)) for scale in pairs[torch.randint(len(pairs), ()).item()])
    row, column = CROP_PLACES[torch.randint(len(CROP_PLACES), ()).item()]
    top, left = round(row / 4 * (height - down)), round(column / 4 * (width - across))
    return resized_crop(clip, top, left, down, across, [size, size], antialias=True)


def mix_batch(
    clips: torch.Tensor, labels: torch.Tensor, num_labels: int, mixup_alpha: float, cutmix_alpha: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixup or cutmix of a batch, each half of the time where both are on.

    Args:
        clips: float (batch, frames, channels, height, width).
        labels: class indices (batch,).
        num_labels: number of classes.
        mixup_alpha, cutmix_alpha: parameters of the Beta distributions; 0 is off.

    Returns:
        Clips of the same shape and labels: soft ones (batch, num_labels), or as they came when both are off.
    """
    mixes = [
        mix(alpha=alpha, num_classes=num_labels)
        for mix, alpha in ((v2.MixUp, mixup_alpha), (v2.CutMix, cutmix_alpha))
        if alpha > 0
    ]
    if not mixes:
        return clips, labels
    mix = mixes[torch.randint(len(mixes), ()).item()]
    mixed, soft = mix(Video(clips), labels)
    return mixed.as_subclass(torch.Tensor), soft
