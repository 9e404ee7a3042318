"""Rendering a whole data set in `videofolder` layout: parallel, resumable, the same from the same options."""

import concurrent.futures
import dataclasses
import json
import os
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from flux_hf.files import claim_folder, write_text
from flux_hf.processes import worker_processes
from flux_hf.scripts.experiments.motion_clips.encoding import write_video
from flux_hf.scripts.experiments.motion_clips.photos import load_photos
from flux_hf.scripts.experiments.motion_clips.rendering import render_frames
from flux_hf.scripts.experiments.motion_clips.specification import SOURCES, draw_spec, suffix_of
from flux_hf.scripts.experiments.motion_clips.trajectories import LABELS

SPLITS = ("train", "validation", "test")
_GENERATOR_VERSION = 2
_CLIPS_PER_TASK = 16


@dataclasses.dataclass
class MotionClipOptions:
    """Options of a data set of rendered clips."""

    output_dir: str = dataclasses.field(metadata={"help": "Folder to write; may hold an unfinished run to go on with."})
    train: int = dataclasses.field(default=9000, metadata={"help": "Number of training clips."})
    validation: int = dataclasses.field(default=900, metadata={"help": "Number of validation clips."})
    test: int = dataclasses.field(default=900, metadata={"help": "Number of test clips."})
    seed: int = dataclasses.field(default=0, metadata={"help": "Other seeds give other clips."})
    source: str = dataclasses.field(
        default="synthetic", metadata={"help": "Scenes: synthetic, or photos (needs scikit-learn).", "choices": SOURCES}
    )
    min_hardness: float = dataclasses.field(default=0.0, metadata={"help": "Hardness of the easiest clips, 0 to 1."})
    max_hardness: float = dataclasses.field(default=1.0, metadata={"help": "Hardness of the hardest clips, 0 to 1."})
    max_tilt: float = dataclasses.field(
        default=180.0,
        metadata={"help": "Largest angle, in degrees, of an object's long axis to the horizontal in mid-clip."},
    )
    labels: list[str] | None = dataclasses.field(
        default=None, metadata={"help": "Render only clips of these labels; default: all."}
    )
    num_workers: int | None = dataclasses.field(
        default=None, metadata={"help": "Processes that render; default: one for every processor."}
    )

    def check(self):
        """Raise ValueError with one clear sentence when the options make no sense."""
        counts = self.counts()
        if min(counts.values()) < 0 or sum(counts.values()) == 0:
            raise ValueError(f"clip counts must not be negative nor all zero, got {counts}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if self.num_workers is not None and self.num_workers < 1:
            raise ValueError(f"num_workers must be at least 1, got {self.num_workers}")
        if self.labels is not None and (not self.labels or not set(self.labels) <= set(LABELS)):
            raise ValueError(f"labels must be some of {', '.join(LABELS)}, got {self.labels}")
        draw_spec(LABELS[0], (0,), **self.drawing())
        if self.source == "photos":
            load_photos()

    def label_names(self):
        """The labels to render, in the order of LABELS."""
        return [label for label in LABELS if self.labels is None or label in self.labels]

    def counts(self):
        return {split: getattr(self, split) for split in SPLITS}

    def drawing(self):
        """The options that shape a single clip."""
        return {
            "source": self.source,
            "min_hardness": self.min_hardness,
            "max_hardness": self.max_hardness,
            "max_tilt": self.max_tilt,
        }


def render_clip(path, *, label, seed, hardness=None, source="synthetic"):
    """Render one clip to `path` (.mp4, .mkv or .avi) and return its metadata, a dict.

    `seed` is an integer or a sequence of integers; equal seeds give equal scenes for every label. `hardness` runs
    from 0 to 1, None draws it.
    """
    entropy = tuple(np.atleast_1d(seed).tolist())
    low, high = (0.0, 1.0) if hardness is None else (hardness, hardness)
    spec = draw_spec(label, entropy, source=source, min_hardness=low, max_hardness=high, suffix=suffix_of(path))
    _render(spec, path)
    return {"file_name": os.path.basename(os.fspath(path)), **spec.metadata()}


def clip_label(labels, seed, split_number, index):
    """Label of a clip: every run of as many clips as there are labels has each once, in random order."""
    block, place = divmod(index, len(labels))
    return labels[np.random.default_rng([seed, split_number, block, 3]).permutation(len(labels))[place]]


def clip_spec(options, split, index):
    """Specification of one clip, a pure function of the options, the split and the index."""
    split_number = SPLITS.index(split)
    label = clip_label(options.label_names(), options.seed, split_number, index)
    return draw_spec(label, (options.seed, split_number, index), **options.drawing())


def make_dataset(options, progress=True):
    """Render the data set that the options describe, skip what is there already, and return its folder (Path)."""
    options.check()
    root = Path(options.output_dir)
    described = {"generator": _GENERATOR_VERSION, "seed": options.seed, **options.counts(), **options.drawing()}
    if options.labels is not None:
        described["labels"] = options.label_names()
    claim_folder(root, described, "dataset.json")
    tasks = []
    for split, count in options.counts().items():
        for label in options.label_names() if count else ():
            (root / split / label).mkdir(parents=True, exist_ok=True)
        tasks += [(options, split, range(i, min(i + _CLIPS_PER_TASK, count))) for i in range(0, count, _CLIPS_PER_TASK)]
    num_workers = min(options.num_workers or os.cpu_count() or 1, len(tasks))
    rows = {split: [] for split in SPLITS}
    with tqdm(total=sum(options.counts().values()), unit="clip", disable=not progress) as bar:
        for split, task_rows in _run(tasks, num_workers):
            rows[split] += task_rows
            bar.update(len(task_rows))
    for split, split_rows in rows.items():
        if split_rows:
            split_rows.sort(key=lambda row: row["index"])
            write_text(root / split / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in split_rows))
    return root


def _run(tasks, num_workers):
    """Yield (split, metadata rows) of every task as it ends."""
    if num_workers == 1:
        yield from map(_render_task, tasks)
        return
    with worker_processes(num_workers) as pool:
        futures = [pool.submit(_render_task, task) for task in tasks]
        try:
            for future in concurrent.futures.as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _render_task(task):
    options, split, indices = task
    folder = Path(options.output_dir, split)
    rows = []
    for index in indices:
        spec = clip_spec(options, split, index)
        file_name = f"{spec.label}/clip_{index:06d}{spec.suffix}"
        if not (folder / file_name).exists():
            _render(spec, folder / file_name)
        rows.append({"file_name": file_name, **spec.metadata()})
    return split, rows


def _render(spec, path):
    write_video(
        path,
        render_frames(spec),
        suffix=spec.suffix,
        codec=spec.codec,
        quality=spec.quality,
        frame_rate=spec.frame_rate,
        width=spec.width,
        height=spec.height,
    )
