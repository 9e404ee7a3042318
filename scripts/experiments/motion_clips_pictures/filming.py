"""The frames of a scene as a cheap camera takes them."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from flux_hf.scripts.experiments.motion_clips_pictures.scenes import Camera, Scene, Thing

MOST_EXPOSURES = 5
"""Places of a moving thing that one blurred frame is the mean of."""
PIXELS_APART = 1.5


def film(rng: np.random.Generator, scene: Scene) -> Iterator[np.ndarray]:
    """uint8 frames (height, width, 3)."""
    camera, short = scene.camera, min(scene.width, scene.height)
    levels = [_levels(thing) for thing in scene.things]
    still = np.asarray(scene.background, np.float32)
    brightness = max(float(still.mean()) * camera.gain, 1.0)
    trembling = _trembling(rng, scene.frames) * camera.shake * short
    flicker = rng.normal(1, camera.flicker, scene.frames).clip(0.8, 1.2) * camera.gain
    for frame in range(scene.frames):
        shift = trembling[frame]
        picture = _shifted(scene, shift) if camera.shake else still.copy()
        for thing, pieces in zip(scene.things, levels, strict=True):
            _place(picture, thing, pieces, _times(thing, frame, scene), shift)
        picture *= np.float32(flicker[frame])
        if camera.noise:
            picture += _noise(rng, camera, picture, brightness)
        yield (picture + 0.5).clip(0, 255).astype(np.uint8)


def _levels(thing: Thing) -> list[Image.Image]:
    """The piece, halved again and again, for scales below one half."""
    pieces = [thing.piece]
    while thing.scale.min() * 2 ** len(pieces) < 1 and min(pieces[-1].size) > 8:
        pieces.append(pieces[-1].reduce(2))
    return pieces


def _trembling(rng: np.random.Generator, frames: int) -> np.ndarray:
    """(frames, 2), with a standard deviation of about 1 and neighbours that hang together, at most 2.5."""
    steps = rng.normal(0, 1, (frames + 8, 2))
    smooth = sum(steps[start : start + frames] for start in range(4)) / 2
    return smooth.clip(-2.5, 2.5)


def _shifted(scene: Scene, shift: np.ndarray) -> np.ndarray:
    matrix = (1, 0, scene.margin - shift[0], 0, 1, scene.margin - shift[1])
    size = scene.width, scene.height
    moved = scene.background.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.array(moved, np.float32)


def _times(thing: Thing, frame: int, scene: Scene) -> np.ndarray:
    """When the frame is exposed, as shares of the clip's time: once, or several times while the thing moves."""
    step = 1 / (scene.frames - 1)
    middle = frame * step
    reach = scene.camera.shutter * step / 2
    start, end = max(middle - reach, 0.0), min(middle + reach, 1.0)
    if end <= start:
        return np.array([middle])
    (x0, y0, scale0, angle0), (x1, y1, scale1, angle1) = thing.pose(start), thing.pose(end)
    radius = max(thing.piece.size) / 2
    way = np.hypot(x1 - x0, y1 - y0) + radius * (abs(scale1 - scale0) + scale0 * abs(angle1 - angle0))
    return np.linspace(start, end, int(np.clip(np.ceil(way / PIXELS_APART), 1, MOST_EXPOSURES)) + 2)[1:-1]


def _place(picture: np.ndarray, thing: Thing, levels: list[Image.Image], times: np.ndarray, shift: np.ndarray) -> None:
    """Put the thing onto the float picture, in the mean of its poses at `times`."""
    poses = [thing.pose(time) for time in times]
    boxes = np.array([_box(thing, pose, shift) for pose in poses])
    height, width = picture.shape[:2]
    left, top = np.maximum(boxes[:, :2].min(0), 0)
    right, bottom = np.minimum(boxes[:, 2:].max(0), (width, height))
    if right <= left or bottom <= top:
        return
    layers = 0
    for x, y, scale, angle in poses:
        level = min(int(max(0.0, -np.log2(scale))), len(levels) - 1)
        piece = levels[level]
        across, down = (side / (scale * whole) for side, whole in zip(piece.size, thing.piece.size, strict=True))
        cosine, sine = np.cos(angle), np.sin(angle)
        dx, dy = left - x - shift[0], top - y - shift[1]
        row = across * cosine, across * sine, across * (cosine * dx + sine * dy) + piece.width / 2
        column = -down * sine, down * cosine, down * (cosine * dy - sine * dx) + piece.height / 2
        size = int(right - left), int(bottom - top)
        seen = piece.transform(size, Image.Transform.AFFINE, (*row, *column), Image.Resampling.BILINEAR)
        layers = layers + np.asarray(seen, np.float32)
    layers *= 1 / len(poses)
    part = picture[top:bottom, left:right]
    part *= 1 - layers[..., 3:] / 255
    part += layers[..., :3]


def _box(thing: Thing, pose: tuple[float, float, float, float], shift: np.ndarray) -> tuple[int, int, int, int]:
    x, y, scale, angle = pose
    half = np.array(thing.piece.size) * scale / 2
    cosine, sine = abs(np.cos(angle)), abs(np.sin(angle))
    reach = np.array([cosine * half[0] + sine * half[1], sine * half[0] + cosine * half[1]]) + 1
    middle = np.array([x, y]) + shift
    return (*np.floor(middle - reach).astype(int), *np.ceil(middle + reach).astype(int))


def _noise(rng: np.random.Generator, camera: Camera, picture: np.ndarray, brightness: float) -> np.ndarray:
    """Read and shot noise, in part the same in all colours."""
    rows, columns = (-(-side // camera.grain) for side in picture.shape[:2])
    grains = rng.standard_normal((rows, columns, 4), np.float32)
    noise = np.float32(0.6) * grains[..., :3] + np.float32(0.8) * grains[..., 3:]
    if camera.grain > 1:
        noise = noise.repeat(camera.grain, 0).repeat(camera.grain, 1)[: picture.shape[0], : picture.shape[1]]
    light = picture.mean(-1, keepdims=True).clip(0) * np.float32(camera.shot_share / brightness)
    return noise * np.sqrt(light + np.float32(1 - camera.shot_share)) * np.float32(camera.noise)
