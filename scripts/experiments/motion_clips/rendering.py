"""From a clip's specification to its frames."""

import dataclasses
import functools

import numpy as np
from PIL import Image, ImageFilter

from flux_hf.scripts.experiments.motion_clips.photos import cut_photo
from flux_hf.scripts.experiments.motion_clips.shapes import SHAPE_KINDS, draw_outline, rasterise
from flux_hf.scripts.experiments.motion_clips.textures import TEXTURE_KINDS, make_texture, to_uint8
from flux_hf.scripts.experiments.motion_clips.trajectories import Poses, distractor_poses, main_poses, progress

_NOISE_BANK_SIZE = 1 << 21
_NOISE_SEED = 20251
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_SHAKE_STEPS = 2  # shake is rounded to halves of a pixel, so that shifted backgrounds can be reused


@dataclasses.dataclass(frozen=True)
class Sprite:
    """An object: its square picture (red, green, blue, alpha), corners (n, 2), width of the soft rim, poses; in pixels.

    The corners are relative to the middle of the picture, the poses to the left upper corner of the frame.
    """

    image: Image.Image
    corners: np.ndarray
    rim: float
    poses: Poses


@dataclasses.dataclass(frozen=True)
class Scene:
    """An oversized background, uint8 (height, width, 3), the sprites in painting order, and the main one of them."""

    background: np.ndarray
    sprites: tuple
    main: Sprite


@functools.lru_cache(maxsize=1)
def _noise_bank():
    return np.random.default_rng(_NOISE_SEED).standard_normal(_NOISE_BANK_SIZE, dtype=np.float32)


def render_frames(spec):
    """Yield the clip's frames, uint8 arrays (height, width, 3)."""
    rng = np.random.default_rng([*spec.entropy, 2])
    scene = build_scene(spec, rng)
    backgrounds = {}
    shake = _shake_path(rng, spec)
    gains = _exposure_gains(rng, spec)
    noise, starts = _clip_noise(rng, spec)
    for index in range(spec.num_frames):
        shift = (int(shake[index, 0]), int(shake[index, 1]))
        if shift not in backgrounds:
            backgrounds[shift] = _shifted_background(scene.background, spec, shift)
        frame = backgrounds[shift].copy()
        for sprite in scene.sprites:
            paste_sprite(frame, sprite, index, shift[0] / _SHAKE_STEPS, shift[1] / _SHAKE_STEPS)
        yield _expose(frame, gains[index], noise, starts[index])


def build_scene(spec, rng):
    """Paint background, main object and distractors of a clip."""
    margin = background_margin(spec)
    width, height, short = spec.width + 2 * margin, spec.height + 2 * margin, spec.short_side
    background = _surface(rng, spec, spec.background_texture, width, height, short)
    background = _with_contrast(background, spec.background_contrast)
    if spec.blur * short > 0.3:
        background = np.asarray(Image.fromarray(background).filter(ImageFilter.GaussianBlur(spec.blur * short)))
    left, top = (width - short) // 2, (height - short) // 2
    surroundings = background[top : top + short : 4, left : left + short : 4].reshape(-1, 3).mean(axis=0)
    main = _main_sprite(rng, spec, surroundings)
    distractors = [_distractor(rng, spec, surroundings) for _ in range(spec.num_distractors)]
    in_front = rng.random(spec.num_distractors) < 0.3
    behind = [sprite for sprite, front in zip(distractors, in_front, strict=True) if not front]
    before = [sprite for sprite, front in zip(distractors, in_front, strict=True) if front]
    return Scene(background, (*behind, main, *before), main)


def background_margin(spec):
    """Pixels by which the background is larger than the frame on every side, room for the shake."""
    return int(np.ceil(spec.shake * spec.short_side)) + 1


def _surface(rng, spec, kind, width, height, unit):
    if spec.source == "photos":
        return cut_photo(rng, width, height)
    return make_texture(rng, kind, width, height, unit)


