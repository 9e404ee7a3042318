"""Synthetic textures with the statistics of natural images: dead leaves, 1/f noise, gradients, lettering, mixtures."""

import functools
import string

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TEXTURE_KINDS = ("gradient", "noise", "leaves", "text", "mixed")
_BANK_SIDE = 512
_BANK_SEED = 20250
_FONT_SIZES = (8, 11, 15, 21, 30, 42)


@functools.lru_cache(maxsize=1)
def _fractal_bank():
    """RGB images (uint8, 512 x 512) of 1/f noise, two images for each of three spectral slopes."""
    rng = np.random.default_rng(_BANK_SEED)
    frequency = np.hypot(np.fft.fftfreq(_BANK_SIDE)[:, None], np.fft.rfftfreq(_BANK_SIDE)[None])
    frequency[0, 0] = np.inf
    images = []
    for slope in (0.9, 1.2, 1.6):
        for _ in range(2):
            fields = [_unit_field(rng, frequency**-slope) for _ in range(3)]
            luma = fields[0]
            channels = [luma + 0.35 * fields[1], luma - 0.2 * fields[1] + 0.2 * fields[2], luma - 0.35 * fields[2]]
            images.append(Image.fromarray(to_uint8(128 + 45 * np.stack(channels, axis=-1))))
    return tuple(images)


def _unit_field(rng, amplitude):
    spectrum = amplitude * np.exp(2j * np.pi * rng.random(amplitude.shape))
    field = np.fft.irfft2(spectrum, s=(_BANK_SIDE, _BANK_SIDE)).astype(np.float32)
    return (field - field.mean()) / field.std()


@functools.lru_cache(maxsize=len(_FONT_SIZES))
def _font(size):
    return ImageFont.load_default(size=size)


def to_uint8(values):
    return np.clip(values, 0, 255).astype(np.uint8)


def draw_palette(rng, count):
    """`count` colours (count, 3) that share a base tone, as the surfaces of one scene do."""
    base = rng.uniform(60, 195) + rng.normal(0, 18, 3)
    luma = rng.normal(0, 50, (count, 1))
    return np.clip(base + luma + rng.normal(0, 24, (count, 3)), 6, 250)


def make_texture(rng, kind, width, height, unit):
    """An RGB texture, uint8 (height, width, 3); `unit` is the length in pixels that its features scale with."""
    painter = {
        "gradient": _gradient,
        "noise": _noise,
        "leaves": _leaves,
        "text": _text,
        "mixed": _mixed,
    }[kind]
    return np.asarray(painter(rng, width, height, unit))


def _gradient(rng, width, height, unit):
    corners = draw_palette(rng, 4).reshape(2, 2, 3)
    image = Image.fromarray(to_uint8(corners)).resize((width, height), Image.Resampling.BICUBIC)
    return _grained(rng, image, 0.12)


def _noise_crop(rng, width, height):
    bank = _fractal_bank()
    image = bank[rng.integers(len(bank))]
    long_side = int(rng.integers(96, _BANK_SIDE + 1))
    crop_width = max(8, round(long_side * min(1, width / height)))
    crop_height = max(8, round(long_side * min(1, height / width)))
    left = int(rng.integers(_BANK_SIDE - crop_width + 1))
    top = int(rng.integers(_BANK_SIDE - crop_height + 1))
    box = (left, top, left + crop_width, top + crop_height)
    crop = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=box))
    crop = crop[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]
    return crop[..., rng.permutation(3)]


def _noise(rng, width, height, unit):
    tone = draw_palette(rng, 1)[0]
    values = (_noise_crop(rng, width, height) - np.float32(128)) * np.float32(rng.uniform(0.7, 1.3))
    return Image.fromarray(to_uint8(values + tone.astype(np.float32)))


def _grained(rng, image, amount):
    """The image with 1/f noise of `amount` times the bank's contrast on top."""
    grain = (_noise_crop(rng, *image.size) - np.float32(128)) * np.float32(amount)
    return Image.fromarray(to_uint8(np.asarray(image) + grain))


def _scatter_leaves(rng, image, unit, count, smallest, largest):
    """Draw `count` leaves, radii (in units) after a power law, large ones mostly first."""
    width, height = image.size
    low, high = smallest**-2, largest**-2
    radii = unit * rng.uniform(high, low, count) ** -0.5
    radii = radii[np.argsort(-radii * np.exp(rng.normal(0, 0.4, count)))]
    palette = draw_palette(rng, 12)
    colours = to_uint8(palette[rng.integers(12, size=count)] + rng.normal(0, 10, (count, 3))).tolist()
    centres = rng.uniform(0, 1, (count, 2)) * (width, height)
    flatness = rng.uniform(0.4, 1, count)
    corners = rng.integers(2, 8, count)
    draw = ImageDraw.Draw(image)
    for index in range(count):
        x, y = centres[index]
        radius = radii[index]
        colour = tuple(colours[index])
        if corners[index] < 4:
            across, down = (radius, radius * flatness[index])[:: 1 if corners[index] == 2 else -1]
            draw.ellipse((x - across, y - down, x + across, y + down), fill=colour)
        else:
            turns = (np.arange(corners[index]) + rng.uniform(0, 0.9, corners[index])) * (2 * np.pi / corners[index])
            points = np.stack([x + radius * np.cos(turns), y + radius * np.sin(turns)], axis=-1)
            draw.polygon(points.ravel().tolist(), fill=colour)
    return image


def _leaves(rng, width, height, unit):
    image = Image.new("RGB", (width, height), tuple(to_uint8(draw_palette(rng, 1)[0]).tolist()))
    smallest = rng.uniform(0.02, 0.06)
    extent = (width * height) / (unit * unit)
    count = int(np.clip(extent * rng.uniform(60, 160), 25, 260))
    _scatter_leaves(rng, image, unit, count, smallest, rng.uniform(0.25, 0.5))
    return _grained(rng, image, rng.uniform(0.1, 0.4))


def _write_lines(rng, image, unit, count):
    width, height = image.size
    draw = ImageDraw.Draw(image)
    letters = np.array(list(string.ascii_letters + string.digits + "     .,"))
    for colour in to_uint8(draw_palette(rng, count)).tolist():
        wanted = unit * rng.uniform(0.05, 0.16)
        font = _font(min(_FONT_SIZES, key=lambda size: abs(size - wanted)))
        text = "".join(rng.choice(letters, int(rng.integers(4, 22))))
        position = (rng.uniform(-0.2, 0.9) * width, rng.uniform(-0.05, 1) * height)
        draw.text(position, text, fill=tuple(colour), font=font)
    return image


def _text(rng, width, height, unit):
    ground = _gradient(rng, width, height, unit) if rng.random() < 0.5 else _noise(rng, width, height, unit)
    return _write_lines(rng, ground, unit, int(rng.integers(6, 22)))


def _mixed(rng, width, height, unit):
    ground = _gradient(rng, width, height, unit) if rng.random() < 0.5 else _noise(rng, width, height, unit)
    count = int(rng.integers(10, 70))
    _scatter_leaves(rng, ground, unit, count, rng.uniform(0.03, 0.1), rng.uniform(0.2, 0.5))
    if rng.random() < 0.5:
        _write_lines(rng, ground, unit, int(rng.integers(2, 8)))
    return _grained(rng, ground, rng.uniform(0.1, 0.3))
