"""Films of a minute: by several encoders with their own choice of key frames, and such whose label shows over all of
it."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from flux_hf.files import whole_file
from flux_hf.processes import worker_processes
from flux_hf.scripts.experiments.motion_clips import LABELS
from flux_hf.scripts.experiments.motion_clips.rendering import render_frames
from flux_hf.scripts.experiments.motion_clips.specification import draw_spec

SECONDS, RATE = 60, 25


@dataclass(frozen=True)
class Encoding:
    """How a film is encoded: the encoder and the container by PyAV's names, and options of the encoder. What is not
    said is its default."""

    name: str
    codec: str = "libx264"
    ending: str = "mp4"
    options: dict = field(default_factory=dict, hash=False)

    @property
    def file_name(self) -> str:
        return f"{self.name.replace(',', '').replace(' ', '_')}_{SECONDS}s.{self.ending}"


X264 = {"crf": "23"}
ENCODINGS = [
    Encoding("x264", options=X264),
    Encoding("x265", "libx265", options={"preset": "fast", "x265-params": "log-level=none"}),
    Encoding("VP9", "libvpx-vp9", "webm", {"deadline": "realtime", "cpu-used": "8"}),
    Encoding("SVT-AV1", "libsvtav1", "mp4", {"preset": "12"}),
    Encoding("MPEG-4, key frame every 250", "mpeg4", "mp4", {"g": "250", "bf": "2"}),
    Encoding("MPEG-2, open GOPs", "mpeg2video", "ts", {"bf": "2"}),
]

LABELLED_ENCODINGS = [
    Encoding("key frame every 125", options=X264 | {"g": "125"}),
    Encoding("key frame every 250", options=X264),
    Encoding("key frame every 375", options=X264 | {"g": "375"}),
]
"""Twelve, six and four key frames."""


def film_with_cuts(encoding: Encoding, folder: Path, height: int = 360, width: int = 640) -> Path:
    """The path of a film of scenes of 2 to 14 seconds, made when it is not there yet."""
    path = folder / f"cuts_{encoding.file_name}"
    if not path.exists():
        _encode({path: encoding}, _scenes(height, width))
    return path


def labelled_films(folder: Path, films_per_label: int, num_workers: int, height=144, width=192) -> dict[str, Path]:
    """Name of an encoding -> folder of a data set (split `test`) of films in which one thing makes one motion that
    takes the whole minute. The films are the same for every encoding."""
    jobs = []
    for label in LABELS:
        for number in range(films_per_label):
            paths = {
                folder / encoding.name.replace(" ", "_") / "test" / label / f"film_{number:04d}.mp4": encoding
                for encoding in LABELLED_ENCODINGS
            }
            if not all(path.exists() for path in paths):
                jobs.append((paths, label, number, height, width))
    with worker_processes(num_workers) as pool:
        for done in pool.map(_labelled_film, jobs):
            print(done, flush=True)
    return {encoding.name: folder / encoding.name.replace(" ", "_") for encoding in LABELLED_ENCODINGS}


def _labelled_film(job) -> str:
    paths, label, number, height, width = job
    spec = draw_spec(label, (SECONDS, number))
    spec = replace(spec, num_frames=SECONDS * RATE, frame_rate=Fraction(RATE), height=height, width=width)
    _encode(paths, render_frames(spec))
    return f"{label} {number}"


def _encode(paths: dict[Path, Encoding], frames: Iterable[np.ndarray]):
    """Write uint8 frames (height, width, 3) to several files; all of them appear when complete."""
    with ExitStack() as stack:
        outputs = [_opened(stack, path, encoding) for path, encoding in paths.items()]
        for number, pixels in enumerate(frames):
            for output, stream in outputs:
                if number == 0:
                    stream.height, stream.width = pixels.shape[:2]
                output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        for output, stream in outputs:
            output.mux(stream.encode(None))


def _opened(stack: ExitStack, path: Path, encoding: Encoding) -> tuple:
    partial = stack.enter_context(whole_file(path))
    kind = {"ts": "mpegts"}.get(encoding.ending, encoding.ending)
    output = stack.enter_context(av.open(str(partial), "w", format=kind))
    stream = output.add_stream(encoding.codec, rate=RATE, options=encoding.options)
    stream.pix_fmt, stream.thread_count = "yuv420p", 1
    return output, stream


def _scenes(height: int, width: int) -> Iterator[np.ndarray]:
    draw, left = np.random.default_rng(0), SECONDS * RATE
    while left:
        length = min(left, int(draw.integers(2 * RATE, 14 * RATE)))
        texture = draw.integers(30, 220, (height // 16 + 8, width // 16 + 60, 3), np.uint8).repeat(16, 0).repeat(16, 1)
        for step in range(length):
            at = 2 * step % (texture.shape[1] - width)
            yield np.ascontiguousarray(texture[:height, at : at + width])
        left -= length
