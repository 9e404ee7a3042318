"""A stream in, answers out: one window of its last seconds after another."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from transformers.video_utils import VideoMetadata

from flux_hf.live.budget_controller import BudgetController
from flux_hf.live.clock import Clock
from flux_hf.live.reader import ConnectionChange, StreamReader
from flux_hf.live.ring import Ring, Window
from flux_hf.modeling.flux_model_fluxvit import FluxModel
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor

MOST_BEHIND = 0.5
"""Share of the latency that a picture may wait for being decoded."""


@dataclass(frozen=True)
class Answer:
    """What one window shows.

    Attributes:
        time: when the answer was there, seconds since 1970.
        labels: (name, probability), best first.
        token_budget: the budget that answered.
        delay: seconds from the arrival of the newest picture of the window to the answer.
        start, end: of the window, in seconds since the first picture of this connection.
        frame_times: of the pictures that the model saw, in the same time.
        pictures, dropped, damaged: of the stream so far: decoded; left out because the machine was too slow; damaged.
        connected: whether the stream still comes.
        reconnections: how often it was lost and taken up again.
    """

    time: float
    labels: list[tuple[str, float]]
    token_budget: int
    delay: float
    start: float
    end: float
    frame_times: list[float]
    pictures: int
    dropped: int
    damaged: int
    connected: bool
    reconnections: int


class Watching:
    """Iterator of the `Answer`s of [`watch`]. A context manager, which closes it."""

    def __init__(
        self,
        source,
        model: FluxModel,
        processor: FluxVideoProcessor,
        *,
        window: float,
        stride: float,
        latency: float,
        token_budget: int | str | None,
        top_k: int,
        timeout: float,
        give_up: float,
        on_change: Callable[[ConnectionChange], object],
        clock: Clock,
    ):
        self._model, self._processor, self._clock, self._window = model, processor, clock, window
        self._stride, self._latency, self._top_k, self._on_change = stride, latency, top_k, on_change
        budgets = list(model.token_budgets) if token_budget is None else [token_budget]
        self._frames = {budget: self._num_frames(budget) for budget in budgets}
        self._side = max(self._short_side(budget) for budget in budgets)
        self._ring = Ring(window, max(self._frames.values()), self._side)
        reading = {"timeout": timeout, "give_up": give_up, "most_behind": MOST_BEHIND * latency}
        self._reader = StreamReader(source, self._ring, clock, **reading)
        self._controller = None
        self._seen, self._next, self.answers, self.late = 0, clock.now(), 0, 0

    def __iter__(self) -> "Watching":
        return self

    def __next__(self) -> Answer:
        if self._controller is None and not self._reader.ended:
            self._reader.start()
            self._tell_changes()
            self._controller = BudgetController(self._measured(), self._latency)
        window = None
        while window is None:
            self._wait()
            short = self._reader.ended
            if short and (self._reader.failure is not None or self._ring.newest == self._seen):
                self.close()
                if self._reader.failure is not None:
                    raise self._reader.failure
                raise StopIteration
            self._seen, self._next = self._ring.newest, self._clock.now() + self._stride
            budget = self._controller.token_budget
            window = self._ring.window(self._frames[budget], short=short and not self.answers)
        labels, answered = self._answer(window, budget)
        delay = self._clock.now() - window.arrival
        self._controller.observe(delay, self._clock.now())
        self.answers += 1
        self.late += delay > self._latency
        reader = self._reader
        return Answer(
            time=self._clock.unix(),
            labels=labels,
            token_budget=answered,
            delay=delay,
            start=window.start,
            end=window.end,
            frame_times=window.times,
            pictures=reader.pictures,
            dropped=reader.dropped,
            damaged=reader.damaged,
            connected=reader.connected,
            reconnections=reader.connections - 1,
        )

    def summary(self) -> dict[str, int]:
        """Numbers so far: `answers`, those of them that were `late` (after the latency), `pictures`, `dropped`,
        `damaged` and `reconnections`."""
        reader = self._reader
        counts = {"answers": self.answers, "late": self.late, "pictures": reader.pictures, "dropped": reader.dropped}
        return counts | {"damaged": reader.damaged, "reconnections": max(0, reader.connections - 1)}

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()

    def __enter__(self) -> "Watching":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _wait(self) -> None:
        """Until it is time for a window and there is a new picture, or the end; meanwhile changes are told."""
        reader, condition = self._reader, self._ring.condition
        while True:
            with condition:
                left = self._next - self._clock.now()
                if not (reader.changes or reader.ended):
                    if left > 0:
                        condition.wait(self._clock.real(left))
                    elif self._ring.newest == self._seen:
                        condition.wait()
                due = self._next <= self._clock.now() and self._ring.newest != self._seen
            self._tell_changes()
            if due or reader.ended:
                return

    def _tell_changes(self) -> None:
        while self._reader.changes:
            self._on_change(self._reader.changes.popleft())

    @torch.inference_mode()
    def _answer(self, window: Window, budget: int | str) -> tuple[list[tuple[str, float]], int]:
        output, answered = self._forward(window.frames, budget)
        names = self._model.label_names
        scores, classes = output.logits[0].float().softmax(-1).topk(min(self._top_k, len(names)))
        labels = [(names[number], score) for score, number in zip(scores.tolist(), classes.tolist(), strict=True)]
        return labels, answered

    def _forward(self, frames: np.ndarray, budget: int | str) -> tuple:
        inputs = self._processor(frames, num_frames=len(frames), token_budget=budget, return_tensors="pt")
        pixels = inputs["pixel_values_videos"].to(self._model.device, self._model.dtype)
        output = self._model(pixel_values_videos=pixels, token_budget=budget)
        return output, int(output.answered_budgets[0]) if isinstance(budget, str) else budget

    @torch.inference_mode()
    def _measured(self) -> dict:
        """Budget -> seconds of an answer, measured on grey frames while the first window fills. Those from where twice
        the latency is passed are not measured, but taken to grow with their tokens."""
        seconds, previous, side = {}, None, self._side
        for budget in reversed(self._frames):
            if previous is not None and seconds[previous] > 2 * self._latency:
                seconds[budget] = seconds[previous] * budget / previous
            else:
                frames = np.full((self._frames[budget], side, side, 3), 128, np.uint8)
                self._forward(frames, budget)
                begun = self._clock.now()
                self._forward(frames, budget)[0].logits.sum().item()
                seconds[budget] = self._clock.now() - begun
            previous = budget
        return seconds

    def _num_frames(self, budget: int | str) -> int:
        seconds = VideoMetadata(total_num_frames=10**6, fps=10**6 / self._window, duration=self._window)
        return len(self._processor.sample_frames(seconds, token_budget=budget))

    def _short_side(self, budget: int | str) -> int:
        resize = self._processor.framing(budget).resize
        return resize.shortest_edge or max(resize.height, resize.width)


def watch(
    source,
    model: FluxModel,
    processor: FluxVideoProcessor,
    *,
    window: float = 4.0,
    stride: float = 0.5,
    latency: float = 1.0,
    token_budget: int | str | None = None,
    top_k: int = 3,
    timeout: float = 10.0,
    give_up: float = 300.0,
    on_change: Callable[[ConnectionChange], object] = lambda change: None,
    clock: Clock | None = None,
) -> Watching:
    """Watch a stream: answers about its last seconds, one after another, for as long as it lasts.

    Pictures are read and decoded in threads of their own. Of the last `window` seconds a bounded number of them is
    kept, scaled down to what the model sees. A window shows as many frames as the processor's grid of its budget has,
    the picture nearest to the middle of each of equally long segments, by the stream's own time stamps (by time of
    arrival where it has none, as with Motion JPEG).

    Where the machine is slower than the stream the oldest pictures are left out and counted; none waits for longer than
    half of `latency`. A lost connection is taken up again with growing pauses, and the window fills anew.

    Args:
        source: path of a camera (`/dev/video0`); address of a stream (rtsp, rtsps, http, https, rtmp, rtmps, tcp, udp);
            or a video file, which is played in real time: path, another address that the processor knows, bytes, file
            object. An http address of a file or of HLS is played in real time, too.
        model: a classifier in eval mode.
        processor: the model's.
        window: seconds that an answer looks at. A source that ends before has one answer, about all of it.
        stride: shortest time in seconds between the beginnings of two answers.
        latency: seconds from the newest picture to the answer. Of the model's budgets the largest is taken that stays
            below it; it is adapted all the time.
        token_budget: instead, always this one, whatever it takes; "auto" for adaptive budgets.
        top_k: number of labels in an answer.
        timeout: seconds without data or without a picture after which a connection counts as lost.
        give_up: seconds without a picture after which it is no longer taken up.
        on_change: called, while the iterator waits, with each `ConnectionChange`.
        clock: default a clock of real seconds.

    Returns:
        An iterator of `Answer`s, also a context manager. It connects when it is asked for the first one, and ends where
        a file does. Asking for an answer raises `VideoDecodeError` where the source cannot be opened (the first try is
        the only one), where a file breaks off, and where a stream was given up.

    Raises:
        ValueError: a number is out of bounds.
    """
    numbers = {"window": window, "latency": latency, "timeout": timeout, "give_up": give_up}
    for name, value in numbers.items():
        if not value > 0:
            raise ValueError(f"{name} must be a number of seconds > 0, got {value!r}")
    if stride < 0:
        raise ValueError(f"stride must be a number of seconds >= 0, got {stride!r}")
    return Watching(
        source,
        model,
        processor,
        stride=stride,
        token_budget=token_budget,
        top_k=top_k,
        on_change=on_change,
        clock=clock or Clock(),
        **numbers,
    )
