"""A stream watched while other programs begin and end their work, and the memory of a long watch."""

import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil

from flux_hf.files import whole_file
from flux_hf.live import Clock, watch

BUSY = "while True: pass"


def moving_texture(path: Path, seconds: float, rate: int, width: int, height: int, key_every: int) -> Path:
    """A file of a texture that moves, H.264, made when it is not there yet."""
    if path.exists():
        return path
    texture = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    picture = np.kron(texture, np.ones((8, 8, 1), np.uint8))
    with whole_file(path) as partial, av.open(str(partial), "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "g": str(key_every)})
        stream.width, stream.height, stream.pix_fmt = picture.shape[1], picture.shape[0], "yuv420p"
        for number in range(round(seconds * rate)):
            shown = np.roll(picture, 2 * number, axis=1)
            frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """Inside, that many processes do nothing but compute."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def under_load(path: Path, model, processor, *, seconds: float, busy: int, latency: float, stride: float) -> dict:
    """Watch a file of `seconds`, whose second third passes beside `busy` processes that compute.

    Returns:
        `parts`: for each third `part` (alone, busy, alone again), `answers`, `delay` (`median`, `p95`, `most`, in
        seconds), `late` (answers after the latency) and `budgets` (budget -> answers); `over_time`: (second of the
        video, budget, delay) of each answer; `pictures` and `dropped` of all.
    """
    answers, thirds = [], [0.0, seconds / 3, 2 * seconds / 3, math.inf]
    with watch(path, model, processor, latency=latency, stride=stride) as watching, ExitStack() as load:
        begun = False
        for answer in watching:
            answers.append(answer)
            if not begun and answer.end >= thirds[1]:
                load.enter_context(busy_cores(busy))
                begun = True
            if answer.end >= thirds[2]:
                load.close()
    parts = [
        _part(name, [answer for answer in answers if start <= answer.end < end], latency)
        for name, start, end in zip(("alone", "busy", "alone again"), thirds[:-1], thirds[1:], strict=True)
    ]
    over_time = [[round(a.end, 3), a.token_budget, round(a.delay, 4)] for a in answers]
    counts = watching.summary()
    return {"parts": parts, "over_time": over_time, "pictures": counts["pictures"], "dropped": counts["dropped"]}


def _part(name: str, answers: list, latency: float) -> dict:
    delays = sorted(answer.delay for answer in answers)
    late = sum(delay > latency for delay in delays)
    budgets = dict(sorted(Counter(answer.token_budget for answer in answers).items()))
    spread = {"median": np.median(delays), "p95": np.quantile(delays, 0.95), "most": delays[-1]} if delays else None
    return {
        "part": name,
        "answers": len(delays),
        "delay": spread,
        "late": late,
        "budgets": budgets,
    }


def memory_over_time(path: Path, model, processor, *, speed: float, **options) -> dict:
    """Watch a long file `speed` times as fast, and see how resident memory grows from the end of its first quarter on.

    Returns:
        `seconds` of the video, `answers`, `pictures`, `dropped`; `kilobytes` at the first quarter, and
        `kilobytes_per_hour` of video, the slope of a straight line.
    """
    process, points = psutil.Process(), []
    with watch(path, model, processor, clock=Clock(speed), **options) as watching:
        for answer in watching:
            points.append((answer.end, process.memory_info().rss / 1024))
    end = points[-1][0]
    times, sizes = np.array([point for point in points if point[0] >= end / 4]).T
    slope = np.polyfit(times - times[0], sizes, 1)[0]
    counts = {name: value for name, value in watching.summary().items() if name in ("answers", "pictures", "dropped")}
    return {"seconds": end, "kilobytes": sizes[0], "kilobytes_per_hour": 3600 * slope} | counts
