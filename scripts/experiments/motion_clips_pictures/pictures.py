"""The folder that collect.py wrote, and pieces cut from its pictures."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

PIECE_SIDE = 320
"""Pixels of the longer side of a piece at most."""


@dataclass(frozen=True)
class Pictures:
    """Of one split: RGB photographs, and RGBA cut-outs of single things."""

    photographs: tuple[Image.Image, ...]
    cutouts: tuple[Image.Image, ...]


@lru_cache(maxsize=3)
def load_pictures(folder: str, split: str) -> Pictures:
    """The pictures of a split.

    Raises:
        FileNotFoundError: there are none; names the folder.
    """
    found = []
    for kind, mode in (("photographs", "RGB"), ("cutouts", "RGBA")):
        paths = sorted(Path(folder, split, kind).glob("*.*"))
        if not paths:
            raise FileNotFoundError(f"--pictures: no pictures in {Path(folder, split, kind)}; collect.py writes them")
        found.append(tuple(Image.open(path).convert(mode) for path in paths))
    return Pictures(*found)


def draw_background(rng: np.random.Generator, pictures: Pictures, width: int, height: int) -> Image.Image:
    """A part of a photograph, RGB."""
    photograph = _one(rng, pictures.photographs)
    largest = min(photograph.width / width, photograph.height / height)
    box = _box(rng, photograph, width * largest, height * largest, rng.uniform(0.45, 1))
    return _mirrored(rng, photograph.resize((width, height), Image.Resampling.LANCZOS, box, reducing_gap=2))


def draw_piece(rng: np.random.Generator, pictures: Pictures) -> Image.Image:
    """A thing, RGBA, cropped to what shows of it: a cut-out, or a part of a photograph in the shape of a blob, of a
    polygon or of another cut-out."""
    if rng.random() < 0.55:
        piece = _one(rng, pictures.cutouts).copy()
    else:
        mask = _draw_mask(rng, pictures)
        photograph = _one(rng, pictures.photographs)
        largest = min(photograph.width / mask.width, photograph.height / mask.height)
        box = _box(rng, photograph, mask.width * largest, mask.height * largest, rng.uniform(0.25, 0.9))
        piece = photograph.resize(mask.size, Image.Resampling.BICUBIC, box, reducing_gap=2)
        piece.putalpha(mask)
    piece = _mirrored(rng, piece)
    alpha = piece.getchannel("A")
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        piece = change(piece).enhance(rng.uniform(0.75, 1.25))
    piece.putalpha(alpha)
    return piece.crop(alpha.point(lambda value: 255 * (value > 16)).getbbox())


def shows_turning(piece: Image.Image, least: float = 12.0) -> bool:
    """Whether turns of 20 and 35 degrees change the piece over grey by `least` of 255 on average, where it is."""
    small = piece.convert("RGBa")
    small.thumbnail((48, 48))
    side = int(np.hypot(*small.size)) + 2
    square = Image.new("RGBa", (side, side))
    square.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    square = np.asarray(square, np.float32)
    for angle in (20, 35):
        turned = Image.fromarray(square.astype(np.uint8), "RGBa").rotate(angle, Image.Resampling.BILINEAR)
        changed, opaque = _over_grey(np.asarray(turned, np.float32)) - _over_grey(square), square[..., 3] > 100
        if not opaque.any() or np.abs(changed[opaque]).mean() < least:
            return False
    return True


def _over_grey(values: np.ndarray) -> np.ndarray:
    return values[..., :3] + 128 * (1 - values[..., 3:] / 255)


def _draw_mask(rng: np.random.Generator, pictures: Pictures) -> Image.Image:
    kind = rng.choice(("blob", "polygon", "silhouette"), p=(0.4, 0.3, 0.3))
    if kind == "silhouette":
        return _one(rng, pictures.cutouts).getchannel("A")
    if kind == "blob":
        angles = np.linspace(0, 2 * np.pi, 180, endpoint=False)
        waves = np.arange(1, 7)[:, None]
        sizes = rng.normal(0, 0.3, (6, 1)) / waves**0.8
        radii = np.exp((sizes * np.cos(waves * angles + rng.uniform(0, 2 * np.pi, (6, 1)))).sum(0))
    else:
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
        radii = rng.uniform(0.5, 1, len(angles))
    points = np.stack([radii * np.cos(angles) * rng.uniform(0.45, 1), radii * np.sin(angles)], axis=1)
    points -= points.min(0)
    side = 2 * PIECE_SIDE
    points = 4 + points * ((side - 8) / points.max())
    width, height = np.ceil(points.max(0)).astype(int) + 4
    mask = Image.new("L", (max(int(width), 16), max(int(height), 16)), 0)
    ImageDraw.Draw(mask).polygon([tuple(point) for point in points], fill=255)
    return mask.reduce(2)


def _box(rng, picture: Image.Image, width: float, height: float, scale: float) -> tuple[float, float, float, float]:
    width, height = width * scale, height * scale
    left, top = rng.uniform(0, picture.width - width), rng.uniform(0, picture.height - height)
    return left, top, left + width, top + height


def _mirrored(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else picture


def _one(rng: np.random.Generator, pictures: tuple[Image.Image, ...]) -> Image.Image:
    return pictures[rng.integers(len(pictures))]
