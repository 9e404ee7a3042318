"""Bodies of one or several parts whose turning can be seen: longer than wide, with a texture, or both."""

from dataclasses import dataclass

import numpy as np

from flux_hf.scripts.experiments.motion_clips_3d.motions import rotation, unit

RIGHT, AHEAD, UP = np.eye(3)
_CLOUD = 1500
_CELLS = 28


@dataclass(frozen=True)
class Part:
    """A piece of a body, in the body's coordinates.

    Attributes:
        kind: box, ellipsoid, cylinder, capsule or mesh.
        size: half lengths (3,); of cylinder and capsule radius, half length of the axis (z), unused.
        position, rotation: (3,) and (3, 3).
        corners: (n, 3) points of a mesh, which is their convex hull; `size` is 1 then.
        surface: which of the body's two surfaces it has, 0 or 1.
    """

    kind: str
    size: tuple
    position: np.ndarray
    rotation: np.ndarray
    corners: np.ndarray | None = None
    surface: int = 0


def draw_body(random, kind):
    """The parts of a body of one of the kinds; its longest extent lies along x and is about 2."""
    if kind not in _KINDS:
        raise ValueError(f"unknown kind of body {kind!r}, expected one of {', '.join(_KINDS)}")
    return tuple(_KINDS[kind](random))


def placed(parts, turn, scale):
    """The parts turned by a matrix (3, 3) and then scaled, about the middle of what they fill."""
    points = _filled(parts)
    middle = (points.min(0) + points.max(0)) / 2
    return tuple(
        Part(
            part.kind,
            tuple(scale * length for length in part.size),
            scale * turn @ (part.position - middle),
            turn @ part.rotation,
            None if part.corners is None else scale * part.corners,
            part.surface,
        )
        for part in parts
    )


def extents(parts):
    """Roughly: the area of the outline seen along y, and the radius of the ball about the origin that holds all."""
    points = _filled(parts)
    seen = points[:, (0, 2)]
    low, span = seen.min(0), np.ptp(seen, 0)
    cells = np.unique(((seen - low) / span * (_CELLS - 1)).round().astype(int), axis=0)
    return float(len(cells) / _CELLS**2 * span.prod()), float(np.linalg.norm(points, axis=1).max())


def _filled(parts):
    random = np.random.default_rng(0)
    return np.concatenate([_points(random, part) @ part.rotation.T + part.position for part in parts])


def _points(random, part):
    if part.kind == "mesh":
        return random.dirichlet(np.full(len(part.corners), 0.3), _CLOUD) @ part.corners
    if part.kind == "box":
        return random.uniform(-1, 1, (_CLOUD, 3)) * part.size
    ball = random.normal(size=(_CLOUD, 3))
    ball *= (random.random(_CLOUD) ** (1 / 3) / np.linalg.norm(ball, axis=1))[:, None]
    if part.kind == "ellipsoid":
        return ball * part.size
    radius, half, _ = part.size
    along = random.uniform(-half, half, _CLOUD)
    if part.kind == "capsule":
        return ball * radius + along[:, None] * UP
    angle, distance = random.uniform(0, 2 * np.pi, _CLOUD), radius * np.sqrt(random.random(_CLOUD))
    return np.stack([distance * np.cos(angle), distance * np.sin(angle), along], -1)


def _part(kind, size, position=(0, 0, 0), turn=None, surface=0, corners=None):
    return Part(kind, tuple(size), np.array(position, float), np.eye(3) if turn is None else turn, corners, surface)


def _rod(kind, radius, half, position=(0, 0, 0), turn=None, surface=0):
    """A cylinder or capsule along x."""
    along_x = rotation(AHEAD, np.pi / 2)
    return _part(kind, (radius, half, 0), position, along_x if turn is None else turn @ along_x, surface)


def _hull(corners, surface=0, position=(0, 0, 0)):
    return _part("mesh", (1, 1, 1), position, corners=np.asarray(corners, float), surface=surface)


def _brick(random):
    return [_part("box", (1, random.uniform(0.25, 0.7), random.uniform(0.3, 0.65)))]


def _pill(random):
    return [_rod("capsule", random.uniform(0.25, 0.5), 0.7)]


def _egg(random):
    return [_part("ellipsoid", (1, random.uniform(0.4, 0.8), random.uniform(0.35, 0.65)))]


def _can(random):
    radius = random.uniform(0.3, 0.6)
    return [_rod("cylinder", radius, 1), _rod("cylinder", radius * 1.04, 0.15, (0.85, 0, 0), surface=1)]


def _rock(random):
    corners = random.normal(size=(random.integers(7, 16), 3))
    corners /= np.linalg.norm(corners, axis=1)[:, None]
    return [_hull(corners * random.uniform(0.8, 1.1, (len(corners), 1)) * (1, random.uniform(0.5, 0.9), 0.62))]


