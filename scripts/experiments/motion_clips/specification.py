"""What is decided about a clip before a pixel is drawn. Nothing but the motion depends on the label."""

import dataclasses
import os
from fractions import Fraction

import numpy as np

from flux_hf.scripts.experiments.motion_clips.shapes import SHAPE_KINDS
from flux_hf.scripts.experiments.motion_clips.textures import TEXTURE_KINDS
from flux_hf.scripts.experiments.motion_clips.trajectories import EASINGS, LABELS, Motion, draw_motion

SOURCES = ("synthetic", "photos")
_ASPECT_RATIOS = (9 / 16, 3 / 4, 1.0, 4 / 3, 3 / 2, 16 / 9, 2.0, 21 / 9)
_ASPECT_WEIGHTS = (0.1, 0.1, 0.12, 0.22, 0.1, 0.24, 0.06, 0.06)
_FRAME_RATES = (10, 12, 12.5, 15, 20, 24, 25, Fraction(30000, 1001), 30, 50, 60)
_FRAME_RATE_WEIGHTS = (0.19, 0.14, 0.09, 0.19, 0.11, 0.07, 0.08, 0.04, 0.05, 0.02, 0.02)
_FORMATS = (
    ("h264", ".mp4", 0.42),
    ("mpeg4", ".mp4", 0.18),
    ("h264", ".mkv", 0.08),
    ("vp8", ".mkv", 0.07),
    ("vp9", ".mkv", 0.02),
    ("mpeg4", ".avi", 0.11),
    ("mjpeg", ".avi", 0.12),
)


@dataclasses.dataclass(frozen=True)
class ClipSpec:
    """One clip. Lengths named `_side`, `middle_`, `shake`, `blur` are in short sides of the frame. `object_colour` is
    the object's mean, red, green, blue of 0 to 255; None: drawn, apart from the background."""

    label: str
    entropy: tuple
    source: str
    hardness: float
    width: int
    height: int
    frame_rate: Fraction
    num_frames: int
    codec: str
    suffix: str
    quality: float
    object_side: float
    object_aspect: float
    object_shape: str
    object_texture: str
    max_tilt: float
    background_texture: str
    background_contrast: float
    colour_distance: float
    middle_x: float
    middle_y: float
    easing: str
    pause_start: float
    pause_end: float
    num_distractors: int
    noise: float
    shake: float
    exposure: float
    blur: float
    softness: float
    motion: Motion
    object_colour: tuple[int, int, int] | None = None

    @property
    def short_side(self):
        return min(self.width, self.height)

    def metadata(self):
        """The row of the data set's metadata file, without the file name."""
        return {
            "label": self.label,
            "seed": self.entropy[0],
            "index": self.entropy[-1],
            "hardness": round(self.hardness, 4),
            "dx": round(self.motion.dx, 5) + 0.0,
            "dy": round(self.motion.dy, 5) + 0.0,
            "log_scale": round(self.motion.log_scale, 5) + 0.0,
            "angle": round(self.motion.angle, 5) + 0.0,
            "fps": round(float(self.frame_rate), 5),
            "num_frames": self.num_frames,
            "width": self.width,
            "height": self.height,
            "codec": self.codec,
        }


def suffixes():
    """File name endings that clips can have."""
    return tuple(sorted({suffix for _, suffix, _ in _FORMATS}))


