"""What to expect on a few clips of one's own: the recipe own_clips beside simple classifiers, on the same clips.

From every class the seed draws clips for a test, and from the others those to train on. For each seed and number of
clips FluxViT is trained and tested at its budgets, then a 2D CNN on three frames is trained on the same clips for the
same CPU seconds, then a logistic regression on three thumbnails. Rows that are in the JSON file are not computed again.

python scripts/experiments/own_clips/compare.py --data DIR --clips 5 20
python scripts/experiments/own_clips/compare.py --data DIR --clips 20 --recipe my.yaml --epochs 10 --output my.json
"""

import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoConfig, set_seed

from flux_hf import FluxVideoProcessor, default_checkpoint
from flux_hf.cli import run_command
from flux_hf.data import load_video_dataset
from flux_hf.data.clip_cache import CachedClips
from flux_hf.evaluation import evaluate
from flux_hf.options import parse_options
from flux_hf.options.recipes import read_recipe
from flux_hf.provenance import file_list_hash, provenance, video_names
from flux_hf.scripts.experiments.own_clips.baselines import (
    fit_cnn,
    fit_thumbnails,
    predict_cnn,
    thumbnails,
)
from flux_hf.scripts.experiments.rows import finished_rows, write_rows
from flux_hf.text.index import weights_hash
from flux_hf.training import FluxTrainer, FluxTrainingArguments
from flux_hf.training.arguments import recipe_of
from flux_hf.training.starting_model import starting_model

COMMAND = "scripts/experiments/own_clips/compare.py"
RESULTS = Path(__file__).parent / "results.json"
KEY = ("method", "clips", "seed", "epochs", "tokens")
"""What tells rows apart: "flux", "three_frames" (the CNN), "thumbnails" or "majority"; clips a class; `--epochs` of
FluxViT, or of the training whose CPU seconds the CNN got; tokens kept. What a method does not have is None."""
FREE = ("seed", "num_train_epochs", "min_steps")
"""Options of the recipe in which rows of one file may differ."""