def _with_contrast(image, contrast):
    """The image with its deviation from its mean scaled, and no more than 40 grey levels of it left."""
    sample = image[::4, ::4].reshape(-1, 3).astype(np.float32)
    mean = sample.mean(axis=0)
    spread = float((sample @ _LUMA).std())
    contrast = np.float32(min(contrast, 40 / max(spread, 1)))
    tables = to_uint8(mean + (np.arange(256, dtype=np.float32)[:, None] - mean) * contrast + 0.5)
    return _apply_tables(image, tables)


def _apply_tables(image, tables):
    """Look every channel up in its column of `tables` (256, 3)."""
    return np.asarray(Image.fromarray(image).point(tables.T.ravel().tolist()))


def _contrasting(rng, image, surroundings, distance):
    """The texture with its mean moved to at least `distance` (in RGB space) from the colour of the surroundings."""
    mean = image.reshape(-1, 3).mean(axis=0)
    difference = mean - surroundings
    length = float(np.linalg.norm(difference))
    brighter = 1.0 if surroundings @ _LUMA < 128 else -1.0
    if length < distance or difference @ _LUMA * brighter < 0.2 * distance:
        tint = rng.normal(0, 0.35, 3)
        direction = brighter + tint
        target = surroundings + distance * direction / np.linalg.norm(direction)
    else:
        target = mean
    target = np.clip(target, 25, 230)
    return _with_mean(image, mean, target, 50)


def _coloured(image, colour):
    """The texture with this mean colour."""
    return _with_mean(image, image.reshape(-1, 3).mean(axis=0), np.asarray(colour), 12)


def _with_mean(image, mean, target, most):
    """The texture with `target` in place of its mean, and a standard deviation of at most `most` grey levels."""
    gain = min(1.0, most / max(float((image @ _LUMA).std()), 1))
    values = np.arange(256, dtype=np.float32)[:, None]
    return _apply_tables(image, to_uint8(target + (values - mean) * gain + 0.5))


def _main_sprite(rng, spec, surroundings):
    short = spec.short_side
    share = progress(spec.num_frames, spec.easing, spec.pause_start, spec.pause_end)
    poses = main_poses(spec.motion, share, spec.middle_x, spec.middle_y)
    outline = draw_outline(rng, spec.object_shape, spec.object_aspect, spec.max_tilt)

    def paint(texture):
        if spec.object_colour is not None:
            return _coloured(texture, spec.object_colour)
        return _contrasting(rng, texture, surroundings, spec.colour_distance)

    return _sprite(rng, spec, outline, spec.object_side * short, spec.object_texture, paint, poses)


def _distractor(rng, spec, surroundings):
    short = spec.short_side
    side = spec.object_side * rng.uniform(0.2, 0.4)
    duration = spec.num_frames / float(spec.frame_rate)
    extents = spec.width / short / 2, spec.height / short / 2
    poses = distractor_poses(rng, spec.num_frames, duration, *extents, spec.hardness)
    outline = draw_outline(rng, str(rng.choice(SHAPE_KINDS)), rng.uniform(1, 2))
    kind = str(rng.choice(TEXTURE_KINDS))
    distance = rng.uniform(20, 90)
    return _sprite(
        rng,
        spec,
        outline,
        side * short,
        kind,
        lambda texture: _contrasting(rng, texture, surroundings, distance),
        poses,
    )


def _sprite(rng, spec, outline, side, kind, paint, poses):
    short = spec.short_side
    softness = (spec.softness + spec.blur) * short
    mask = rasterise(outline, side, softness)
    texture = _surface(rng, spec, kind, mask.shape[1], mask.shape[0], max(side * 1.6, 24))
    texture = paint(texture)
    if spec.blur * short > 0.3:
        texture = np.asarray(Image.fromarray(texture).filter(ImageFilter.GaussianBlur(spec.blur * short)))
    # CMYK is Pillow's only four-channel mode that transform() samples without touching the colours.
    image = Image.fromarray(np.dstack([texture, mask]), mode="CMYK")
    x, y = poses.x * short + spec.width / 2, poses.y * short + spec.height / 2
    return Sprite(image, outline * side, 2 * softness, Poses(x, y, poses.scale, poses.angle))


