"""FluxViT by the recipe own_clips beside simple classifiers on the Surveillance Camera Fight Dataset, in five folds.

Every fold is tested once by classifiers that were trained on the other four; no source film is in two folds. The 2D CNN
on three frames trains for the CPU seconds that FluxViT took, the forest of trees sees statistics of the optical flow
(needs flux_hf[flow]). Rows that are in the JSON file are not computed again.

python scripts/experiments/surveillance_fights/compare.py --source DIR --epochs 25
"""

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset

from flux_hf import default_checkpoint
from flux_hf.cli import run_command
from flux_hf.data import load_video_dataset
from flux_hf.data.clip_cache import CachedClips, cache_clips
from flux_hf.evaluation import evaluate
from flux_hf.options import parse_options
from flux_hf.provenance import file_list_hash, provenance
from flux_hf.scripts.experiments.default_checkpoint.flow_features import clip_features
from flux_hf.scripts.experiments.own_clips.baselines import fit_cnn, fit_thumbnails, predict_cnn, thumbnails
from flux_hf.scripts.experiments.own_clips.compare import OwnClipsOptions, clip_processor, fit_flux
from flux_hf.scripts.experiments.rows import finished_rows, write_rows
from flux_hf.scripts.experiments.surveillance_fights.folds import folds
from flux_hf.text.index import weights_hash

COMMAND = "scripts/experiments/surveillance_fights/compare.py"
RESULTS = Path(__file__).parent / "results.json"
FLUX, RANDOM_WEIGHTS, CNN = "FluxViT", "FluxViT from random weights", "2D CNN, three frames"
FLOW, THUMBNAILS, MAJORITY = "optical flow, random forest", "three thumbnails", "majority"
TREES = 500
CACHED_FRAMES, CACHED_SIZE = 16, 160


@dataclass
class FightOptions:
    source: str = field(metadata={"help": "Folder of the data set: fight/, noFight/ and videos.txt."})
    epochs: int | None = field(default=None, metadata={"help": "Epochs of FluxViT. Default: as the recipe has it."})
    methods: list[str] = field(
        default_factory=lambda: [FLUX, RANDOM_WEIGHTS, CNN, FLOW, THUMBNAILS, MAJORITY],
        metadata={"help": "What to compare; the CNN needs FluxViT's rows."},
    )
    seed: int = field(default=0, metadata={"help": "Of the folds, weights and batches."})
    cache_dir: str = field(default="runs/surveillance_fights/cache", metadata={"help": "Where clips are kept decoded."})
    output: str = field(default=str(RESULTS), metadata={"help": "JSON file to write and to go on from."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(FightOptions, argv, __doc__)
    torch.set_num_threads(1)
    dataset = load_video_dataset(options.source, "train")
    cached = cache_clips(dataset, options.cache_dir, num_frames=CACHED_FRAMES, size=CACHED_SIZE)
    settings = {
        "files": file_list_hash(dataset),
        "label_names": dataset.features["label"].names,
        "seed": options.seed,
        "checkpoint": weights_hash(default_checkpoint()),
    }
    for fold, test in enumerate(folds(dataset, Path(options.source), options.seed)):
        for method in options.methods:
            done = finished_rows(Path(options.output), settings)
            epochs = options.epochs if method in (FLUX, RANDOM_WEIGHTS, CNN) else None
            if any((row["method"], row["fold"], row["epochs"]) == (method, fold, epochs) for row in done):
                continue
            flux = [row for row in done if (row["method"], row["fold"], row["epochs"]) == (FLUX, fold, epochs)]
            began = time.process_time()
            for found in tested(method, dataset, cached, test, options, flux):
                seconds = found.pop("seconds", time.process_time() - began)
                row = {"method": method, "fold": fold, "epochs": epochs, "tokens": None, "steps": None} | found
                done.append(row | {"cpu_seconds": round(seconds, 1), "test_clips": len(test)})
                print(json.dumps(done[-1]), flush=True)
            head = provenance(f"python {COMMAND}", argv, "scikit-learn", "opencv-python-headless")
            write_rows(Path(options.output), settings, done, head, order)


def tested(
    method: str, dataset: Dataset, cached: CachedClips, test: np.ndarray, options: FightOptions, flux: list[dict]
) -> Iterator[dict]:
    """`right`, how many test clips a method names right that was trained on all others; of FluxViT for every budget,
    with `tokens`, `steps` and the CPU `seconds` of the training."""
    train = np.setdiff1d(np.arange(len(dataset)), test)
    training, testing = dataset.select(train), dataset.select(test)
    labels = np.asarray(testing["label"][:])
    recipe = OwnClipsOptions(options.source, epochs=options.epochs, random_weights=method == RANDOM_WEIGHTS)
    if method in (FLUX, RANDOM_WEIGHTS):
        part = CachedClips(
            cached.clips[train], cached.labels[train], cached.label_names, [cached.video_names[one] for one in train]
        )
        model, seconds, steps = fit_flux(part, cached.label_names, recipe, options.seed)
        found = evaluate(testing, model.eval(), clip_processor(recipe), model.config.head_token_budgets)
        for tokens, figures in found["budgets"].items():
            right = round(figures["top1"] * len(test))
            yield {"tokens": tokens, "right": right, "steps": steps, "seconds": seconds}
        return
    if method == CNN:
        processor = clip_processor(recipe)
        answers = predict_cnn(fit_cnn(training, processor, flux[0]["cpu_seconds"], options.seed), testing, processor)
    elif method == FLOW:
        answers = forest_answers(training, testing, options.seed)
    elif method == THUMBNAILS:
        answers = fit_thumbnails(training).predict(thumbnails(testing))
    else:
        ((answers, _),) = Counter(training["label"][:]).most_common(1)
    yield {"right": int((answers == labels).sum())}


def forest_answers(training: Dataset, testing: Dataset, seed: int) -> np.ndarray:
    """The labels that a forest of trees gives by the statistics of the optical flow: int array (clips,)."""
    from sklearn.ensemble import RandomForestClassifier

    fitted, asked = (np.stack([clip_features(row) for row in part]) for part in (training, testing))
    return RandomForestClassifier(TREES, random_state=seed).fit(fitted, training["label"][:]).predict(asked)


def order(row: dict) -> tuple:
    """By which rows are sorted."""
    return row["method"], row["epochs"] or 0, -(row["tokens"] or 0), row["fold"]


if __name__ == "__main__":
    run_command(COMMAND, main)
