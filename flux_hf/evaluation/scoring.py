"""What a model says about every video of a data set, at several budgets and grids, over one or many processes."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from flux_hf.evaluation.views import Grid, Views, read_views
from flux_hf.modeling.modeling_fluxvit import FluxViTForVideoClassification
from flux_hf.processing.grid_fluxvit import fit_grid
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.processing.video_source_fluxvit import VideoDecodeError

TOP = 5

Forward = Callable[[FluxViTForVideoClassification, torch.Tensor, int], torch.Tensor]
"""(model, pixels (clips, frames, channels, height, width), token budget) -> logits (clips, labels)"""


def logits_at_budget(model: FluxViTForVideoClassification, pixels: torch.Tensor, token_budget: int) -> torch.Tensor:
    """The model's own selection of `token_budget` tokens."""
    return model(pixels, token_budget=token_budget).logits


@dataclass(frozen=True)
class Arm:
    """One way to look at a video: a token budget, a grid (none is the processor's choice for the budget) and what
    computes the logits, for other token selections than the model's own."""

    token_budget: int
    grid: Grid | None = None
    forward: Forward = logits_at_budget

    def grid_for(self, processor: FluxVideoProcessor, source: tuple[int, int]) -> Grid:
        """The grid for a video of `source` (frames, short side): cut down to it where the processor says so."""
        if self.grid is None:
            return processor.choose_grid(self.token_budget, source=source if processor.fit_source else None)
        if processor.fit_source:
            return fit_grid(self.grid, self.token_budget, *source, processor.patch_size)
        return self.grid


@torch.inference_mode()
def score_videos(
    dataset: Dataset,
    rows: list[int],
    model: FluxViTForVideoClassification,
    processor: FluxVideoProcessor,
    arms: list[Arm],
    views: Views,
    *,
    label_ids: list[int],
    batch_size: int,
    num_workers: int,
) -> Iterator[dict]:
    """Yields one record for each of `rows`, decoding every video once for all arms and views.

    Softmax for each view, then the mean over views. Arms that come to the same budget and grid for a video are computed
    once.

    Args:
        dataset: as `load_video_dataset` returns it; of a row with `start` or `end` only that part of the video counts.
        label_ids: the model's class for each label of the data set.
        batch_size: views per forward, at most.

    Yields:
        `{"row", "label", "arms"}` with one entry per arm: `grid` [frames, size], `top` (the best five classes, best
        first) and `scores` (theirs), `label_score` (that of the true class); or `{"row", "reason"}` for a video that
        cannot be read.
    """
    videos = _VideoViews(dataset, rows, processor, arms, views)
    batches = DataLoader(videos, max(1, batch_size // views.count), num_workers=num_workers, collate_fn=list)
    for items in batches:
        readable = [item for item in items if "reason" not in item]
        probabilities = _probabilities(readable, arms, model, batch_size)
        for item in items:
            if "reason" in item:
                yield {"row": item["row"], "reason": item["reason"]}
                continue
            label = label_ids[item["label"]]
            yield {
                "row": item["row"],
                "label": label,
                "arms": [
                    _answer(probabilities[item["row"], replace(arm, grid=grid)], grid, label)
                    for arm, grid in zip(arms, item["grids"], strict=True)
                ],
            }


def _answer(probabilities: torch.Tensor, grid: Grid, label: int) -> dict:
    scores, classes = probabilities.topk(min(TOP, len(probabilities)))
    return {
        "grid": list(grid),
        "top": classes.tolist(),
        "scores": [round(score, 6) for score in scores.tolist()],
        "label_score": round(float(probabilities[label]), 6),
    }


def _probabilities(items: list[dict], arms: list[Arm], model, batch_size: int) -> dict:
    """(row, arm with the video's grid) -> probabilities (labels,) float64, the mean over the video's views."""
    wanted = defaultdict(list)
    for item in items:
        for arm in {replace(arm, grid=grid): None for arm, grid in zip(arms, item["grids"], strict=True)}:
            wanted[arm].append(item)
    found = {}
    for arm, group in wanted.items():
        pixels = torch.cat([item["pixels"][arm.grid] for item in group])
        chunks = [
            arm.forward(model, chunk.to(model.device, model.dtype), arm.token_budget).float().softmax(-1).double().cpu()
            for chunk in pixels.split(batch_size)
        ]
        means = torch.cat(chunks).unflatten(0, (len(group), -1)).mean(1)
        found |= {(item["row"], arm): mean for item, mean in zip(group, means, strict=True)}
    return found


class _VideoViews(torch.utils.data.Dataset):
    def __init__(self, dataset: Dataset, rows: list[int], processor: FluxVideoProcessor, arms: list[Arm], views: Views):
        self.dataset, self.rows, self.processor, self.arms, self.views = dataset, rows, processor, arms, views

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> dict:
        row = self.rows[place]
        entry = self.dataset[row]
        try:
            grids, pixels = read_views(
                entry["video"],
                self.processor,
                lambda source: [arm.grid_for(self.processor, source) for arm in self.arms],
                self.views,
                start=entry.get("start"),
                end=entry.get("end"),
            )
        except VideoDecodeError as error:
            return {"row": row, "reason": str(error)}
        return {"row": row, "label": entry["label"], "grids": grids, "pixels": pixels}
