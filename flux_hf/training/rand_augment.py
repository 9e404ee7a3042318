"""RandAugment as the official fine-tuning runs it: "rand-m7-n4-mstd0.5-inc1" of `rand_augment.py`, whose operations get
stronger with the magnitude. torchvision's functions on PIL frames: the same pixels, and bicubic interpolation, which
its tensors do not have."""

import math
from collections.abc import Callable

import torch
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import Video

GREY = [128] * 3
LARGEST = 10.0
"""Largest strength of an operation."""


def rand_augment(clip: Video, operations: int, magnitude: float, std: float) -> Video:
    """Change a clip by some of `OPERATIONS`, drawn with replacement, every frame in the same way; on the CPU, wherever
    the clip is.

    Args:
        clip: uint8 (frames, 3, height, width).
        operations: how many are drawn; each is done with probability 0.5.
        magnitude, std: strengths are drawn from N(magnitude, std) and held within 0 and 10.
    """
    names, drawn = list(OPERATIONS), []
    for _ in range(operations):
        change = OPERATIONS[names[torch.randint(len(names), ()).item()]]
        level = min(max(magnitude + std * torch.randn(()).item(), 0.0), LARGEST) / LARGEST
        sign = 1 if torch.rand(()) < 0.5 else -1
        if torch.rand(()) < 0.5:
            drawn.append((change, level, sign))
    if not drawn:
        return clip
    frames = [F.to_pil_image(frame) for frame in clip.as_subclass(torch.Tensor)]
    for change, level, sign in drawn:
        frames = [change(frame, level, sign) for frame in frames]
    return Video(torch.stack([F.pil_to_tensor(frame) for frame in frames]).to(clip.device))


def _moved(image: Image.Image, *, shear: tuple[float, float] = (0, 0), shift: tuple[float, float] = (0, 0)):
    """Sheared about the upper left corner, shifted by shares of width and height; grey comes in from outside."""
    return F.affine(
        image,
        angle=0.0,
        translate=[shift[0] * image.width, shift[1] * image.height],
        scale=1.0,
        shear=[math.degrees(math.atan(slope)) for slope in shear],
        interpolation=InterpolationMode.BICUBIC,
        fill=GREY,
        center=[0, 0],
    )


def _add_to_dark(image: Image.Image, amount: int) -> Image.Image:
    return image.point([value + amount if value < 128 else value for value in range(256)] * 3)


OPERATIONS: dict[str, Callable[[Image.Image, float, int], Image.Image]] = {
    "AutoContrast": lambda image, level, sign: F.autocontrast(image),
    "Equalize": lambda image, level, sign: F.equalize(image),
    "Invert": lambda image, level, sign: F.invert(image),
    "Rotate": lambda image, level, sign: F.rotate(image, sign * 30 * level, InterpolationMode.BICUBIC, fill=GREY),
    "Posterize": lambda image, level, sign: F.posterize(image, max(4 - int(4 * level), 1)),
    "Solarize": lambda image, level, sign: F.solarize(image, 256 - int(256 * level)),
    "SolarizeAdd": lambda image, level, sign: _add_to_dark(image, int(110 * level)),
    "Color": lambda image, level, sign: F.adjust_saturation(image, 1 + sign * 0.9 * level),
    "Contrast": lambda image, level, sign: F.adjust_contrast(image, 1 + sign * 0.9 * level),
    "Brightness": lambda image, level, sign: F.adjust_brightness(image, 1 + sign * 0.9 * level),
    "Sharpness": lambda image, level, sign: F.adjust_sharpness(image, 1 + sign * 0.9 * level),
    "ShearX": lambda image, level, sign: _moved(image, shear=(sign * 0.3 * level, 0)),
    "ShearY": lambda image, level, sign: _moved(image, shear=(0, sign * 0.3 * level)),
    "TranslateX": lambda image, level, sign: _moved(image, shift=(sign * 0.45 * level, 0)),
    "TranslateY": lambda image, level, sign: _moved(image, shift=(0, sign * 0.45 * level)),
}
"""Name -> function of an RGB image, a level within 0 and 1 and a sign, 1 or -1. At level 1 the official Posterize keeps
no bit (a black clip, which new versions of Pillow refuse); here it keeps one."""
