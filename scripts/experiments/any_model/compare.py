"""Train and test every model in both ways with every seed, several at a time in processes of their own; writes JSON.

Runs whose file is there are not done again. Beside them stand a logistic regression on three thumbnails and the most
frequent class, on the same clips.

python scripts/experiments/any_model/compare.py --data DIR --jobs 12
"""

import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from datasets import Dataset

from flux_hf.cli import run_command
from flux_hf.files import read_json, write_json
from flux_hf.options import parse_options
from flux_hf.provenance import provenance
from flux_hf.scripts.experiments.any_model.merge import merge
from flux_hf.scripts.experiments.any_model.models import SETTINGS
from flux_hf.scripts.experiments.any_model.report import PLOT, RESULTS
from flux_hf.scripts.experiments.any_model.run import (
    REGIMES,
    all_clips,
    conditions,
    decoded,
    drawn,
    result_file,
    setting_of,
)
from flux_hf.scripts.experiments.own_clips.baselines import fit_thumbnails, thumbnails

COMMAND = "scripts/experiments/any_model/compare.py"
OF_A_RUN = ("data", "steps", "held_out", "cache", "runs", "workers")


@dataclass
class CompareOptions:
    data: str = field(metadata={"help": "Folder of a video data set in videofolder layout."})
    models: list[str] = field(default_factory=lambda: list(SETTINGS), metadata={"help": "What to train."})
    regimes: list[str] = field(default_factory=lambda: list(REGIMES), metadata={"help": "How."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Each draws its own clips."})
    jobs: int = field(default=1, metadata={"help": "Trainings at a time."})
    steps: int | None = field(default=None, metadata={"help": "Steps of 16 clips. Default: those of each model."})
    splits: list[str] = field(
        default_factory=lambda: ["train", "validation"], metadata={"help": "Splits that all clips are drawn from."}
    )
    held_out: int = field(default=20, metadata={"help": "Clips a class to test on; the others are trained on."})
    cache: str = field(default="runs/any_model/cache", metadata={"help": "Folder of decoded clips."})
    runs: str = field(default="runs/any_model", metadata={"help": "Folder of a JSON file for each run."})
    workers: int = field(default=0, metadata={"help": "Processes of a training that make its batches."})
    output: str = field(default=str(RESULTS), metadata={"help": "JSON file to write when all runs are done."})
    plot: str | None = field(default=str(PLOT), metadata={"help": "Picture to draw; needs flux_hf[plot]."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(CompareOptions, argv, __doc__)
    dataset = all_clips(options)
    expected = {}
    for model in options.models:
        setting = setting_of(model, options.steps)
        decoded(dataset, setting, options.cache)
        expected[model] = conditions(dataset, options.held_out, setting)
    wanted = [(model, regime, seed) for seed in options.seeds for model in options.models for regime in options.regimes]
    missing = [run for run in wanted if not is_done(result_file(options.runs, *run), expected[run[0]])]
    with ThreadPoolExecutor(options.jobs) as pool:
        trainings = [pool.submit(train, options, *run) for run in missing]
        for seed in options.seeds:
            write_baselines(dataset, options, seed, argv)
        failed = [run for run, training in zip(missing, trainings, strict=True) if training.result()]
    if failed:
        names = ", ".join(result_file(options.runs, *run).stem for run in failed)
        raise RuntimeError(
            f"{len(failed)} of {len(missing)} trainings failed, see their logs in {options.runs}: {names}"
        )
    print(merge(options.runs, options.output, options.plot))


def is_done(file: Path, expected: dict) -> bool:
    """Whether a run's file is there.

    Raises:
        ValueError: it is of other clips or other settings.
    """
    if not file.exists():
        return False
    found = read_json(file)
    if any(found.get(name) != value for name, value in expected.items()):
        raise ValueError(f"{file} is of other clips or settings; name another --runs")
    return True


def train(options: CompareOptions, model: str, regime: str, seed: int) -> int:
    """Exit status of a process that does one run; what it says is in a log beside its file."""
    command = [sys.executable, "-m", "flux_hf.scripts.experiments.any_model.run", "--splits", *options.splits]
    run = {"model": model, "regime": regime, "seed": seed} | {name: getattr(options, name) for name in OF_A_RUN}
    command += [part for name, value in run.items() if value is not None for part in (f"--{name}", str(value))]
    log = result_file(options.runs, model, regime, seed).with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as file:
        return subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode


def write_baselines(dataset: Dataset, options: CompareOptions, seed: int, argv) -> None:
    """Test the classifiers that are no video models on a seed's clips."""
    file, expected = Path(options.runs, f"baselines-{seed}.json"), conditions(dataset, options.held_out)
    if is_done(file, expected):
        return
    train, test = drawn(dataset, options.held_out, seed)
    labels = np.asarray(test["label"][:])
    began = time.perf_counter()
    right = {"thumbnails": float((fit_thumbnails(train).predict(thumbnails(test)) == labels).mean())}
    seconds = round(time.perf_counter() - began, 1)
    ((most, _),) = Counter(train["label"][:]).most_common(1)
    right["majority"] = float((labels == most).mean())
    result = provenance(f"python {COMMAND}", argv, "scikit-learn")
    result |= expected | {"seed": seed, "seconds": seconds, "top1": right}
    write_json(file, result)


if __name__ == "__main__":
    run_command(COMMAND, main)
