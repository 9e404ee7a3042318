"""Train one classifier that FluxViT is compared with on the manipulation clips, and test it; writes JSON.

Networks start from random weights and train once with every learning rate; the one that is best on the validation clips
is tested. All are given 16 frames of 96 pixels: a 2D CNN that takes three of them, a small 3D CNN, one of FluxViT's
size, a VideoMAE of that size. Beside them logistic regression on differences between frames, which has no seed, and a
random forest on statistics of the optical flow (needs flux_hf[flow]). report.py puts the files together.

python scripts/experiments/manipulation_clips/baselines.py --data DIR --baseline cnn --seed 0 --device cuda
python scripts/experiments/manipulation_clips/baselines.py --data DIR --baseline differences   # or flow
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from flux_hf.cli import run_command
from flux_hf.data import load_video_dataset
from flux_hf.evaluation.figures import wilson_interval
from flux_hf.files import write_json
from flux_hf.options import parse_options
from flux_hf.provenance import file_list_hash, provenance
from flux_hf.scripts.experiments.manipulation_clips.features import differences, flow, forest_logits, task_logits
from flux_hf.scripts.experiments.manipulation_clips.fitting import Schedule, accuracies, fit, scores
from flux_hf.scripts.experiments.manipulation_clips.networks import NETWORKS, frames_of, gmacs, parameters
from flux_hf.scripts.experiments.manipulation_clips.pixels import SIZE, Clips, read_clips

COMMAND = "scripts/experiments/manipulation_clips/baselines.py"
DIFFERENCES, FLOW = "differences", "flow"


@dataclass
class BaselineOptions:
    data: str = field(metadata={"help": "Folder that make.py wrote."})
    baseline: str = field(metadata={"help": "What to train.", "choices": [*NETWORKS, DIFFERENCES, FLOW]})
    seed: int = field(default=0, metadata={"help": "Of weights and batches."})
    steps: int = field(default=3000, metadata={"help": "Steps of a training."})
    seconds: float = field(default=math.inf, metadata={"help": "A training ends earlier after so many seconds."})
    batch: int = field(default=32, metadata={"help": "Clips a step."})
    learning_rates: list[float] = field(
        default_factory=lambda: [1e-3, 3e-3], metadata={"help": "Peaks that are tried, a training each."}
    )
    device: str = field(default="cpu", metadata={"help": "Where networks are trained: cpu or cuda."})
    cache_dir: str = field(default="runs/manipulation/cache", metadata={"help": "Where decoded clips are kept."})
    runs: str = field(default="runs/manipulation/baselines", metadata={"help": "Folder of BASELINE-SEED.json."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(BaselineOptions, argv, __doc__)
    torch.set_float32_matmul_precision("high")
    names = ("train", "validation", "test")
    splits = {name: read_clips(options.data, name, options.cache_dir, options.device) for name in names}
    if options.baseline == DIFFERENCES:
        measured = by_features(splits, differences, task_logits)
    elif options.baseline == FLOW:
        measured = by_features(splits, flow, partial(forest_logits, seed=options.seed))
    else:
        measured = by_network(splits, options)
    right = round(measured["test"]["top1"] * len(splits["test"].labels))
    result = provenance(f"python {COMMAND}", argv, "scikit-learn") | {
        "files": {name: file_list_hash(load_video_dataset(options.data, name)) for name in names},
        "clips": {name: len(clips.labels) for name, clips in splits.items()},
        "baseline": options.baseline,
        "seed": options.seed,
        **measured,
        "interval": wilson_interval(right, len(splits["test"].labels)),
    }
    write_json(Path(options.runs, f"{options.baseline}-{options.seed}.json"), result)
    print(json.dumps({name: result[name] for name in ("baseline", "seed", *measured)}), flush=True)


def by_network(splits: dict[str, Clips], options: BaselineOptions) -> dict:
    """Size, cost, `trials` (learning rate, steps, seconds, accuracies on the validation clips) and `test`, the
    accuracies of the trial that has the best top-1 there."""
    train, trials, tested, choose = splits["train"], [], [], partial(frames_of, options.baseline)
    for rate in options.learning_rates:
        torch.manual_seed(options.seed)
        schedule = Schedule(rate, options.batch, SIZE, options.steps, options.seconds)
        network = NETWORKS[options.baseline](train.label_names).to(options.device)
        began = time.perf_counter()
        steps = fit(network, train, schedule, choose)
        seconds = round(time.perf_counter() - began, 1)
        found = [
            accuracies(scores(network, splits[name], schedule, choose), splits[name].labels, train.label_names)
            for name in ("validation", "test")
        ]
        trials.append({"learning_rate": rate, "steps": steps, "seconds": seconds, **found[0]})
        tested.append(found[1])
        print(f"{options.baseline}, rate {rate:g}: {steps} steps, {seconds} s, {found[0]['top1']:.3f}", flush=True)
    frames = choose(train.frames[:1]).shape[1]
    best = max(range(len(trials)), key=lambda number: trials[number]["top1"])
    return {
        "frames": frames,
        "size": SIZE,
        "batch": options.batch,
        "parameters": parameters(network),
        "gmacs": gmacs(network, frames, SIZE),
        "trials": trials,
        "learning_rate": options.learning_rates[best],
        "test": tested[best],
    }


def by_features(splits: dict[str, Clips], features: Callable, classify: Callable) -> dict:
    """`seconds` of features and fitting, and the accuracies on the test clips. Every training clip is taken backwards,
    too.

    Args:
        features: clips -> (clips, features).
        classify: features and labels to fit on, features to test on -> scores (clips, labels).
    """
    train, began = splits["train"], time.perf_counter()
    both = [train, train.backwards()]
    seen, labels = torch.cat([features(clips) for clips in both]), torch.cat([clips.labels.cpu() for clips in both])
    found = classify(seen, labels, features(splits["test"]))
    seconds = round(time.perf_counter() - began, 1)
    return {"seconds": seconds, "test": accuracies(found, splits["test"].labels, train.label_names)}


if __name__ == "__main__":
    run_command(COMMAND, main)
