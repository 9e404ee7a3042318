"""token_budget="auto" against fixed budgets: what they cost and how often they are right."""

import numpy as np
import torch

from flux_hf.checkpoints import checkpoint_path
from flux_hf.data import load_video_dataset
from flux_hf.evaluation import evaluate
from flux_hf.modeling.adaptive_budget_fluxvit import AUTO
from flux_hf.plugin import load_video_classifier, load_video_processor
from flux_hf.scripts.benchmarks.measuring.timing import alternating

FIGURES = ("gmacs", "top1", "top1_interval", "answered")


def load(data: str, split: str, checkpoint: str) -> tuple:
    """(data set, model in eval mode, processor)"""
    path = checkpoint_path(checkpoint)
    model = load_video_classifier(path).eval()
    return load_video_dataset(data, split), model, load_video_processor(path, model)


def accuracy(dataset, model, processor, num_workers: int) -> dict:
    """`num_videos`, `files` (hash of the list) and `budgets`: budget -> what `evaluate` says, in short."""
    found = evaluate(dataset, model, processor, [*model.token_budgets, AUTO], num_workers=num_workers)
    budgets = {
        budget: {name: figures[name] for name in FIGURES if name in figures}
        for budget, figures in found["budgets"].items()
    }
    return {"num_videos": found["num_videos"], "files": found["files"], "budgets": budgets}


@torch.inference_mode()
def milliseconds(dataset, model, processor, options) -> list[dict]:
    """For each batch size and budget the milliseconds of a forward per clip, without decoding: `batch_size`, `budget`,
    `milliseconds` and `spread`."""
    rows = np.random.default_rng(options.seed).permutation(len(dataset))[: options.timed]
    videos = dataset.select(np.sort(rows))["video"][:]
    budgets = [*model.token_budgets, AUTO]
    pixels = {
        budget: torch.cat(
            [processor(video, token_budget=budget, return_tensors="pt").pixel_values_videos for video in videos]
        )
        for budget in budgets
    }
    found = []
    for size in options.batch_sizes:

        def run(budget, size=size):
            for clips in pixels[budget].split(size):
                model(clips, token_budget=budget)

        times = alternating({budget: lambda budget=budget: run(budget) for budget in budgets}, options.repeats, 600.0)
        for budget, time in times.items():
            per_clip = [1000 * seconds / len(videos) for seconds in (time["seconds"], *time["spread"])]
            found.append({"batch_size": size, "budget": budget, "milliseconds": per_clip[0], "spread": per_clip[1:]})
    return found
