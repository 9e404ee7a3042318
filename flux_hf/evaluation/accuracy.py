"""Top-1 accuracy at several budgets, from the files through the processor to the label."""

from collections import defaultdict

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from tqdm import tqdm

from flux_hf.costs import forward_macs
from flux_hf.modeling.modeling_fluxvit import FluxViTForVideoClassification
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.processing.video_source_fluxvit import VideoDecodeError


@torch.inference_mode()
def evaluate(
    dataset: Dataset,
    model: FluxViTForVideoClassification,
    processor: FluxVideoProcessor,
    token_budgets: list[int],
    *,
    batch_size: int = 32,
    num_workers: int = 0,
) -> dict:
    """Classify every video once (one clip, central crop) at every budget.

    Args:
        dataset: as `load_video_dataset` returns it; its label names must be the model's.
        token_budgets: budgets; those that share a grid share the decoding.

    Returns:
        `num_videos`, `unreadable` (list of {"video", "reason"}; they are in no figure), `label_names`, and `budgets`:
        for each budget `grid`, `gmacs`, `top1`, `per_class` (name -> top-1) and `confusion` (rows: true label).

    Raises:
        ValueError: when the data set has labels the model does not know.
    """
    names = dataset.features["label"].names
    if unknown := sorted(set(names) - set(model.config.label2id)):
        raise ValueError(f"the model has no label {unknown}; it knows {sorted(model.config.label2id)}")
    to_model = [model.config.label2id[name] for name in names]
    model_names = [model.config.id2label[index] for index in range(model.config.num_labels)]

    by_grid = defaultdict(list)
    for budget in token_budgets:
        by_grid[processor.choose_grid(budget)].append(budget)
    confusion = {budget: np.zeros((len(model_names), len(model_names)), dtype=np.int64) for budget in token_budgets}
    unreadable = {}
    for grid, budgets in by_grid.items():
        loader = DataLoader(
            _Decoded(dataset, processor, budgets[0]), batch_size, num_workers=num_workers, collate_fn=list
        )
        for items in tqdm(loader, desc=f"grid {grid[0]} x {grid[1]}"):
            unreadable |= {item["video"]: item["reason"] for item in items if "reason" in item}
            items = [item for item in items if "reason" not in item]
            if not items:
                continue
            videos = torch.cat([item["pixel_values_videos"] for item in items])
            labels = [to_model[item["label"]] for item in items]
            for budget in budgets:
                predicted = model(videos, token_budget=budget).logits.argmax(-1)
                np.add.at(confusion[budget], (labels, predicted.numpy()), 1)
    return {
        "num_videos": int(confusion[token_budgets[0]].sum()),
        "unreadable": [{"video": video, "reason": reason} for video, reason in sorted(unreadable.items())],
        "label_names": model_names,
        "budgets": {
            budget: _figures(confusion[budget], model_names, processor.choose_grid(budget), budget, model.config)
            for budget in token_budgets
        },
    }


def _figures(confusion: np.ndarray, names: list[str], grid: tuple[int, int], budget: int, config) -> dict:
    grid_tokens = grid[0] * (grid[1] // config.patch_size) ** 2
    counts = confusion.sum(1)
    return {
        "grid": list(grid),
        "gmacs": forward_macs(config, min(budget, grid_tokens), grid_tokens) / 1e9,
        "top1": float(np.trace(confusion) / max(confusion.sum(), 1)),
        "per_class": {name: float(confusion[i, i] / counts[i]) if counts[i] else None for i, name in enumerate(names)},
        "confusion": confusion.tolist(),
    }


class _Decoded(torch.utils.data.Dataset):
    def __init__(self, dataset: Dataset, processor: FluxVideoProcessor, token_budget: int):
        self.dataset, self.processor, self.token_budget = dataset, processor, token_budget

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        row = self.dataset[index]
        try:
            inputs = self.processor(row["video"], token_budget=self.token_budget, return_tensors="pt")
        except VideoDecodeError as error:
            return {"video": str(row["video"]["path"] or f"row {index}"), "reason": str(error)}
        return {"pixel_values_videos": inputs["pixel_values_videos"], "label": row["label"]}
