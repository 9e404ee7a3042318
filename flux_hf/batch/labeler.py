"""`VideoLabeler`: what videos show, many at a time, for `flux-hf label` and for engines that map batches of rows."""

import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from flux_hf.batch.decoding import Clips, Decoder, Part
from flux_hf.batch.workers import ENDED, Workers
from flux_hf.checkpoints import check_weights, checkpoint_path, reading_weights
from flux_hf.modeling.adaptive_budget_fluxvit import AUTO, settings_of_call
from flux_hf.plugin import load_video_classifier, load_video_processor
from flux_hf.processing.pipeline_fluxvit import mean_of_views, score_function
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.processing.video_source_fluxvit import source_name
from flux_hf.processing.views_fluxvit import Views, check_processor
from flux_hf.progress_bars import no_bars_for_folders
from flux_hf.runtime import OnnxClassifier, set_dtype

INPUTS = ("path", "bytes", "start", "end")
ANSWERS = (
    "path", "start", "end", "label", "score", "labels", "scores", "token_budget", "milliseconds", "error", "embedding",
)  # fmt: skip
RUNTIMES = ("torch", "onnx")


class VideoLabeler:
    """Answers for columns of videos: a callable object that can be sent to other processes and machines.

    The model is loaded by the process that calls it, at the first call. So it suits `ray.data.Dataset.map_batches`,
    `datasets.Dataset.map(batched=True)` and Daft. Within a call it decodes one video after the other and computes
    clips in batches; with `num_workers` processes decode beside the forwards.

    Args:
        checkpoint: folder or Hub id, or "default"; with `runtime="onnx"` an output folder of `flux-hf export`.
        token_budget: tokens to keep, which also chooses the grid, or "auto": as many as the answer takes. Default: the
            processor's, or the model's.
        top_k: labels of an answer, at most.
        window, stride: seconds; an answer for every window of a film instead of one. `stride` defaults to `window`.
        embeddings: answers also have the feature that the classifier sees.
        dtype: "auto" (what is fast on this processor), "float32" or "bfloat16".
        runtime: "torch", or "onnx" for ONNX Runtime.
        batch_size: clips per forward.
        num_workers: decoding processes. With any, the calling script needs an `if __name__ == "__main__"`.
        device: of the model, default a GPU where there is one.
        decoding: "fast", "exact" or "keyframes", default the processor's.
        download_seconds, download_bytes: limits of one video, default the processor's.
        trust_remote_code: allow code that comes with the checkpoint.

    Raises:
        ValueError: an option does not fit the others.
    """

    def __init__(
        self,
        checkpoint: str = "default",
        *,
        token_budget: int | str | None = None,
        top_k: int = 5,
        window: float | None = None,
        stride: float | None = None,
        embeddings: bool = False,
        dtype: str = "auto",
        runtime: str = "torch",
        batch_size: int = 8,
        num_workers: int = 0,
        device: str | None = None,
        decoding: str | None = None,
        download_seconds: float | None = None,
        download_bytes: int | None = None,
        trust_remote_code: bool = False,
    ):
        if runtime not in RUNTIMES:
            raise ValueError(f"runtime must be {' or '.join(RUNTIMES)}, got {runtime!r}")
        if runtime == "onnx" and embeddings:
            raise ValueError("embeddings: an exported file gives logits alone; runtime must be torch")
        if runtime == "onnx" and (dtype not in ("auto", "float32") or device not in (None, "cpu")):
            raise ValueError(
                f"runtime onnx computes in float32 on the CPU, got dtype {dtype} and device {device or 'cpu'}"
            )
        if stride is not None and window is None:
            raise ValueError(f"stride={stride} is the distance of windows: give window, too")
        for name, value in (("window", window), ("stride", stride)):
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be a number of seconds > 0, got {value}")
        for name, value, least in (("top_k", top_k, 1), ("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
        self.checkpoint, self.token_budget, self.top_k = checkpoint, token_budget, top_k
        self.window, self.stride = window, window if stride is None else stride
        self.embeddings, self.dtype, self.runtime = embeddings, dtype, runtime
        self.batch_size, self.num_workers, self.device = batch_size, num_workers, device
        processing = {"decoding": decoding, "download_seconds": download_seconds, "download_bytes": download_bytes}
        self.processing = {name: value for name, value in processing.items() if value is not None}
        self.trust_remote_code = trust_remote_code
        self._loaded = self._workers = None

    def __getstate__(self) -> dict:
        return vars(self) | {"_loaded": None, "_workers": None}

    @property
    def loaded(self) -> "Loaded":
        """The model and its processor, loaded when they are first asked for.

        Raises:
            ValueError, OSError: the checkpoint cannot be used.
        """
        if self._loaded is None:
            self._loaded = _load(self)
        return self._loaded

    @property
    def workers(self) -> Workers:
        """What decodes. It stays for further calls, and ends with this process."""
        if self._workers is None:
            self._workers = Workers(self.loaded.decoder, self.num_workers, Part([], 1, 0.0, ENDED))
        return self._workers

    def close(self) -> None:
        """End the processes that decode. A further call starts new ones."""
        if self._workers is not None:
            self._workers.stop()

    def __call__(self, columns: Mapping[str, Sequence]) -> dict[str, list]:
        """Answers for a batch of rows.

        Args:
            columns: `path` (paths or addresses), or `bytes` (content of files), or both; optionally `start` and `end`,
                the seconds to look at (None: all of it). Other columns are handed on as they are; one that is called
                like an answer is refused. Lists or arrays.

        Returns:
            The columns `path`, `label` and `score` (of the best), `labels` and `scores` (lists, best first),
            `token_budget` (that answered), `milliseconds` (decoding, and its share of the forward) and `error`: None,
            or why the video cannot be read; then there are no labels. With windows, a row for each, and `start` and
            `end` in seconds, as also where the input has them; with embeddings `embedding`.

        Raises:
            ValueError: columns are missing, or named like those of the answer.
        """
        videos, others = _rows(columns)
        answers = [[] for _ in videos]
        for number, rows in self.label(videos):
            answers[number] = rows
        timed = self.window is not None or "start" in columns or "end" in columns
        names = [name for name in self.columns if timed or name not in ("start", "end")]
        table = {name: [row[name] for rows in answers for row in rows] for name in names}
        return table | {
            name: [value for value, rows in zip(values, answers, strict=True) for _ in rows]
            for name, values in others.items()
        }

    @property
    def columns(self) -> list[str]:
        """Names of what a row of [`label`] holds."""
        return [name for name in ANSWERS if self.embeddings or name != "embedding"]

    def label(self, videos: Iterable[Mapping]) -> Iterator[tuple[int, list[dict]]]:
        """(number of a video, its rows) as they get done; several are read while others are computed.

        Args:
            videos: dictionaries with `path` and/or `bytes`, and optionally `start` and `end`; taken one by one, a few
                ahead of what is done.
        """
        run, more = Run(self), deque()
        tasks = (((number, 0), {name: video.get(name) for name in INPUTS}, 0) for number, video in enumerate(videos))
        for ((number, part_number), video, _), part in self.workers.answers(tasks, more):
            if part_number == 0:
                more.extend(((number, later), video, later) for later in range(1, part.parts))
            run.take(number, video, part_number, part)
            while run.waiting(self.batch_size):
                yield from run.forward(self.batch_size)
            yield from run.finished()
        while run.waiting(1):
            yield from run.forward(self.batch_size)


@dataclass
class Loaded:
    """What a checkpoint and the options of a labeler come to.

    Attributes:
        model: takes pixels and a budget, and returns what has `logits`.
        budget: tokens to keep, None: all of them, or "auto".
        function: what makes scores of logits.
        dtype: of the numbers that it computes in.
    """

    model: object
    decoder: Decoder
    budget: int | str | None
    label_names: list[str]
    function: str
    device: torch.device
    dtype: torch.dtype

    @property
    def processor(self) -> FluxVideoProcessor:
        return self.decoder.processor


def _load(labeler: VideoLabeler) -> Loaded:
    checkpoint = checkpoint_path(labeler.checkpoint)
    if labeler.runtime == "onnx":
        from transformers import AutoConfig

        model, config = OnnxClassifier(checkpoint), AutoConfig.from_pretrained(checkpoint)
        if labeler.token_budget not in (None, model.token_budget):
            raise ValueError(
                f"token_budget: the file in {checkpoint} was exported for {model.token_budget} tokens, "
                f"got {labeler.token_budget}"
            )
        processor = FluxVideoProcessor.from_pretrained(checkpoint, **labeler.processing)
        budget, device, dtype = model.token_budget, torch.device("cpu"), torch.float32
    else:
        with no_bars_for_folders(checkpoint), reading_weights(checkpoint):
            model = load_video_classifier(checkpoint, trust_remote_code=labeler.trust_remote_code).eval()
        check_weights(model, checkpoint)
        config = model.config
        processor = load_video_processor(checkpoint, model, **labeler.processing)
        budget = labeler.token_budget or processor.token_budget or model.flux_settings.token_budget
        if labeler.device is not None:
            device = torch.device(labeler.device)
        else:
            device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
            device = torch.device(device)
        model.to(device)
        if budget == AUTO:
            settings_of_call(model, 1, 1)
        asked = None if budget == AUTO else budget
        dtype = set_dtype(model, labeler.dtype, token_budget=asked, batch_size=labeler.batch_size)
    check_processor(processor, Views())
    decoder = Decoder(processor, budget, labeler.window, labeler.stride)
    processor.framing(budget)
    return Loaded(model, decoder, budget, model.label_names, score_function(config), device, dtype)


def _rows(columns: Mapping[str, Sequence]) -> tuple[list[dict], dict[str, Sequence]]:
    """The videos of a batch, and its other columns."""
    if not columns.keys() & {"path", "bytes"}:
        raise ValueError(f"a batch needs the column path or bytes, got {', '.join(columns) or 'no column'}")
    others = {name: values for name, values in columns.items() if name not in INPUTS}
    if taken := sorted(others.keys() & set(ANSWERS)):
        raise ValueError(f"columns {', '.join(taken)} would be overwritten by those of the answers: rename them")
    given = {name: list(columns[name]) for name in INPUTS if name in columns}
    videos = [dict(zip(given, values, strict=True)) for values in zip(*given.values(), strict=True)]
    for video in videos:
        for name in ("start", "end"):  # engines make NaN of None in columns of numbers
            if video.get(name) is not None and np.isnan(video[name]):
                video[name] = None
    return videos, others


@dataclass
class _Video:
    """A video on its way: how many parts it has, how many came, how many of its clips wait, and its rows so far."""

    source: dict
    parts: int = 1
    came: int = 0
    waiting: int = 0
    rows: list[dict] = field(default_factory=list)
    error: str | None = None
    milliseconds: float = 0.0

    @property
    def path(self) -> str | None:
        return None if self.source["path"] is None else str(self.source["path"])


@dataclass
class _Clip:
    video: int
    start: float | None
    end: float | None
    milliseconds: float
    clips: Clips
    places: np.ndarray


class Run:
    """Clips that wait for a forward, and videos that wait for their last clip."""

    def __init__(self, labeler: VideoLabeler):
        self._labeler, self._loaded = labeler, labeler.loaded
        self._videos: dict[int, _Video] = {}
        self._waiting: dict[tuple, deque[_Clip]] = defaultdict(deque)
        self._done: list[int] = []

    def take(self, number: int, source: dict, part_number: int, part: Part) -> None:
        """What came of a part of a video."""
        video = self._videos.setdefault(number, _Video(source))
        video.came += 1
        if part_number == 0:
            video.parts = part.parts
        if part.error is not None:
            video.error = part.error
            video.milliseconds += part.milliseconds
        count = sum(len(clips.windows) for clips in part.clips)
        for clips in part.clips:
            for start, end, places in clips.windows:
                clip = _Clip(number, start, end, part.milliseconds / count, clips, places)
                self._waiting[(len(places), *clips.frames.shape[1:3])].append(clip)
        video.waiting += count
        self._look_whether_done(number)

    def waiting(self, least: int) -> bool:
        """Whether so many clips of one shape are there."""
        return any(len(clips) >= least for clips in self._waiting.values())

    @torch.inference_mode()
    def forward(self, batch_size: int) -> Iterator[tuple[int, list[dict]]]:
        """Computes the largest batch there is, and gives the videos that are done then."""
        waiting = max(self._waiting.values(), key=len)
        batch = [waiting.popleft() for _ in range(min(batch_size, len(waiting)))]
        started, loaded = time.perf_counter(), self._loaded
        pixels = loaded.processor(
            [clip.clips.frames[clip.places] for clip in batch],
            do_sample_frames=False,
            do_resize=False,
            do_center_crop=False,
            return_tensors="pt",
        )["pixel_values_videos"].to(loaded.device, loaded.dtype)
        output = loaded.model(pixels, token_budget=loaded.budget)
        scores = torch.stack([mean_of_views(logits[None], loaded.function) for logits in output.logits.cpu()])
        best, classes = scores.topk(min(self._labeler.top_k, scores.shape[1]))
        budgets = [loaded.budget] * len(batch)
        if loaded.budget == AUTO:
            budgets = output.answered_budgets.tolist()
        if self._labeler.embeddings and output.pooler_output is None:
            raise ValueError(f"embeddings: {type(loaded.model).__name__} does not give the feature its classifier sees")
        features = output.pooler_output.float().cpu().numpy() if self._labeler.embeddings else [None] * len(batch)
        share = 1000 * (time.perf_counter() - started) / len(batch)
        for clip, budget, row_scores, row_classes, feature in zip(
            batch, budgets, best.tolist(), classes.tolist(), features, strict=True
        ):
            names = [loaded.label_names[index] for index in row_classes]
            video = self._videos[clip.video]
            video.waiting -= 1
            row = {
                "path": video.path,
                "start": clip.start,
                "end": clip.end,
                "label": names[0],
                "score": row_scores[0],
                "labels": names,
                "scores": row_scores,
                "token_budget": budget,
                "milliseconds": clip.milliseconds + share,
                "error": None,
            }
            video.rows.append(row | ({"embedding": feature} if self._labeler.embeddings else {}))
            self._look_whether_done(clip.video)
        yield from self.finished()

    def finished(self) -> Iterator[tuple[int, list[dict]]]:
        """The videos that have got done since the last time."""
        while self._done:
            number = self._done.pop()
            yield number, self._all_rows(self._videos.pop(number))

    def _look_whether_done(self, number: int) -> None:
        video = self._videos[number]
        if not video.waiting and video.came == video.parts:
            self._done.append(number)

    def _all_rows(self, video: _Video) -> list[dict]:
        rows = sorted(video.rows, key=lambda row: -1.0 if row["start"] is None else row["start"])
        if video.error is not None or not rows:
            times = {name: video.source[name] for name in ("start", "end")}
            none = dict.fromkeys(self._labeler.columns) | times | {"path": video.path}
            reason = video.error or f"{source_name(video.path)} has no frame to look at"
            lost = {"labels": [], "scores": [], "milliseconds": video.milliseconds, "error": reason}
            rows.append(none | lost)
        return rows
