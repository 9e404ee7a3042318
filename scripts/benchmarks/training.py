"""Measure loading against workers, Flux-Multi against separate forwards and its floor, and memory; writes JSON.

Separate forwards are a forward and a backward for every budget by itself, without alignment, and one optimizer step.
The floor of a step is three times the multiply-accumulates of its forward (one forward, two for the backward) over the
rate of matrix products that the same machine reaches in the same run.
"""

import json
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.files import write_json
from flux_hf.options import parse_options
from flux_hf.scripts.benchmarks.measuring.steps import (
    StepOptions,
    logged_seconds,
    step_arguments,
    step_kilobytes,
    step_tokens,
)

COMMAND = "scripts/benchmarks/training.py"


@dataclass
class BenchmarkOptions(StepOptions):
    output: str = field(default="scripts/benchmarks/results/training.json", metadata={"help": "JSON file to write."})
    num_videos: int = field(default=64, metadata={"help": "Clips that are rendered to load from."})
    workers: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Numbers of loading workers."})
    cached_size: int = field(default=256, metadata={"help": "Side of the decoded clips that are loaded, in pixels."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(BenchmarkOptions, argv, __doc__)
    from flux_hf.data import cache_clips, load_video_dataset
    from flux_hf.provenance import provenance
    from flux_hf.scripts.experiments.motion_clips import MotionClipOptions, make_dataset

    folder = Path(tempfile.mkdtemp(prefix="flux_benchmark_"))
    try:
        make_dataset(MotionClipOptions(str(folder / "clips"), train=options.num_videos, validation=0, test=0))
        videos = load_video_dataset(folder / "clips", "train")
        cached = cache_clips(videos, folder / "cache", num_frames=16, size=options.cached_size)
        result = provenance(f"python {COMMAND}", argv) | {"options": vars(options)}
        result["loader"] = [
            {"source": name, "workers": workers, "clips_per_second": _loading(options, data, workers, folder)}
            for name, data in (("decoded clips", cached), ("video files", videos))
            for workers in options.workers
        ]
        result["loader_share"] = [_loader_share(options, cached, workers, folder) for workers in options.workers]
        result["training"] = _training(options, cached, folder)
    finally:
        shutil.rmtree(folder)
    budgets = result["training"]["token_budgets"]
    result["memory"] = [
        {"token_budgets": kept, "kilobytes": step_kilobytes(options, kept)}
        for kept in (budgets, *([budget] for budget in budgets))
    ]
    write_json(options.output, result)
    print(json.dumps({name: result[name] for name in ("loader", "loader_share", "training", "memory")}, indent=1))


def _trainer(options: BenchmarkOptions, data, folder: Path, workers: int):
    from flux_hf import FluxVideoProcessor
    from flux_hf.training import FluxTrainer, FluxTrainingArguments
    from flux_hf.training.starting_model import starting_model

    names = data.label_names if hasattr(data, "label_names") else data.features["label"].names
    model = starting_model(names, config_file=options.model_config)
    args = FluxTrainingArguments(
        **step_arguments(options, folder, model.config),
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        random_erasing=0.25,
        mixup_alpha=0.8,
        cutmix_alpha=1.0,
    )
    processor = FluxVideoProcessor(patch_size=model.config.patch_size, tubelet_size=model.config.tubelet_size)
    return FluxTrainer(model=model, args=args, train_dataset=data, processing_class=processor)


def _endless(loader):
    while True:
        yield from loader


def _loading(options: BenchmarkOptions, data, workers: int, folder: Path) -> float:
    trainer = _trainer(options, data, folder, workers)
    batches = _endless(trainer.get_train_dataloader())
    for _ in range(2 + 2 * workers):
        next(batches)
    start = time.perf_counter()
    for _ in range(options.steps):
        next(batches)
    return options.steps * options.batch_size / (time.perf_counter() - start)


def _loader_share(options: BenchmarkOptions, data, workers: int, folder: Path) -> dict:
    """What a step of `Trainer.train` waits for its decoded clips, and takes itself."""
    trainer = _trainer(options, data, folder, workers)
    trainer.train()
    seconds = logged_seconds(trainer, "data_seconds", "step_seconds")
    return {"workers": workers, **seconds}


def _training(options: BenchmarkOptions, data, folder: Path) -> dict:
    import torch

    from flux_hf.costs import forward_macs_at_budgets
    from flux_hf.scripts.benchmarks.measuring.matrix_products import matmul_rate
    from flux_hf.scripts.benchmarks.measuring.timing import alternating

    trainer = _trainer(options, data, folder, 0)
    model, budgets, optimizer = trainer.model, trainer.token_budgets, trainer.create_optimizer()
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.current_gradient_accumulation_steps = 1

    def step(batches: list[dict]):
        for inputs in batches:
            trainer.training_step(model, inputs)
        optimizer.step()
        model.zero_grad()

    runs = {
        "Flux-Multi": lambda: step([batch]),
        "separate": lambda: step([batch | {"token_budget": budget} for budget in budgets]),
    }
    timed = alternating(runs, options.steps, most_seconds=600)
    rate = matmul_rate(dtype=torch.bfloat16 if options.bf16 else torch.float32)
    macs = forward_macs_at_budgets(model.config, budgets, step_tokens(options, model.config))
    return {
        "token_budgets": budgets,
        "runs": timed,
        "gmacs_forward_per_clip": macs / 1e9,
        "matmul_gmacs_per_second": rate / 1e9,
    }


if __name__ == "__main__":
    run_command(COMMAND, main)
