"""Measure the loading of training clips against workers, and training against its arithmetic floor; writes JSON.

The floor of a step is three times the multiply-accumulates of its forward (one forward, two for the backward) over the
rate of matrix products that the same machine reaches in the same run.
"""

import json
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.options import parse_options


@dataclass
class BenchmarkOptions:
    output: str = field(default="benchmark_training.json", metadata={"help": "JSON file to write."})
    model_config: str = field(
        default="scripts/configs/models/fluxvit_nano.json", metadata={"help": "JSON config of the model."}
    )
    num_videos: int = field(default=64, metadata={"help": "Clips that are rendered to load from."})
    workers: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Numbers of loading workers."})
    batch_size: int = field(default=8, metadata={"help": "Clips in a batch."})
    num_frames: int = field(default=8, metadata={"help": "Frames of the grid."})
    size: int = field(default=96, metadata={"help": "Side of the grid in pixels."})
    cached_size: int = field(default=256, metadata={"help": "Side of the decoded clips that are loaded, in pixels."})
    steps: int = field(default=20, metadata={"help": "Batches that are timed, after two that are not."})
    bf16: bool = field(default=False, metadata={"help": "Train in bf16, and measure matrix products in it."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(BenchmarkOptions, argv, __doc__)
    from flux_hf.data import cache_clips, load_video_dataset
    from flux_hf.motion_clips import MotionClipOptions, make_dataset
    from flux_hf.provenance import provenance

    folder = Path(tempfile.mkdtemp(prefix="flux_benchmark_"))
    try:
        make_dataset(MotionClipOptions(str(folder / "clips"), train=options.num_videos, validation=0, test=0))
        videos = load_video_dataset(folder / "clips", "train")
        cached = cache_clips(videos, folder / "cache", num_frames=16, size=options.cached_size)
        result = provenance("benchmark-training", argv) | {"options": vars(options)}
        result["loader"] = [
            {"source": name, "workers": workers, "clips_per_second": _loading(options, data, workers, folder)}
            for name, data in (("decoded clips", cached), ("video files", videos))
            for workers in options.workers
        ]
        result["training"] = _training(options, cached, folder)
    finally:
        shutil.rmtree(folder)
    fastest = max(row["clips_per_second"] for row in result["loader"] if row["source"] == "decoded clips")
    result["loader_over_training"] = fastest / result["training"]["clips_per_second"]
    Path(options.output).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({"loader": result["loader"], "training": result["training"]}, indent=1))


def _trainer(options: BenchmarkOptions, data, folder: Path, workers: int):
    from flux_hf import FluxVideoProcessor
    from flux_hf.training import FluxTrainer, FluxTrainingArguments
    from flux_hf.training.starting_model import starting_model

    names = data.label_names if hasattr(data, "label_names") else data.features["label"].names
    model = starting_model(names, config_file=options.model_config)
    tokens = options.num_frames * (options.size // model.config.patch_size) ** 2
    args = FluxTrainingArguments(
        output_dir=str(folder / "run"),
        per_device_train_batch_size=options.batch_size,
        dataloader_num_workers=workers,
        min_frames=options.num_frames,
        max_frames=options.num_frames,
        min_size=options.size,
        max_size=options.size,
        min_pool_tokens=tokens,
        max_pool_tokens=tokens,
        random_erasing=0.25,
        mixup_alpha=0.8,
        cutmix_alpha=1.0,
        bf16=options.bf16,
        use_cpu=True,
        report_to="none",
    )
    processor = FluxVideoProcessor(patch_size=model.config.patch_size)
    return FluxTrainer(model=model, args=args, train_dataset=data, processing_class=processor), tokens


def _endless(loader):
    while True:
        yield from loader


def _loading(options: BenchmarkOptions, data, workers: int, folder: Path) -> float:
    trainer, _ = _trainer(options, data, folder, workers)
    batches = _endless(trainer.get_train_dataloader())
    for _ in range(2 + 2 * workers):
        next(batches)
    start = time.perf_counter()
    for _ in range(options.steps):
        next(batches)
    return options.steps * options.batch_size / (time.perf_counter() - start)


def _training(options: BenchmarkOptions, data, folder: Path) -> dict:
    import torch

    from flux_hf.costs import forward_macs
    from flux_hf.measurement import matmul_rate

    trainer, tokens = _trainer(options, data, folder, 0)
    model = trainer.model
    batch = next(iter(trainer.get_train_dataloader()))
    optimizer = trainer.create_optimizer()
    times = []
    for _ in range(2 + options.steps):
        start = time.perf_counter()
        trainer.current_gradient_accumulation_steps = 1
        trainer.training_step(model, batch)
        optimizer.step()
        model.zero_grad()
        times.append(time.perf_counter() - start)
    seconds = sum(times[2:]) / options.steps
    rate = matmul_rate(dtype=torch.bfloat16 if options.bf16 else torch.float32)
    macs = sum(forward_macs(model.config, min(budget, tokens), tokens) for budget in trainer.token_budgets)
    # Patches are embedded once for all budgets.
    patches = model.config.patch_size**2 * model.config.num_channels * model.config.hidden_size * tokens
    macs -= (len(trainer.token_budgets) - 1) * patches
    floor = 3 * macs * options.batch_size / rate
    return {
        "token_budgets": trainer.token_budgets,
        "clips_per_second": options.batch_size / seconds,
        "gmacs_forward_per_clip": macs / 1e9,
        "matmul_gmacs_per_second": rate / 1e9,
        "floor_clips_per_second": options.batch_size / floor,
        "time_over_floor": seconds / floor,
    }


if __name__ == "__main__":
    main()