def place_sprite(sprite, index, width, height, shift_x=0.0, shift_y=0.0):
    """Where the sprite lies in frame `index`: (left, top, pixels (h, w, 4)), or None when it is outside the frame."""
    poses = sprite.poses
    x, y, scale = poses.x[index] + shift_x, poses.y[index] + shift_y, poses.scale[index]
    middle = sprite.image.width / 2
    cosine, sine = float(np.cos(poses.angle[index])), float(np.sin(poses.angle[index]))
    corners = sprite.corners @ (np.array([[cosine, sine], [-sine, cosine]]) * scale)
    (west, north), (east, south) = corners.min(axis=0), corners.max(axis=0)
    rim = sprite.rim * scale + 1
    left, top = max(0, int(x + west - rim)), max(0, int(y + north - rim))
    right, bottom = min(width, int(np.ceil(x + east + rim))), min(height, int(np.ceil(y + south + rim)))
    if left >= right or top >= bottom:
        return None
    cosine, sine = cosine / scale, sine / scale
    from_x, from_y = left - x, top - y
    matrix = (
        cosine,
        sine,
        middle + cosine * from_x + sine * from_y,
        -sine,
        cosine,
        middle - sine * from_x + cosine * from_y,
    )
    size = (right - left, bottom - top)
    return left, top, sprite.image.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def paste_sprite(frame, sprite, index, shift_x, shift_y):
    """Blend the sprite into the frame (changed in place)."""
    placed = place_sprite(sprite, index, frame.shape[1], frame.shape[0], shift_x, shift_y)
    if placed is None:
        return
    left, top, image = placed
    pixels = np.asarray(image)
    region = frame[top : top + pixels.shape[0], left : left + pixels.shape[1]]
    alpha = pixels[..., 3:].astype(np.int32)
    under = region.astype(np.int32)
    under += ((pixels[..., :3] - under) * alpha + 127) >> 8
    region[...] = under


def _shifted_background(background, spec, shift):
    """The frame-sized part of the background, moved by `shift` halves of a pixel."""
    margin = background_margin(spec)
    width, height = spec.width, spec.height
    left, top = margin - shift[0] / _SHAKE_STEPS, margin - shift[1] / _SHAKE_STEPS
    if left == int(left) and top == int(top):
        return background[int(top) : int(top) + height, int(left) : int(left) + width]
    matrix = (1, 0, left, 0, 1, top)
    image = Image.fromarray(background)
    return np.asarray(image.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR))


def _shake_path(rng, spec):
    """Shift of the camera in every frame, (num_frames, 2) whole halves of a pixel."""
    time = np.arange(spec.num_frames) / float(spec.frame_rate)
    cycles = rng.uniform(0.3, 4, (3, 2, 1))
    phases = rng.uniform(0, 2 * np.pi, (3, 2, 1))
    path = np.sin(2 * np.pi * cycles * time + phases).mean(axis=0).T
    return np.rint(path * spec.shake * spec.short_side * _SHAKE_STEPS).astype(int)


def _exposure_gains(rng, spec):
    """For every frame the factor of its pixel values in 128ths, (num_frames,) uint16."""
    time = np.linspace(0, 1, spec.num_frames)
    course = time if rng.random() < 0.5 else np.sin(2 * np.pi * (rng.uniform(0.3, 1.5) * time + rng.random()))
    return np.rint(128 * (1 + spec.exposure * (course - course.mean()))).astype(np.uint16)


def _clip_noise(rng, spec):
    """Camera noise for the clip (int16, flat) and every frame's start in it; (None, starts) for a clean camera."""
    size = spec.width * spec.height * 3
    starts = rng.integers(60_000, size=spec.num_frames)
    if spec.noise < 0.5:
        return None, starts
    bank = _noise_bank()
    first = int(rng.integers(_NOISE_BANK_SIZE - 60_000))
    values = np.take(bank, np.arange(first, first + size + 60_000), mode="wrap")
    return np.rint(values * np.float32(spec.noise)).astype(np.int16), starts


def _expose(frame, gain, noise, start):
    values = np.multiply(frame, gain, dtype=np.uint16)
    values >>= 7
    values = values.view(np.int16)
    if noise is not None:
        values += noise[start : start + frame.size].reshape(frame.shape)
    return np.clip(values, 0, 255, out=values).astype(np.uint8)
