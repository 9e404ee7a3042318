"""Train one model from random weights, stock or Flux, and test it at several budgets; writes JSON.

Stock training is one grid with all tokens kept, which is the stock model bit for bit. Flux training draws a grid for
every step and trains it at several budgets, aligned. Steps, clips, augmentation and optimiser are the same.

python scripts/experiments/any_model/run.py --data DIR --model videomae --regime flux --seed 0
"""

import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets

from flux_hf import FluxVideoProcessor
from flux_hf.cli import run_command
from flux_hf.data import CachedClips, cache_clips, load_video_dataset
from flux_hf.evaluation.figures import wilson_interval
from flux_hf.files import write_json
from flux_hf.options import parse_options
from flux_hf.processing.frame_sampling_fluxvit import segment_middles
from flux_hf.provenance import file_list_hash, provenance
from flux_hf.scripts.experiments.any_model.models import (
    ALL_TOKENS,
    BUDGETS,
    GRID,
    MODELS,
    PATCH,
    SHARES,
    TUBELET,
    enabled_model,
)
from flux_hf.scripts.experiments.own_clips.compare import split
from flux_hf.training import FluxTrainer, FluxTrainingArguments
from flux_hf.training.arguments import recipe_of

COMMAND = "scripts/experiments/any_model/run.py"
REGIMES = {
    "stock": {
        "token_budgets": [ALL_TOKENS],
        "min_frames": GRID.frames,
        "max_frames": GRID.frames,
        "min_size": GRID.size,
        "max_size": GRID.size,
        "min_pool_tokens": ALL_TOKENS,
        "max_pool_tokens": ALL_TOKENS,
    },
    "flux": {
        "token_budgets": [ALL_TOKENS // share for share in (1, 2, 4)],
        "min_frames": 8,
        "max_frames": 24,
        "min_size": 64,
        "max_size": 112,
        "min_pool_tokens": ALL_TOKENS // 2,
        "max_pool_tokens": ALL_TOKENS * 3 // 2,
    },
}
"""What they differ in: the budgets of a step and the grids. Stock is one grid with all tokens kept."""
ALIKE = {
    "frames_step": 4,
    "size_step": PATCH,
    "min_crop_area": 0.5,
    "flip": False,
    "rand_augment_ops": 0,
    "weight_decay": 0.05,
    "max_grad_norm": 1.0,
    "warmup_steps": 0.1,
    "per_device_train_batch_size": 16,
}
LEARNING_RATES = {"videomae": 1e-3, "vjepa2": 2e-3}
"""The same for both ways. At 1e-3 a smaller V-JEPA 2 has learnt less in stock training: 64 %, not 87 %, of one seed."""
CACHED_FRAMES, CACHED_SIZE = 32, GRID.size
OTHER_RULES = ("random", "uniform")
"""Tested beside the paper's rule, at a quarter of the tokens."""


@dataclass
class RunOptions:
    data: str = field(metadata={"help": "Folder of a video data set in videofolder layout."})
    model: str = field(default="videomae", metadata={"help": "What to train.", "choices": list(MODELS)})
    regime: str = field(default="flux", metadata={"help": "How.", "choices": list(REGIMES)})
    seed: int = field(default=0, metadata={"help": "Draws the clips of training and test, and the weights."})
    steps: int = field(default=1200, metadata={"help": "Steps of 16 clips."})
    learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate. Default: 1e-3 for VideoMAE, 2e-3 for V-JEPA 2."}
    )
    splits: list[str] = field(
        default_factory=lambda: ["train", "validation"], metadata={"help": "Splits that all clips are drawn from."}
    )
    held_out: int = field(default=20, metadata={"help": "Clips a class to test on; the others are trained on."})
    cache: str = field(default="runs/any_model/cache", metadata={"help": "Folder of decoded clips."})
    runs: str = field(default="runs/any_model", metadata={"help": "Folder of the JSON file, MODEL-REGIME-SEED.json."})
    workers: int = field(default=0, metadata={"help": "Processes that make batches beside the training."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(RunOptions, argv, __doc__)
    torch.set_num_threads(1)
    dataset = all_clips(options)
    clips = decoded(dataset, options)
    train, test = (chosen(clips, part["row"][:]) for part in drawn(dataset, options.held_out, options.seed))
    model, seconds, recipe = trained(train, options)
    result = provenance(f"python {COMMAND}", argv) | {
        **{name: getattr(options, name) for name in ("model", "regime", "seed")},
        "settings": settings(dataset, options),
        "train_clips": len(train),
        "test_clips": len(test),
        "recipe": recipe,
        "parameters": parameters(model),
        "seconds": round(seconds, 1),
        "rows": tested(model, test),
    }
    write_json(result_file(options.runs, options.model, options.regime, options.seed), result)
    print(json.dumps({name: result[name] for name in ("model", "regime", "seed", "seconds", "rows")}), flush=True)


def result_file(runs: str, model: str, regime: str, seed: int) -> Path:
    return Path(runs, f"{model}-{regime}-{seed}.json")


def settings(dataset: Dataset, options) -> dict:
    """What all runs that are compared must share."""
    return {
        "files": file_list_hash(dataset),
        "label_names": dataset.features["label"].names,
        "held_out": options.held_out,
        "steps": options.steps,
        "learning_rate": options.learning_rate,
        "grid": list(GRID),
    }


def all_clips(options) -> Dataset:
    return concatenate_datasets([load_video_dataset(options.data, name) for name in options.splits])


def decoded(dataset: Dataset, options) -> CachedClips:
    """Those of the whole data set, decoded once for all runs."""
    return cache_clips(dataset, options.cache, num_frames=CACHED_FRAMES, size=CACHED_SIZE)


def drawn(dataset: Dataset, held_out: int, seed: int) -> tuple[Dataset, Dataset]:
    """Clips to train on and clips to test on, a function of the seed, as many of every class; `row` is their number in
    the data set."""
    numbered = dataset.add_column("row", list(range(len(dataset))))
    fewest = int(min(np.bincount(dataset["label"][:])))
    return split(numbered, held_out, fewest - held_out, seed)


def chosen(clips: CachedClips, rows: list[int]) -> CachedClips:
    names = [clips.video_names[row] for row in rows]
    return CachedClips(clips.clips[rows], clips.labels[rows], clips.label_names, names)


def trained(clips: CachedClips, options: RunOptions) -> tuple[torch.nn.Module, float, dict]:
    """The model, the seconds of training, and the settings of it."""
    model = enabled_model(options.model, clips.label_names, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        args = FluxTrainingArguments(
            **ALIKE,
            **REGIMES[options.regime],
            max_steps=options.steps,
            learning_rate=options.learning_rate or LEARNING_RATES[options.model],
            seed=options.seed,
            output_dir=folder,
            dataloader_num_workers=options.workers,
            dataloader_persistent_workers=options.workers > 0,
            eval_strategy="no",
            save_strategy="no",
            logging_steps=50,
            report_to="none",
            disable_tqdm=True,
        )
        args.per_device_train_batch_size = min(args.per_device_train_batch_size, len(clips))
        trainer = FluxTrainer(model=model, args=args, train_dataset=clips, processing_class=processor())
        began = time.perf_counter()
        trainer.train()
        return model.eval(), time.perf_counter() - began, recipe_of(args)


def processor() -> FluxVideoProcessor:
    return FluxVideoProcessor(patch_size=PATCH, tubelet_size=TUBELET, num_frames=GRID.frames, size=GRID.size)


def tested(model: torch.nn.Module, clips: CachedClips) -> list[dict]:
    """Accuracy at every budget with the paper's rule, and with other rules at a quarter of the tokens."""
    pixels, labels = test_pixels(clips), torch.from_numpy(clips.labels)
    cases = [("group_dynamic", budget) for budget in BUDGETS]
    cases += [(rule, BUDGETS[SHARES.index(4)]) for rule in OTHER_RULES]
    rows = []
    for rule, budget in cases:
        torch.manual_seed(0)
        right = int((answers(model, pixels, budget, rule) == labels).sum())
        rows.append({"rule": rule, "tokens": budget, "top1": right / len(labels)})
        rows[-1]["top1_interval"] = wilson_interval(right, len(labels))
    return rows


def test_pixels(clips: CachedClips) -> torch.Tensor:
    """The middle frames of equal segments, normalised: float (clips, frames, 3, size, size)."""
    frames = np.stack([clips.read(row, lambda total: segment_middles(total, GRID.frames)) for row in range(len(clips))])
    video, ours = torch.from_numpy(frames).movedim(-1, 2).float() / 255, processor()
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (ours.image_mean, ours.image_std))
    return (video - mean) / deviation


@torch.inference_mode()
def answers(model: torch.nn.Module, pixels: torch.Tensor, token_budget: int, rule: str) -> torch.Tensor:
    """The class of every clip."""
    device = next(model.parameters()).device
    logits = [
        model(part.to(device), token_budget=token_budget, token_selection=rule).logits for part in pixels.split(32)
    ]
    return torch.cat(logits).argmax(dim=1).cpu()


def parameters(model: torch.nn.Module) -> int:
    """Without V-JEPA 2's predictor, which takes no part."""
    return sum(values.numel() for name, values in model.named_parameters() if ".predictor." not in name)


if __name__ == "__main__":
    run_command(COMMAND, main)
