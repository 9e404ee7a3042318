"""What is decided about a clip before a pixel is drawn. Nothing but the motion depends on the label."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from flux_hf.scripts.experiments.motion_clips_3d.bodies import (
    AHEAD,
    BODIES,
    RIGHT,
    TEST_BODIES,
    draw_body,
    extents,
    placed,
)
from flux_hf.scripts.experiments.motion_clips_3d.motions import PACES, Motion, draw_motion, rotation
from flux_hf.scripts.experiments.motion_clips_3d.room import Room, draw_room
from flux_hf.scripts.experiments.motion_clips_3d.surfaces import (
    BODY_TEXTURE,
    FACES,
    TEST_TEXTURES,
    TEXTURES,
    draw_surface,
)

SPLITS = ("train", "validation", "test")
_ROUND = ("egg", "rock", "cluster", "can", "pill", "cone")
_FRAME_RATES = (10, 12, 15, 20, 24, 25, 30)
_FRAME_RATE_WEIGHTS = (0.22, 0.18, 0.22, 0.14, 0.08, 0.08, 0.08)
_FORMATS = (
    ("h264", ".mp4", 0.5),
    ("mpeg4", ".mp4", 0.16),
    ("h264", ".mkv", 0.1),
    ("vp8", ".mkv", 0.1),
    ("vp9", ".mkv", 0.04),
    ("mpeg4", ".avi", 0.1),
)


@dataclass(frozen=True)
class ClipSpec:
    """One clip.

    Attributes:
        entropy: integers that everything follows from, the label aside.
        short_side: length that the picture's short side has at distance 1, where the body is in mid-way.
        middle: where the body's centre is in mid-way, (right, up) of the picture's centre in short sides.
        radius: of the ball that holds the body.
        pause_start, pause_end: shares of the clip's time.
        noise: standard deviation of the sensor's noise, in values of 0 to 255.
        exposure: brightness is multiplied by it.
        flicker: greatest change of the brightness, a share, `flicker_cycles` times in the clip.
        samples: MuJoCo's samples a pixel against jagged rims, 0 or 4.
    """

    label: str
    entropy: tuple
    width: int
    height: int
    frame_rate: Fraction
    num_frames: int
    codec: str
    suffix: str
    quality: float
    short_side: float
    middle: tuple
    body_kind: str
    body: tuple
    surfaces: tuple
    radius: float
    room: Room
    motion: Motion
    pace: str
    pause_start: float
    pause_end: float
    noise: float
    exposure: float
    flicker: float
    flicker_cycles: float
    samples: int

    @property
    def duration(self):
        """In seconds."""
        return self.num_frames / float(self.frame_rate)


def draw_spec(label, split, entropy):
    """The clip of this label and `entropy` (a tuple of integers), with the bodies and textures of its split."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}, expected one of {', '.join(SPLITS)}")
    bodies, textures = (TEST_BODIES, TEST_TEXTURES) if split == "test" else (BODIES, TEXTURES)
    random = np.random.default_rng([*entropy, 0])
    width, height = (int(side) for side in 2 * random.integers(64, 101, 2))
    short = min(width, height)
    codec, suffix, _ = _FORMATS[random.choice(len(_FORMATS), p=[weight for _, _, weight in _FORMATS])]
    frame_rate = Fraction(int(random.choice(_FRAME_RATES, p=_FRAME_RATE_WEIGHTS)))
    num_frames = max(10, round(5 ** (random.random() ** 1.6) * float(frame_rate)))
    short_side = 2 * np.tan(np.radians(random.uniform(18, 55)) / 2)
    aspect = np.array([width, height]) / short
    middle = random.uniform(-0.08, 0.08, 2) + random.uniform(-0.35, 0.35, 2) * (aspect - 1)
    kind = bodies[random.integers(len(bodies))]
    body, radius, size = _draw_main_body(random, kind, short_side, aspect)
    room = draw_room(
        random,
        middle=middle,
        short_side=short_side,
        aspect=aspect,
        radius=radius,
        bodies=bodies,
        textures=textures,
    )
    return ClipSpec(
        label=label,
        entropy=tuple(int(value) for value in entropy),
        width=width,
        height=height,
        frame_rate=frame_rate,
        num_frames=num_frames,
        codec=codec,
        suffix=suffix,
        quality=_draw_quality(random, codec),
        short_side=float(short_side),
        middle=tuple(middle.tolist()),
        body_kind=kind,
        body=body,
        surfaces=_draw_main_surfaces(random, kind, textures, room),
        radius=radius,
        room=room,
        motion=draw_motion(np.random.default_rng([*entropy, 1]), label, size),
        pace=PACES[random.integers(len(PACES))],
        pause_start=float(max(0, random.uniform(-0.2, 0.2))),
        pause_end=float(max(0, random.uniform(-0.2, 0.2))),
        noise=float(12 * random.random() ** 2.5),
        exposure=float(random.choice((1.0, random.uniform(0.5, 1.1)))),
        flicker=float(max(0, random.uniform(-0.12, 0.12))),
        flicker_cycles=float(random.uniform(0.3, 12)),
        samples=int(random.choice((0, 4), p=(0.65, 0.35))),
    )


def _draw_quality(random, codec):
    """Mostly poor, which noise survives in part; one clip in ten shows more of it and takes the space."""
    quality = float(random.choice((random.uniform(-0.4, 0.15), random.uniform(0.15, 0.4)), p=(0.9, 0.1)))
    return max(quality, 0.0) if codec.startswith("vp") else quality


def _draw_main_body(random, kind, short_side, aspect):
    """Its parts, its radius, and about what share of the picture it covers at distance 1."""
    tilt = random.uniform(0, 2 * np.pi)
    turn = rotation((np.cos(tilt), 0, np.sin(tilt)), np.radians(random.uniform(0, 35)))
    turn = turn @ rotation(AHEAD, random.uniform(0, 2 * np.pi)) @ rotation(RIGHT, random.uniform(0, 2 * np.pi))
    parts = placed(draw_body(random, kind), turn, 1)
    area, radius = extents(parts)
    picture = short_side**2 * aspect.prod()
    share = np.exp(random.uniform(np.log(0.015), np.log(0.22)))
    scale = min(np.sqrt(share * picture / area), 0.55 * short_side / radius)
    return placed(parts, np.eye(3), scale), float(scale * radius), float(scale**2 * area / picture)


def _draw_main_surfaces(random, kind, textures, room):
    first = ("flat",) if kind not in _ROUND and random.random() < 0.3 else textures
    avoid = [plane.surface.colour for plane in room.planes]
    return tuple(
        draw_surface(random, kinds, faces=FACES, side=BODY_TEXTURE, avoid=avoid, least_contrast=0.45)
        for kinds in (first, textures)
    )
