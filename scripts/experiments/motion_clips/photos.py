"""Textures cut out of real photographs: the sample images that scikit-learn ships."""

import functools

import numpy as np
from PIL import Image

from flux_hf.scripts.experiments.motion_clips.textures import to_uint8


@functools.lru_cache(maxsize=1)
def load_photos():
    """The photographs, a tuple of RGB PIL images; ImportError with a hint when scikit-learn is missing."""
    try:
        from sklearn.datasets import load_sample_images
    except ImportError as error:
        raise ImportError("source 'photos' needs scikit-learn (pip install scikit-learn)") from error
    return tuple(Image.fromarray(image) for image in load_sample_images().images)


def cut_photo(rng, width, height):
    """A piece of a photograph at random place, scale, rotation and colour gain, uint8 (height, width, 3)."""
    photos = load_photos()
    photo = photos[rng.integers(len(photos))]
    angle = rng.uniform(-np.pi, np.pi) if rng.random() < 0.5 else rng.choice((0, np.pi / 2, np.pi, -np.pi / 2))
    cosine, sine = abs(np.cos(angle)), abs(np.sin(angle))
    needed_width, needed_height = width * cosine + height * sine, width * sine + height * cosine
    largest = min(photo.width / needed_width, photo.height / needed_height)
    scale = largest * rng.uniform(0.35, 1)
    half_width, half_height = scale * needed_width / 2, scale * needed_height / 2
    centre_x = rng.uniform(half_width, max(half_width, photo.width - half_width))
    centre_y = rng.uniform(half_height, max(half_height, photo.height - half_height))
    a, b = scale * np.cos(angle), -scale * np.sin(angle)
    d, e = scale * np.sin(angle), scale * np.cos(angle)
    offset_x = centre_x - a * width / 2 - b * height / 2
    offset_y = centre_y - d * width / 2 - e * height / 2
    if scale > 1.5:
        photo, a, b, d, e, offset_x, offset_y = _shrunk(photo, scale, (a, b, d, e, offset_x, offset_y))
    matrix = (a, b, offset_x, d, e, offset_y)
    piece = photo.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    gain = rng.uniform(0.75, 1.3) * np.exp(rng.normal(0, 0.1, 3))
    values = np.asarray(piece, dtype=np.float32) * gain.astype(np.float32) + np.float32(rng.uniform(-15, 15))
    return to_uint8(values[:, :: rng.choice((-1, 1))])


def _shrunk(photo, scale, matrix):
    """The photograph reduced by about `scale` so that bilinear sampling does not alias, and the matrix for it."""
    factor = int(scale)
    small = photo.reduce(factor) if factor > 1 else photo
    return (small, *(value / factor for value in matrix))
