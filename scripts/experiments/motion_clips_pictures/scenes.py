"""What one clip shows: background, object, its way, a distractor, and how it is filmed."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from flux_hf.scripts.experiments.motion_clips_pictures.motions import (
    DISTANCE,
    STEPS,
    Motion,
    draw_motion,
    draw_progress,
)
from flux_hf.scripts.experiments.motion_clips_pictures.pictures import (
    Pictures,
    draw_background,
    draw_piece,
    shows_turning,
)

SHAPES = (1.0, 4 / 3, 4 / 3, 16 / 9, 16 / 9, 3 / 4, 9 / 16)
"""Width over height."""
SHORTEST, LONGEST = 120, 320
FRAME_RATES = (8, 10, 12, 15, 20, 24, 25, 30)
DURATION = 0.8, 6.0
LEAST_FRAMES = 8
OBJECT_SIZE = 0.01, 0.3
MOST_NOISE = 15.0
LEAST_CONTRAST = 25.0
"""Mean difference, of 255, between an object and what it hides, or 2 standard deviations of the noise if more."""
TRIES = 200


@dataclass(frozen=True)
class Camera:
    """How the scene is filmed.

    Attributes:
        noise: standard deviation of the sensor's noise, of 255, at the picture's mean brightness.
        shot_share: share of its variance that grows with brightness.
        grain: pixels of the side of a grain of noise.
        gain: of all brightness; below 1 it is dark.
        defocus: radius of the blur in pixels.
        shutter: share of a frame's time in which it is exposed; 0 blurs no motion.
        flicker: relative standard deviation of the exposure between frames.
        shake: short sides that the picture trembles.
    """

    noise: float
    shot_share: float
    grain: int
    gain: float
    defocus: float
    shutter: float
    flicker: float
    shake: float


@dataclass(frozen=True)
class Thing:
    """A piece and its way: `x`, `y` (pixels), `scale` (screen pixels per pixel of the piece) and `angle` (radians
    clockwise), each (STEPS + 1,) at even times of the clip."""

    piece: Image.Image
    x: np.ndarray
    y: np.ndarray
    scale: np.ndarray
    angle: np.ndarray

    def pose(self, time: float) -> tuple[float, float, float, float]:
        """x, y, scale and angle at a time from 0 to 1."""
        grid = np.linspace(0, 1, STEPS + 1)
        return tuple(float(np.interp(time, grid, values)) for values in (self.x, self.y, self.scale, self.angle))


@dataclass(frozen=True)
class Scene:
    """
    Attributes:
        background: RGB, by `margin` pixels larger than the picture on every side.
        things: from back to front; the last is the object.
        amount: of the object's motion, see [`draw_motion`].
        object_size: share of the picture that the object covers in mid-clip, seen whole.
    """

    width: int
    height: int
    frames: int
    frame_rate: int
    background: Image.Image
    margin: int
    things: tuple[Thing, ...]
    camera: Camera
    amount: float
    object_size: float


def draw_scene(rng: np.random.Generator, label: str, pictures: Pictures) -> Scene:
    """A scene in which a person could tell the label. Only the object's motion depends on the label.

    Raises:
        RuntimeError: `TRIES` draws gave nothing that stands out from its background.
    """
    width, height = _draw_size(rng)
    short = min(width, height)
    frame_rate = int(rng.choice(FRAME_RATES))
    duration = np.exp(rng.uniform(*np.log(DURATION)))
    frames = max(LEAST_FRAMES, round(duration * frame_rate))
    camera = _draw_camera(rng)
    margin = int(np.ceil(2.5 * camera.shake * short)) + 1 if camera.shake else 0
    size = float(np.exp(rng.uniform(*np.log(OBJECT_SIZE))))
    for _ in range(TRIES):
        background = draw_background(rng, pictures, width + 2 * margin, height + 2 * margin)
        piece = draw_piece(rng, pictures)
        scale = _scale(piece, size * width * height)
        x, y = (rng.uniform(0.25, 0.75) * side for side in (width, height))
        tilt = rng.uniform(-0.35, 0.35) if rng.random() < 0.6 else rng.uniform(-np.pi, np.pi)
        if (
            scale < 2
            and shows_turning(piece)
            and _contrast(piece, background, x + margin, y + margin, scale) * (camera.gain)
            > max(LEAST_CONTRAST, 2 * camera.noise)
        ):
            break
    else:
        raise RuntimeError(f"{TRIES} draws of background and object, and none stands out")
    # Everything that all labels share is drawn before the motion, so that equal seeds give equal scenes.
    distracted = rng.random() < 0.3
    others = (_draw_distractor(rng, pictures, camera, size, width, height, duration),) if distracted else ()
    progress = draw_progress(rng)
    motion, amount = draw_motion(rng, label, np.sqrt(size * width * height / np.pi) / short, short)
    thing = _on_its_way(_defocused(piece, camera.defocus / scale), motion, progress - 0.5, x, y, scale, tilt, short)
    if camera.defocus:
        background = background.filter(ImageFilter.GaussianBlur(camera.defocus))
    return Scene(width, height, frames, frame_rate, background, margin, (*others, thing), camera, amount, size)


def _draw_size(rng: np.random.Generator) -> tuple[int, int]:
    shape = rng.choice(SHAPES)
    longer = max(shape, 1 / shape)
    short = rng.uniform(SHORTEST, min(LONGEST / longer, 240))
    width, height = (short * longer, short) if shape >= 1 else (short, short * longer)
    return 2 * round(width / 2), 2 * round(height / 2)


def _draw_camera(rng: np.random.Generator) -> Camera:
    def sometimes(share, low, high):
        value = rng.uniform(low, high)
        return float(value) if rng.random() < share else 0.0

    noise = 0.0 if rng.random() < 0.15 else MOST_NOISE * rng.random() ** 1.7
    return Camera(
        noise=float(noise),
        shot_share=float(rng.uniform(0.2, 0.9)),
        grain=int(rng.choice((1, 2), p=(0.75, 0.25))),
        gain=1 - sometimes(0.35, 0.1, 0.7),
        defocus=sometimes(0.3, 0.5, 2.5),
        shutter=sometimes(0.5, 0.2, 1.0),
        flicker=sometimes(0.3, 0.003, 0.03),
        shake=sometimes(0.2, 0.001, 0.006),
    )


def _scale(piece: Image.Image, area: float) -> float:
    opaque = np.asarray(piece.getchannel("A"), np.float64).sum() / 255
    return float(np.sqrt(area / max(opaque, 1)))


def _contrast(piece: Image.Image, background: Image.Image, x: float, y: float, scale: float) -> float:
    """Mean difference, of 255, between the piece and what it hides in mid-clip (upright, at a quarter of the size)."""
    factor = 4
    back = background.reduce(factor)
    size = [max(2, round(side * scale / factor)) for side in piece.size]
    small = piece.resize(size, Image.Resampling.BILINEAR, reducing_gap=2)
    corner = round(x / factor - size[0] / 2), round(y / factor - size[1] / 2)
    hidden = np.asarray(back.crop((*corner, corner[0] + size[0], corner[1] + size[1])), np.float32)
    values = np.asarray(small, np.float32)
    seen = values[..., 3] * _inside(corner, size, back.size)
    return float((np.abs(values[..., :3] - hidden).mean(-1) * seen).sum() / max(seen.sum(), 1e-6))


def _inside(corner, size, frame) -> np.ndarray:
    columns, rows = corner[0] + np.arange(size[0]), corner[1] + np.arange(size[1])
    return ((rows >= 0) & (rows < frame[1]))[:, None] & ((columns >= 0) & (columns < frame[0]))[None]


def _on_its_way(piece, motion: Motion, share: np.ndarray, x, y, scale, angle, short: int) -> Thing:
    return Thing(
        piece,
        x + motion.x * share * short,
        y + motion.y * share * short,
        scale * np.exp(motion.growth * share),
        angle + motion.turn * share,
    )


def _draw_distractor(rng, pictures: Pictures, camera: Camera, size: float, width, height, duration: float) -> Thing:
    """Something of at most a quarter of the object's size that sways, or drifts by less than any object moves."""
    piece, short = draw_piece(rng, pictures), min(width, height)
    scale = _scale(piece, max(size * rng.uniform(0.05, 0.25), 0.001) * width * height)
    x, y = rng.uniform(0.05, 0.95) * width, rng.uniform(0.05, 0.95) * height
    reach, direction = rng.uniform(0.1, 0.5) * DISTANCE[0] * short, rng.uniform(-np.pi, np.pi)
    time = np.linspace(0, 1, STEPS + 1)
    if rng.random() < 0.5:
        way = np.sin(2 * np.pi * (time * duration * rng.uniform(0.3, 1.5) + rng.random())) / 2
    else:
        way = time - 0.5
    angle, steady = rng.uniform(-np.pi, np.pi), np.ones(STEPS + 1)
    x, y = x + reach * np.cos(direction) * way, y + reach * np.sin(direction) * way
    return Thing(_defocused(piece, camera.defocus / scale), x, y, scale * steady, angle * steady)


def _defocused(piece: Image.Image, radius: float) -> Image.Image:
    """The piece with a transparent rim, blurred by `radius` of its own pixels: RGBa, with premultiplied colours."""
    radius = min(radius, 40.0)
    rim = 2 + int(np.ceil(2 * radius))
    framed = Image.new("RGBa", (piece.width + 2 * rim, piece.height + 2 * rim))
    framed.paste(piece.convert("RGBa"), (rim, rim))
    if radius:
        framed = Image.merge("RGBa", [band.filter(ImageFilter.GaussianBlur(radius)) for band in framed.split()])
    return framed
