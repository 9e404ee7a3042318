"""Textures and materials, made of numbers: no file is read."""

import functools
from dataclasses import dataclass

import numpy as np

BODY_TEXTURE = 64
ROOM_TEXTURE = 128
FACES = 6


@dataclass(frozen=True)
class Surface:
    """What a thing looks like.

    Attributes:
        texture: uint8 (height, width, 3); of a body's surface the six faces of a cube below one another.
        colour: its mean, red, green, blue of 0 to 1.
        specular, shininess, emission: as MuJoCo has them, 0 to 1.
        repeat: how often the texture of a plane repeats in a unit of length.
    """

    texture: np.ndarray
    colour: np.ndarray
    specular: float
    shininess: float
    emission: float
    repeat: float


def draw_surface(random, kinds, *, faces, side, avoid=(), least_contrast=0.0):
    """A surface with a texture of one of `kinds`, its colour apart from the colours in `avoid`.

    Args:
        faces: of which the texture consists, one below the other.
        side: of a face in pixels.
        least_contrast: distance of the texture's two colours, of 0 to 1.7.
    """
    low, high = _colours(random, avoid, least_contrast)
    pattern = _PATTERNS[kinds[random.integers(len(kinds))]]
    shares = np.concatenate([pattern(random, side) for _ in range(faces)])[..., None]
    grain = 0.1 * random.random() * (np.tile(_clouds(random, side, 0.6), (faces, 1)) - 0.5)[..., None]
    texture = (255 * np.clip(low + (high - low) * shares + grain, 0, 1)).astype(np.uint8)
    return Surface(
        texture,
        texture.mean((0, 1)) / 255,
        float(random.choice((0.0, random.random()))),
        float(random.random()),
        float(random.choice((0.0, random.uniform(0, 0.3)), p=(0.7, 0.3))),
        float(np.exp(random.uniform(np.log(0.3), np.log(2.5)))),
    )


def _colours(random, avoid, least_contrast):
    for nearness in np.linspace(1, 0, 60):
        low, high = _colour(random), _colour(random)
        middle = (low + high) / 2
        apart = all(np.linalg.norm(middle - colour) > 0.5 * nearness for colour in avoid)
        if apart and np.linalg.norm(low - high) >= least_contrast * nearness:
            break
    return low, high


def _colour(random):
    """Grey to vivid, dark to bright."""
    grey, hue = random.random(), random.random(3)
    return grey + (hue - grey) * random.random() ** 1.5


@functools.cache
def _grid(side):
    places = np.arange(side, dtype=np.float32) / side
    return np.meshgrid(places, places, indexing="ij")


@functools.cache
def _frequencies(side):
    rows, columns = np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij")
    frequencies = np.hypot(rows, columns) * side
    frequencies[0, 0] = np.inf
    return frequencies


def _clouds(random, side, steepness=1.5):
    spectrum = np.fft.rfft2(random.standard_normal((side, side), np.float32))
    field = np.fft.irfft2(spectrum / _frequencies(side) ** steepness, (side, side))
    return np.clip(field / field.std() / 4 + 0.5, 0, 1)


def _flat(random, side):
    return np.full((side, side), random.random())


def _checks(random, side):
    down, right = _grid(side)
    count, other = 2 * random.integers(1, 5, 2)
    return ((down * count).astype(int) + (right * other).astype(int)) % 2 * 1.0


def _stripes(random, side):
    down, right = _grid(side)
    wave = down * random.integers(0, 5) + right * random.integers(1, 5)
    return (wave % 1 < random.uniform(0.3, 0.7)) * 1.0


def _stains(random, side):
    return (_clouds(random, side, random.uniform(1.2, 2)) > random.uniform(0.4, 0.6)) * 1.0


def _patches(random, side):
    down, right = _grid(side)
    seeds = random.random((random.integers(5, 20), 3)).astype(np.float32)
    distances = [_round_the_rim(down - y) ** 2 + _round_the_rim(right - x) ** 2 for y, x, _ in seeds]
    return seeds[np.argmin(distances, 0), 2]


def _round_the_rim(difference):
    return difference - np.rint(difference)


def _dots(random, side):
    down, right = _grid(side)
    count, radius = random.integers(2, 5), random.uniform(0.2, 0.42)
    rows = (down * count).astype(int)
    return (np.hypot(down * count % 1 - 0.5, (right * count + 0.5 * (rows % 2)) % 1 - 0.5) < radius) * 1.0


def _bricks(random, side):
    down, right = _grid(side)
    rows, columns = 2 * random.integers(2, 5), random.integers(2, 5)
    row = (down * rows).astype(int)
    across = (right * columns + 0.5 * (row % 2)) % columns
    tones = 0.35 + 0.65 * random.random((rows, columns))
    joint = (down * rows % 1 < 0.12) | (across % 1 < 0.08)
    return np.where(joint, 0, tones[row, across.astype(int)])


def _grain(random, side):
    down, right = _grid(side)
    bent = random.integers(2, 6) * down + random.uniform(0.5, 2) * _clouds(random, side, 2)
    return 0.5 + 0.5 * np.sin(2 * np.pi * bent)


def _rings(random, side):
    down, right = _grid(side)
    y, x = random.uniform(0.3, 0.7, 2)
    distance = np.hypot(down - y, (right - x) * random.uniform(0.5, 1))
    return (distance * random.uniform(3, 7) % 1 < 0.5) * 1.0


_PATTERNS = {
    "flat": _flat,
    "clouds": _clouds,
    "checks": _checks,
    "stripes": _stripes,
    "stains": _stains,
    "patches": _patches,
    "dots": _dots,
    "bricks": _bricks,
    "grain": _grain,
    "rings": _rings,
}
TEST_TEXTURES = ("dots", "bricks", "grain", "rings")
TEXTURES = tuple(kind for kind in _PATTERNS if kind not in TEST_TEXTURES and kind != "flat")