def _hammer(random):
    head = random.choice(("box", "cylinder"))
    size = (random.uniform(0.18, 0.3), random.uniform(0.2, 0.35), random.uniform(0.45, 0.7))
    if head == "cylinder":
        size = (size[1], size[2], 0)
    return [_rod("cylinder", random.uniform(0.08, 0.15), 0.95), _part(head, size, (0.9, 0, 0), surface=1)]


def _dumbbell(random):
    first, second = random.uniform(0.25, 0.5, 2)
    return [
        _rod("cylinder", random.uniform(0.08, 0.18), 0.8),
        _part("ellipsoid", (first,) * 3, (-0.8, 0, 0), surface=1),
        _part("box", (second * 0.8,) * 3, (0.8, 0, 0)),
    ]


def _corner(random):
    thick, length = random.uniform(0.15, 0.3), random.uniform(0.4, 0.8)
    return [
        _part("box", (1, thick, thick)),
        _part("box", (thick, thick, length), (random.uniform(0.4, 0.85), 0, length), surface=1),
    ]


def _cluster(random):
    parts = []
    for number, x in enumerate(np.linspace(-0.65, 0.65, random.integers(3, 6))):
        place = (x, random.uniform(-0.25, 0.25), random.uniform(-0.35, 0.35))
        turn = rotation(unit(random.normal(size=3)), random.uniform(0, np.pi))
        kind = random.choice(("box", "ellipsoid"))
        parts.append(_part(kind, random.uniform(0.28, 0.5, 3), place, turn, number % 2))
    return parts


def _wedge(random):
    depth, height = random.uniform(0.3, 0.6), random.uniform(0.6, 1)
    top = random.uniform(-0.9, 0)
    return [_hull([(x, y, z) for y in (-depth, depth) for x, z in ((-1, -0.4), (1, -0.4), (top, height - 0.4))])]


def _cone(random):
    angles, radius = np.linspace(0, 2 * np.pi, 18, endpoint=False), random.uniform(0.35, 0.6)
    blunt = random.choice((0.05, random.uniform(0.1, 0.5))) * radius
    rings = [(x, r * np.cos(a), r * np.sin(a)) for x, r in ((-1, radius), (1, blunt)) for a in angles]
    return [_hull(rings), _rod("cylinder", radius * 1.1, 0.08, (-1, 0, 0), surface=1)]


def _arrow(random):
    thick, width = random.uniform(0.12, 0.25), random.uniform(0.4, 0.7)
    head = [(x, y, z) for y in (-thick, thick) for x, z in ((0.2, -width), (0.2, width), (1, 0))]
    return [_part("box", (0.6, thick, random.uniform(0.12, 0.25)), (-0.4, 0, 0)), _hull(head, 1)]


def _chain(random):
    count, bend = random.integers(4, 7), random.uniform(-0.6, 0.6)
    sizes = np.linspace(random.uniform(0.15, 0.25), random.uniform(0.25, 0.4), count)
    places = np.linspace(-1, 1, count)
    return [
        _part("ellipsoid", (size,) * 3, (x, 0, bend * x * x), surface=number % 2)
        for number, (x, size) in enumerate(zip(places, sizes, strict=True))
    ]


def _stool(random):
    wide, high = random.uniform(0.5, 0.9), random.uniform(1, 1.5)
    legs = [(-high / 2, y * wide * 0.8, z * wide * 0.8) for y in (-1, 1) for z in (-1, 1)]
    return [
        _part("box", (0.12, wide, wide), (high / 2, 0, 0), surface=1),
        *(_rod("capsule", 0.1, high / 2, (leg[0] + high / 2, *leg[1:])) for leg in legs),
    ]


def _table_lamp(random):
    pole = random.uniform(0.06, 0.12)
    return [
        _rod("cylinder", random.uniform(0.35, 0.55), 0.08, (-1, 0, 0)),
        _rod("cylinder", pole, 1),
        _rod("cylinder", random.uniform(0.3, 0.5), 0.35, (0.75, 0, 0), surface=1),
    ]


_KINDS = {
    "brick": _brick,
    "pill": _pill,
    "egg": _egg,
    "can": _can,
    "rock": _rock,
    "hammer": _hammer,
    "dumbbell": _dumbbell,
    "corner": _corner,
    "cluster": _cluster,
    "wedge": _wedge,
    "cone": _cone,
    "arrow": _arrow,
    "chain": _chain,
    "stool": _stool,
    "table_lamp": _table_lamp,
}
TEST_BODIES = ("wedge", "cone", "arrow", "chain", "stool", "table_lamp")
BODIES = tuple(kind for kind in _KINDS if kind not in TEST_BODIES)
