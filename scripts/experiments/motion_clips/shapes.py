"""Object silhouettes: ellipses, boxes, blobs, ragged polygons, wedges, elongated or ragged enough to show a turn."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SHAPE_KINDS = ("ellipse", "box", "blob", "ragged", "wedge", "cross")


def draw_outline(rng, kind, aspect, max_tilt=180.0):
    """Corner points (n, 2) about the area centroid, area 1, longer than wide by about `aspect`, the long axis tilted at
    random by up to `max_tilt` degrees."""
    if kind == "wedge":
        points = np.array([(-1, -0.9), (0.15, -0.9), (0.15, -0.35), (1, 0), (0.15, 0.5), (-1, 0.35)])
        points = points + rng.uniform(-0.15, 0.15, points.shape)
    elif kind == "cross":
        arm, place = rng.uniform(0.25, 0.4), rng.uniform(-0.1, 0.55)
        points = np.array(
            [(-1, -arm), (place - arm, -arm), (place - arm, -1), (place + arm, -1), (place + arm, -arm), (1, -arm)]
            + [(1, arm), (place + arm, arm), (place + arm, 0.7), (place - arm, 0.7), (place - arm, arm), (-1, arm)]
        )
    else:
        points = _radial_outline(rng, kind)
    points = points * (np.sqrt(aspect), 1 / np.sqrt(aspect))
    area, centroid = _area_and_centroid(points)
    points = (points - centroid) / np.sqrt(area)
    angle = rng.uniform(-np.pi, np.pi) * max_tilt / 180
    cosine, sine = np.cos(angle), np.sin(angle)
    return points @ np.array([[cosine, sine], [-sine, cosine]])


def _radial_outline(rng, kind):
    if kind == "ragged":
        count = int(rng.integers(7, 14))
        angles = (np.arange(count) + rng.uniform(0, 0.7, count)) * (2 * np.pi / count)
        radii = rng.uniform(0.55, 1.1, count)
    else:
        angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        radii = np.ones(40)
        if kind == "box":
            radii = (np.abs(np.cos(angles)) ** 6 + np.abs(np.sin(angles)) ** 6) ** (-1 / 6)
        elif kind == "blob":
            for harmonic in (1, 2, 3, 4):
                radii = radii + rng.uniform(0.05, 0.3) / harmonic * np.cos(harmonic * angles + rng.uniform(0, 6.28))
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=-1)


def _area_and_centroid(points):
    following = np.roll(points, -1, axis=0)
    cross = points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]
    area = cross.sum() / 2
    return abs(area), ((points + following) * cross[:, None]).sum(axis=0) / (6 * area)


def rasterise(outline, side, softness):
    """Square alpha mask (n, n) uint8 of an outline of area `side`**2 px, centroid in the middle, edge blur in px."""
    corners = outline * side
    half = int(np.ceil(np.hypot(corners[:, 0], corners[:, 1]).max() + 2 * softness + 2))
    mask = Image.new("L", (4 * half, 4 * half))
    ImageDraw.Draw(mask).polygon((2 * corners + 2 * half).ravel().tolist(), fill=255)
    mask = mask.resize((2 * half, 2 * half), Image.Resampling.BOX)
    if softness > 0.3:
        mask = mask.filter(ImageFilter.GaussianBlur(softness))
    return np.asarray(mask)