def draw_spec(label, entropy, *, source="synthetic", min_hardness=0.0, max_hardness=1.0, max_tilt=180.0, suffix=None):
    """The clip of this label and `entropy` (a tuple of integers); `suffix` restricts it to one kind of file."""
    if label not in LABELS:
        raise ValueError(f"unknown label {label!r}, expected one of {', '.join(LABELS)}")
    if source not in SOURCES:
        raise ValueError(f"unknown source {source!r}, expected one of {', '.join(SOURCES)}")
    if not 0 <= min_hardness <= max_hardness <= 1:
        raise ValueError(f"hardness must satisfy 0 <= min <= max <= 1, got {min_hardness} and {max_hardness}")
    if not 0 <= max_tilt <= 180:
        raise ValueError(f"max_tilt must be from 0 to 180 degrees, got {max_tilt}")
    if suffix is not None and suffix not in suffixes():
        raise ValueError(f"cannot write {suffix!r} files, expected one of {', '.join(suffixes())}")
    rng = np.random.default_rng(entropy)
    hardness = float(rng.uniform(min_hardness, max_hardness))
    codec, suffix = _draw_format(rng, suffix)
    width, height = _draw_size(rng, codec)
    frame_rate, num_frames = _draw_length(rng)
    return ClipSpec(
        label=label,
        entropy=tuple(int(value) for value in entropy),
        source=source,
        hardness=hardness,
        width=width,
        height=height,
        frame_rate=frame_rate,
        num_frames=num_frames,
        codec=codec,
        suffix=suffix,
        quality=float(rng.random()),
        object_side=float(rng.uniform(0.25, 0.4)),
        object_aspect=float(rng.uniform(1.45, 2.2)),
        object_shape=str(rng.choice(SHAPE_KINDS)),
        object_texture=str(rng.choice(TEXTURE_KINDS[1:])),
        max_tilt=max_tilt,
        background_texture=_draw_background(rng, hardness),
        background_contrast=float(rng.uniform(0.1 + 0.3 * hardness, 0.3 + 0.7 * hardness)),
        colour_distance=float(rng.uniform(1, 1.3) * (120 - 35 * hardness)),
        middle_x=float(rng.uniform(-0.08, 0.08)),
        middle_y=float(rng.uniform(-0.08, 0.08)),
        easing=str(rng.choice(EASINGS)),
        pause_start=float(max(0, rng.uniform(-0.2, 0.2))),
        pause_end=float(max(0, rng.uniform(-0.2, 0.2))),
        num_distractors=int(rng.binomial(2, 0.05 + 0.55 * hardness)),
        noise=float(rng.uniform(0, 1) ** 1.5 * (2 + 10 * hardness)),
        shake=float(max(0, rng.uniform(-0.3, 1)) * 0.005 * hardness),
        exposure=float(rng.uniform(-1, 1) * (0.02 + 0.13 * hardness)),
        blur=float(max(0, rng.uniform(-0.5, 1)) * (0.002 + 0.005 * hardness)),
        softness=float(rng.uniform(0.002, 0.012)),
        motion=draw_motion(np.random.default_rng([*entropy, 1]), label, hardness),
    )


def _draw_format(rng, suffix):
    formats = [row for row in _FORMATS if suffix in (None, row[1])]
    weights = np.array([weight for _, _, weight in formats])
    codec, suffix, _ = formats[rng.choice(len(formats), p=weights / weights.sum())]
    return codec, suffix


def _draw_size(rng, codec):
    short = 96 * 5 ** (rng.random() ** 2.3)
    aspect = rng.choice(_ASPECT_RATIOS, p=_ASPECT_WEIGHTS)
    width, height = (short * max(1, aspect), short * max(1, 1 / aspect))
    step = 2 if codec == "h264" or rng.random() < 0.7 else 1
    return tuple(int(max(96, step * round(side / step))) for side in (width, height))


def _draw_length(rng):
    frame_rate = Fraction(_FRAME_RATES[rng.choice(len(_FRAME_RATES), p=_FRAME_RATE_WEIGHTS)])
    duration = 6 ** (rng.random() ** 1.6)
    return frame_rate, max(8, round(duration * float(frame_rate)))


def _draw_background(rng, hardness):
    kind = str(rng.choice(TEXTURE_KINDS, p=(0.1, 0.2, 0.35, 0.1, 0.25)))
    return "gradient" if rng.random() > 0.25 + 0.75 * hardness else kind


def suffix_of(path):
    """The file name ending of a path, lower case."""
    return os.path.splitext(os.fspath(path))[1].lower()
