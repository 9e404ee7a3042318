"""What stands still: the planes of floor and walls, the bystanders on them, the light."""

from dataclasses import dataclass

import numpy as np

from flux_hf.scripts.experiments.motion_clips_3d.bodies import AHEAD, RIGHT, UP, draw_body, extents, placed
from flux_hf.scripts.experiments.motion_clips_3d.motions import rotation, unit
from flux_hf.scripts.experiments.motion_clips_3d.surfaces import (
    BODY_TEXTURE,
    FACES,
    ROOM_TEXTURE,
    Surface,
    draw_surface,
)

NEAREST, FARTHEST = 3**-0.5, 3**0.5
"""Distances of the moving body where it comes nearest and goes farthest; in mid-way it is at 1."""
_WAY = 0.36
_TRIES = 12


@dataclass(frozen=True)
class Plane:
    """Points x with normal . x + height = 0; `height` is the camera's distance from it. `turn` (3, 3) takes z to the
    normal."""

    turn: np.ndarray
    height: float
    surface: Surface

    @property
    def normal(self):
        return self.turn[:, 2]


@dataclass(frozen=True)
class Bystander:
    parts: tuple
    position: np.ndarray
    radius: float
    surfaces: tuple


@dataclass(frozen=True)
class Light:
    """`spot`: a cone from `position`, else the rays are parallel. `colour` of 0 to 1."""

    position: np.ndarray
    direction: np.ndarray
    colour: np.ndarray
    spot: bool
    shadow: bool


@dataclass(frozen=True)
class Room:
    """`ambient`, `from_camera`: brightness of the light from everywhere and from the camera; `sky`: two colours."""

    planes: tuple
    bystanders: tuple
    lights: tuple
    ambient: float
    from_camera: float
    sky: np.ndarray


def reach(middle, short_side):
    """Points (n, 3) that the centre of the moving body can come to, whatever its motion is."""
    at_one = np.array([middle[0] * short_side, 1, middle[1] * short_side])
    sides = [at_one + _WAY * short_side * side for side in (RIGHT, -RIGHT, UP, -UP)]
    return np.stack([at_one, at_one * NEAREST, at_one * FARTHEST, *sides])


def draw_room(random, *, middle, short_side, aspect, radius, bodies, textures):
    """A room in which a body of this `radius` touches nothing on any of its ways.

    Args:
        middle, short_side: as of `motions.poses`.
        aspect: (width, height) of the picture over its short side.
        bodies, textures: kinds to draw from.
    """
    points = reach(middle, short_side)
    planes = _draw_planes(random, points, radius, textures)
    bystanders = []
    for _ in range(random.choice((0, 1, 2, 3, 5), p=(0.2, 0.25, 0.25, 0.15, 0.15))):
        bystander = _draw_bystander(random, planes, points, short_side, aspect, radius, bodies, textures)
        bystanders += [bystander] if bystander else []
    brightness = random.uniform(0.85, 1.45)
    shares = random.dirichlet((2, 1.2, 4)) * brightness
    return Room(
        tuple(planes),
        tuple(bystanders),
        tuple(_draw_lights(random, planes[0].normal, shares[2])),
        float(0.12 + 0.8 * shares[0]),
        float(shares[1]),
        random.random((2, 3)),
    )


def _draw_planes(random, points, radius, textures):
    tilt, roll = np.radians(90 * random.random() ** 1.3), np.radians(random.normal(0, 3))
    floor = rotation(AHEAD, roll) @ rotation(RIGHT, tilt)
    turns = [floor]
    if random.random() < 0.85 - tilt / 2:
        yaw = random.uniform(-40, 40)
        turns.append(floor @ rotation(UP, np.radians(yaw)) @ rotation(RIGHT, np.pi / 2))
        if random.random() < 0.35:
            side = yaw + np.copysign(90, -yaw)
            turns.append(floor @ rotation(UP, np.radians(side)) @ rotation(RIGHT, np.pi / 2))
    planes = []
    for turn in turns:
        least = max(radius - (points @ turn[:, 2]).min(), 0.1)
        height = least * (1.02 + min(random.exponential(0.25), 1.5))
        spun = turn @ rotation(UP, random.uniform(0, 2 * np.pi) if turn is floor else 0)
        kinds = ("flat",) if random.random() < 0.2 else textures
        planes.append(Plane(spun, float(height), draw_surface(random, kinds, faces=1, side=ROOM_TEXTURE)))
    return planes


def _draw_bystander(random, planes, points, short_side, aspect, radius, bodies, textures):
    """A body at rest on one of the planes, seen in the picture and out of the way; None where no place was found."""
    parts = placed(draw_body(random, bodies[random.integers(len(bodies))]), _any_turn(random), 1)
    _, size = extents(parts)
    for _ in range(_TRIES):
        seen = random.uniform(-0.5, 0.5, 2) * aspect
        ray = np.array([seen[0] * short_side, 1, seen[1] * short_side])
        slopes = np.array([-plane.normal @ ray for plane in planes])
        distances = np.array([p.height / s if s > 0.03 else np.inf for p, s in zip(planes, slopes, strict=True)])
        nearest = int(np.argmin(distances))
        distance = distances[nearest]
        if distance > 8:
            continue
        own = short_side * distance * random.uniform(0.05, 0.22)
        position = ray * distance + planes[nearest].normal * own * 0.6
        if not _in_the_way(position, own, points, short_side, radius):
            surfaces = tuple(draw_surface(random, textures, faces=FACES, side=BODY_TEXTURE) for _ in range(2))
            return Bystander(placed(parts, np.eye(3), own / size), position, own, surfaces)
    return None


def _in_the_way(position, own, points, short_side, radius):
    if position[1] - own < 0.2 or min(np.linalg.norm(points - position, axis=1)) < radius + own:
        return True
    if position[1] > FARTHEST + radius:
        return False
    seen, way = position[[0, 2]] / position[1], points[:, [0, 2]] / points[:, 1:2]
    return np.linalg.norm(seen - way, axis=1).min() < own / position[1] + radius + 0.1 * short_side


def _draw_lights(random, floor_normal, brightness):
    """One or two lights on the camera's side of the floor."""
    first_share = random.choice((1.0, random.uniform(0.5, 0.9)))
    shadow = random.random() < 0.5
    for share in (first_share, 1 - first_share):
        if share == 0:
            continue
        to_light = unit(unit(random.normal(size=3)) + floor_normal - 0.6 * AHEAD)
        if to_light @ floor_normal < 0.2:
            to_light = unit(to_light + floor_normal)
        target, distance = AHEAD * 1.2, random.uniform(2.5, 5)
        tint = 1 - 0.25 * random.random(3)
        yield Light(
            target + distance * to_light,
            -to_light,
            brightness * share * tint,
            bool(random.random() < 0.3),
            bool(shadow and share == first_share),
        )


def _any_turn(random):
    return rotation(unit(random.normal(size=3)), random.uniform(0, np.pi))