@dataclass
class OwnClipsOptions:
    data: str = field(metadata={"help": "Folder of a video data set, as of flux-hf finetune --dataset."})
    split: str = field(default="train", metadata={"help": "Split that test and training clips are drawn from."})
    clips: list[int] = field(default_factory=lambda: [5, 20], metadata={"help": "Clips a class to train on."})
    held_out: int = field(default=20, metadata={"help": "Clips a class to test on."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Each draws its own clips."})
    recipe: str = field(default="own_clips", metadata={"help": "Recipe of FluxViT: a name or a file."})
    random_weights: bool = field(
        default=False, metadata={"help": "Start from random weights of the default checkpoint's configuration."}
    )
    baselines: bool = field(default=True, metadata={"help": "Also the classifiers that FluxViT is compared with."})
    epochs: int | None = field(default=None, metadata={"help": "Epochs of FluxViT. Default: as the recipe has it."})
    output: str = field(default=str(RESULTS), metadata={"help": "JSON file to write and to go on from."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(OwnClipsOptions, argv, __doc__)
    torch.set_num_threads(1)
    dataset = load_video_dataset(options.data, options.split)
    output = Path(options.output)
    recipe = recipe_of(arguments(options, seed=0, batch=len(dataset), folder="."))
    settings = {
        "files": file_list_hash(dataset),
        "label_names": dataset.features["label"].names,
        "held_out": options.held_out,
        "checkpoint": None if options.random_weights else weights_hash(default_checkpoint()),
        "recipe": {name: value for name, value in recipe.items() if name not in FREE},
    }
    for seed in options.seeds:
        for clips in options.clips:
            train, test = split(dataset, options.held_out, clips, seed)
            for row in missing_rows(train, test, options, clips, seed, finished_rows(output, settings)):
                print(json.dumps(row), flush=True)
                head = provenance(f"python {COMMAND}", argv, "scikit-learn")
                write_rows(output, settings, [*finished_rows(output, settings), row], head, order)


def order(row: dict) -> tuple:
    """By which rows are sorted."""
    return row["clips"], row["seed"], row["epochs"] or 0, *map(str, row.values())


def arguments(options: OwnClipsOptions, seed: int, batch: int, folder: str) -> FluxTrainingArguments:
    """Those of the recipe, `batch` clips at most a step. Clips are decoded in this process, so that its CPU seconds are
    all there are."""
    args = FluxTrainingArguments.from_recipe(
        options.recipe,
        **({} if options.epochs is None else {"num_train_epochs": options.epochs, "min_steps": 0}),
        seed=seed,
        output_dir=folder,
        use_cpu=True,
        dataloader_num_workers=0,
        dataloader_persistent_workers=False,
        eval_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    args.per_device_train_batch_size = min(args.per_device_train_batch_size, batch)
    return args


def split(dataset: Dataset, held_out: int, clips: int, seed: int) -> tuple[Dataset, Dataset]:
    """`clips` of every class to train on and `held_out` others to test on. One seed has the same test clips for every
    number of training clips, and the clips of a smaller number are among those of a larger one.

    Raises:
        ValueError: a class has too few clips.
    """
    generator, labels = np.random.default_rng(seed), np.asarray(dataset["label"][:])
    by_name = np.argsort(video_names(dataset))
    train, test = [], []
    for label, name in enumerate(dataset.features["label"].names):
        members = generator.permutation(by_name[labels[by_name] == label])
        if len(members) < held_out + clips:
            raise ValueError(f"{name} has {len(members)} clips, --held_out {held_out} and --clips {clips} need more")
        test += members[:held_out].tolist()
        train += members[held_out : held_out + clips].tolist()
    return dataset.select(train), dataset.select(test)


def missing_rows(
    train: Dataset, test: Dataset, options: OwnClipsOptions, clips: int, seed: int, done: list[dict]
) -> Iterator[dict]:
    """The rows of one draw that are not in `done`, one by one. `cpu_seconds` is the training of the row's classifier
    with all decoding of its training clips, `steps` how many of the recipe that took."""
    there = {tuple(row[name] for name in KEY): row for row in done}
    labels = np.asarray(test["label"][:])

    def row(method: str, top1: float, seconds: float, epochs=None, tokens=None, steps=None) -> dict:
        values = (method, clips, seed, epochs, tokens)
        rest = {"top1": float(top1), "test_clips": len(test), "cpu_seconds": round(seconds, 2), "steps": steps}
        return dict(zip(KEY, values, strict=True)) | rest

    def is_there(method: str, epochs=None) -> bool:
        return (method, clips, seed, epochs, None) in there

    ours = [one for key, one in there.items() if key[:4] == ("flux", clips, seed, options.epochs)]
    budgets = AutoConfig.from_pretrained(default_checkpoint()).head_token_budgets
    if len(ours) < len(budgets):
        ours = []
        for one in flux_rows(train, test, options, seed):
            ours.append(row("flux", epochs=options.epochs, **one))
            if tuple(ours[-1][name] for name in KEY) not in there:
                yield ours[-1]
    if not options.baselines:
        return
    if not is_there("three_frames", options.epochs):
        exact = clip_processor(options)
        began = time.process_time()
        model = fit_cnn(train, exact, ours[0]["cpu_seconds"], seed)
        seconds = time.process_time() - began
        yield row("three_frames", (predict_cnn(model, test, exact) == labels).mean(), seconds, options.epochs)
    if not is_there("thumbnails"):
        began = time.process_time()
        model = fit_thumbnails(train)
        seconds = time.process_time() - began
        yield row("thumbnails", (model.predict(thumbnails(test)) == labels).mean(), seconds)
    if not is_there("majority"):
        ((most, _),) = Counter(train["label"][:]).most_common(1)
        yield row("majority", (labels == most).mean(), 0.0)


def flux_rows(train: Dataset, test: Dataset, options: OwnClipsOptions, seed: int) -> Iterator[dict]:
    """Train once, then test at every budget."""
    model, seconds, steps = fit_flux(train, train.features["label"].names, options, seed)
    found = evaluate(test, model.eval(), clip_processor(options), model.config.head_token_budgets)
    for tokens, figures in found["budgets"].items():
        yield {"tokens": tokens, "top1": figures["top1"], "seconds": seconds, "steps": steps}


def fit_flux(train: Dataset | CachedClips, label_names: list[str], options: OwnClipsOptions, seed: int) -> tuple:
    """(FluxViT trained by the recipe, the CPU seconds that took, its steps)"""
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        set_seed(seed)
        start = {"checkpoint": default_checkpoint()}
        if options.random_weights:
            start = {"config_file": str(Path(default_checkpoint(), "config.json"))}
        model = starting_model(label_names, **start)
        args = arguments(options, seed, len(train), folder)
        trainer = FluxTrainer(model=model, args=args, train_dataset=train, processing_class=clip_processor(options))
        trainer.train()
        return model, time.process_time() - began, trainer.state.global_step


def clip_processor(options: OwnClipsOptions) -> FluxVideoProcessor:
    """Reads the grid that the recipe tests on, exactly; the checkpoint's own where the recipe names none."""
    recipe = read_recipe(options.recipe)
    grid = {name: recipe[name] for name in ("num_frames", "size") if name in recipe}
    return FluxVideoProcessor.from_pretrained(default_checkpoint(), decoding="exact", **grid)


if __name__ == "__main__":
    run_command(COMMAND, main)
