"""The optical-flow baseline beside checkpoints: a random forest on `clip_features`, the same test clips, in turns."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from datasets import Dataset
from sklearn.ensemble import RandomForestClassifier
from tqdm.auto import tqdm

from flux_hf.checkpoints import checkpoint_path
from flux_hf.data import load_video_dataset
from flux_hf.evaluation import evaluate
from flux_hf.evaluation.figures import wilson_interval
from flux_hf.evaluation.records import load_records
from flux_hf.modeling.adaptive_budget_fluxvit import AUTO
from flux_hf.plugin import load_video_classifier, load_video_processor
from flux_hf.provenance import file_list_hash
from flux_hf.scripts.benchmarks.measuring.timing import alternating
from flux_hf.scripts.experiments.default_checkpoint.flow_features import clip_features
from flux_hf.token_optimization.search import alone_right, sign_test

TREES = 500
FLOW = "optical flow"
MOST_SECONDS = 600.0
"""No method takes a further turn on a test set's timed clips after that."""


def compare(train: dict[str, str], test: dict[str, str], options) -> Iterator[dict]:
    """For every test set `name`, `clips`, `labels` (label -> how many clips), `files` (hash of the list), `timed` and
    `rows`, one a method: `method`, `fitted_on` (names of the forest's training sets, else None), `token_budget` (of a
    checkpoint), `top1`, `top1_interval`, `right` (label -> on how many of its clips), `milliseconds` and `spread` (a
    clip, from the file to the label, on one thread), and of a checkpoint `paired` (`checkpoint`, `flow`: on how many
    clips it or the forest of all sets alone is right; `p`, the two-sided sign test).

    Args:
        train, test: name -> folder of a data set with the split train or test.
        options: `OpticalFlowOptions`.

    Raises:
        ValueError: a training set has fewer clips than asked for.
        VideoDecodeError: a clip cannot be read.
    """
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    fitted = {
        name: _features(even_part(load_video_dataset(folder, "train"), name, options)) for name, folder in train.items()
    }
    models = {name: _loaded(name) for name in options.checkpoints}
    for name, folder in test.items():
        dataset = load_video_dataset(folder, "test")
        features, labels = _features(dataset)
        forests = {sets: _forest([fitted[one] for one in sets], options.seed) for sets in training_sets(train, name)}
        rows, runs = [], {}
        for sets, forest in forests.items():
            right = forest.predict(features) == labels
            rows.append({"method": FLOW, "fitted_on": list(sets), "token_budget": None} | _accuracy(right, labels))
        of_all = forests[tuple(train)].predict(features) == labels
        timed = dataset.select(_drawn(len(dataset), options))
        runs[FLOW, None] = _flow_run(forests[tuple(train)], timed)
        for checkpoint, (model, processor, budgets) in models.items():
            for budget, right in _right_of(dataset, model, processor, budgets).items():
                row = {"method": checkpoint, "fitted_on": None, "token_budget": budget} | _accuracy(right, labels)
                rows.append(row | {"paired": _paired(right, of_all)})
                runs[checkpoint, budget] = _checkpoint_run(model, processor, budget, timed)
        times = alternating(runs, options.repeats, MOST_SECONDS)
        for row in rows:
            time = times[row["method"], row["token_budget"]]
            each = [1000 * seconds / len(timed) for seconds in (time["seconds"], *time["spread"])]
            row |= {"milliseconds": each[0], "spread": each[1:]}
        numbers = {"clips": len(dataset), "labels": dict(Counter(labels.tolist())), "timed": len(timed)}
        yield {"name": name, "files": file_list_hash(dataset), "rows": rows} | numbers


def training_sets(train: dict[str, str], test_name: str) -> list[tuple[str, ...]]:
    """The names of the sets that forests for a test set are fitted on: all of them, and all but its own."""
    others = tuple(name for name in train if name != test_name)
    return [tuple(train)] + ([others] if others and len(others) < len(train) else [])


def even_part(dataset: Dataset, name: str, options) -> Dataset:
    """`--train_clips` clips of a data set that `--seed` draws, as many of every class as there can be; all by default.

    Raises:
        ValueError: there are fewer.
    """
    number = options.train_clips
    if number is None:
        return dataset
    if number > len(dataset):
        raise ValueError(f"--train_clips {number}: {name} has {len(dataset)} clips in its split train")
    labels = np.asarray(dataset["label"][:])
    order = np.random.default_rng(options.seed).permutation(len(labels))
    rank = np.empty(len(labels), int)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = np.arange(len(members))
    return dataset.select(np.sort(order[np.argsort(rank[order], kind="stable")][:number]))


def _features(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Statistics (clips, 24) and names of the labels (clips,)."""
    names = dataset.features["label"].names
    found = [clip_features(row) for row in tqdm(dataset, unit="clip", desc="optical flow")]
    return np.stack(found), np.array([names[label] for label in dataset["label"][:]])


def _forest(sets: list[tuple[np.ndarray, np.ndarray]], seed: int) -> RandomForestClassifier:
    features, labels = (np.concatenate(parts) for parts in zip(*sets, strict=True))
    return RandomForestClassifier(TREES, random_state=seed).fit(features, labels)


def _loaded(checkpoint: str) -> tuple:
    """(model, processor, its budgets and, where it is calibrated for that, "auto")"""
    path = checkpoint_path(checkpoint)
    model = load_video_classifier(path).eval()
    calibrated = getattr(model.flux_settings, "adaptive_budget", None) is not None
    return model, load_video_processor(path, model), [*model.token_budgets, *([AUTO] if calibrated else [])]


def _right_of(dataset: Dataset, model, processor, budgets: list) -> dict[int | str, np.ndarray]:
    """For each budget whether the answer is right, bool (clips,)."""
    with tempfile.TemporaryDirectory() as folder:
        evaluate(dataset, model, processor, budgets, records_dir=folder)
        records = sorted(load_records(Path(folder)), key=lambda record: record["row"])
    return {
        budget: np.array([record["arms"][place]["top"][0] == record["label"] for record in records])
        for place, budget in enumerate(budgets)
    }


def _accuracy(right: np.ndarray, labels: np.ndarray) -> dict:
    return {
        "top1": float(right.mean()),
        "top1_interval": wilson_interval(int(right.sum()), len(right)),
        "right": dict(Counter(labels[right].tolist())),
    }


def _paired(right: np.ndarray, of_flow: np.ndarray) -> dict:
    more, fewer = alone_right(right.tolist(), of_flow.tolist())
    p = min(1.0, 2 * sign_test(max(more, fewer), min(more, fewer)))
    return {"checkpoint": more, "flow": fewer, "p": p}


def _drawn(number: int, options) -> np.ndarray:
    return np.sort(np.random.default_rng(options.seed).permutation(number)[: options.timed])


def _flow_run(forest: RandomForestClassifier, timed: Dataset) -> Callable[[], object]:
    """Clip by clip to the statistics, then the forest once for all of them: it is slow for one."""
    return lambda: forest.predict(np.stack([clip_features(row) for row in timed]))


def _checkpoint_run(model, processor, budget: int | str, timed: Dataset) -> Callable[[], object]:
    """Clip by clip from the file to the label."""

    @torch.inference_mode()
    def run() -> list[int]:
        inputs = (processor(row["video"], token_budget=budget, return_tensors="pt") for row in timed)
        return [int(model(**clip).logits.argmax()) for clip in inputs]

    return run
