"""What a model says about every video of a data set, at several budgets and grids, over one or many processes."""

import math
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from flux_hf.modeling.adaptive_budget_fluxvit import AUTO
from flux_hf.modeling.flux_model_fluxvit import FluxModel
from flux_hf.modeling.token_selection_fluxvit import SelectionRule, selection_rule
from flux_hf.processes import end_with_parent
from flux_hf.processing.grid_fluxvit import Grid
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.processing.video_source_fluxvit import VideoDecodeError
from flux_hf.processing.views_fluxvit import Views, read_views

TOP = 5

Forward = Callable[[FluxModel, torch.Tensor, int], torch.Tensor]
"""(model, pixels (clips, frames, channels, height, width), token budget) -> logits (clips, labels)"""


def logits_at_budget(
    model: FluxModel,
    pixels: torch.Tensor,
    token_budget: int,
    token_selection: str | SelectionRule | Callable | None = None,
) -> torch.Tensor:
    """Logits of `token_budget` tokens that a rule selects, default the model's own. A random rule draws for each clip
    from a seed that its pixels give: the same in every run, batch and process."""
    rule = selection_rule(model.token_selection if token_selection is None else token_selection)
    if not rule.random:
        return model(pixels, token_budget=token_budget, token_selection=rule).logits
    logits = []
    for clip in pixels.split(1):
        with torch.random.fork_rng([clip.device] if clip.is_cuda else []):
            torch.manual_seed(zlib.crc32(clip.float().cpu().numpy().tobytes()))
            logits.append(model(clip, token_budget=token_budget, token_selection=rule).logits)
    return torch.cat(logits)


@dataclass(frozen=True)
class Arm:
    """One way to look at a video: a token budget, a grid (none is the processor's choice for the budget) and what
    computes the logits, for other token selections than the model's own. Where the budget is "auto" that is
    `model(pixels, token_budget="auto", num_views=...)` of all views of a video together."""

    token_budget: int | str
    grid: Grid | None = None
    forward: Forward = logits_at_budget


@torch.inference_mode()
def score_videos(
    dataset: Dataset,
    rows: list[int],
    model: FluxModel,
    processor: FluxVideoProcessor,
    arms: list[Arm],
    views: Views,
    *,
    label_ids: list[int],
    batch_size: int,
    num_workers: int,
) -> Iterator[dict]:
    """Yields one record for each of `rows`, decoding every video once for all arms and views.

    Softmax for each view, then the mean over views. Arms that come to the same budget and framing for a video are
    computed once.

    Args:
        dataset: as `load_video_dataset` returns it; of a row with `start` or `end` only that part of the video counts.
        label_ids: the model's class for each label of the data set.
        batch_size: views per forward, at most.

    Yields:
        `{"row", "label", "arms"}` with one entry per arm: `grid` [frames, size], `top` (the best five classes, best
        first) and `scores` (theirs), `label_score` (that of the true class) and, where the arm is "auto", `answered`
        (the budget that answered) and `changes` (of the model's output, the mean over views; None where there is none);
        or `{"row", "reason"}` for a video that cannot be read. A video with damaged frames also has `replaced_frames`:
        how many others stand in for.
    """
    softmax = partial(torch.softmax, dim=-1)
    for items in decoded_batches(dataset, rows, processor, arms, views, batch_size, num_workers):
        readable = [item for item in items if "reason" not in item]
        probabilities = mean_over_views(readable, arms, model, batch_size, softmax)
        found, more = auto_answers(readable, arms, model, batch_size, views.count)
        probabilities |= found
        for item in items:
            if "reason" in item:
                yield {"row": item["row"], "reason": item["reason"]}
                continue
            label = label_ids[item["label"]]
            damage = {"replaced_frames": item["replaced"]} if item["replaced"] else {}
            yield damage | {
                "row": item["row"],
                "label": label,
                "arms": [
                    _answer(probabilities[look], look[-1].grid, label) | more.get(look, {})
                    for look in ((item["row"], *look) for look in _looks(item, arms))
                ],
            }


def decoded_batches(
    dataset: Dataset,
    rows: list[int],
    processor: FluxVideoProcessor,
    arms: list[Arm],
    views: Views,
    batch_size: int,
    num_workers: int,
) -> Iterable[list[dict]]:
    """The rows in batches of at most `batch_size` views (of one video at least), each decoded once for all arms.

    An item is `{"row", "label" (None without labels), "framings" (one an arm), "pixels" (framing -> views), "replaced"
    (damaged frames that others stand in for)}`, or `{"row", "reason"}` for a video that cannot be read.
    """
    return DataLoader(
        _VideoViews(dataset, rows, processor, arms, views),
        max(1, batch_size // views.count),
        num_workers=num_workers,
        collate_fn=list,
        worker_init_fn=end_with_parent,
    )


def _answer(probabilities: torch.Tensor, grid: Grid, label: int) -> dict:
    scores, classes = probabilities.topk(min(TOP, len(probabilities)))
    return {
        "grid": list(grid),
        "top": classes.tolist(),
        "scores": [round(score, 6) for score in scores.tolist()],
        "label_score": round(float(probabilities[label]), 6),
    }


def mean_over_views(
    items: list[dict], arms: list[Arm], model, batch_size: int, answer: Callable[[torch.Tensor], torch.Tensor]
) -> dict:
    """(row, budget, forward, framing) -> float64 (width,), the mean over the video's views of what `answer` makes of
    the forward's output (views, width), for the readable items of [`decoded_batches`]. Arms that are "auto" are left
    out, see [`auto_answers`]."""
    found = {}
    for (budget, forward, framing), group in _by_look(items, arms).items():
        if budget == AUTO:
            continue
        pixels = torch.cat([item["pixels"][framing] for item in group])
        chunks = [
            answer(forward(model, chunk.to(next(model.parameters())), budget).float()).double().cpu()
            for chunk in pixels.split(batch_size)
        ]
        means = torch.cat(chunks).unflatten(0, (len(group), -1)).mean(1)
        found |= {(item["row"], budget, forward, framing): mean for item, mean in zip(group, means, strict=True)}
    return found


def auto_answers(items: list[dict], arms: list[Arm], model, batch_size: int, num_views: int) -> tuple[dict, dict]:
    """For the arms that are "auto" two dictionaries with the keys of [`mean_over_views`]: the mean of the softmax of
    the video's views, and what `score_videos` yields of "auto" alone. Views of a video, `num_views` of them, are in one
    forward."""
    means, more = {}, {}
    for (budget, forward, framing), group in _by_look(items, arms).items():
        if budget != AUTO:
            continue
        pixels = torch.cat([item["pixels"][framing] for item in group])
        outputs = [
            forward(model, chunk.to(next(model.parameters())), AUTO, num_views=num_views)
            for chunk in pixels.split(max(1, batch_size // num_views) * num_views)
        ]
        softmax = torch.cat([output.logits.float().softmax(-1).double().cpu() for output in outputs])
        answered = torch.cat([output.answered_budgets for output in outputs]).tolist()[::num_views]
        changes = [None] * len(group)
        if outputs[0].changes is not None:
            per_view = torch.cat([output.changes for output in outputs]).double().unflatten(0, (len(group), -1))
            changes = [
                [None if math.isnan(change) else round(change, 6) for change in of_video]
                for of_video in per_view.mean(1).tolist()
            ]
        of_views = softmax.unflatten(0, (len(group), -1)).mean(1)
        for item, mean, found, changed in zip(group, of_views, answered, changes, strict=True):
            key = (item["row"], budget, forward, framing)
            means[key], more[key] = mean, {"answered": found, "changes": changed}
    return means, more


def _looks(item: dict, arms: list[Arm]) -> list[tuple]:
    """(budget, forward, framing) of each arm for a video."""
    return [(arm.token_budget, arm.forward, framing) for arm, framing in zip(arms, item["framings"], strict=True)]


def _by_look(items: list[dict], arms: list[Arm]) -> dict[tuple, list[dict]]:
    """The items that each (budget, forward, framing) is wanted of."""
    wanted = defaultdict(list)
    for item in items:
        for look in dict.fromkeys(_looks(item, arms)):
            wanted[look].append(item)
    return wanted


class _VideoViews(torch.utils.data.Dataset):
    def __init__(self, dataset: Dataset, rows: list[int], processor: FluxVideoProcessor, arms: list[Arm], views: Views):
        self.dataset, self.rows, self.processor, self.arms, self.views = dataset, rows, processor, arms, views

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> dict:
        row = self.rows[place]
        entry = self.dataset[row]
        try:
            framings, pixels, metadata = read_views(
                entry["video"],
                self.processor,
                [(arm.token_budget, arm.grid) for arm in self.arms],
                self.views,
                start=entry.get("start"),
                end=entry.get("end"),
            )
        except VideoDecodeError as error:
            return {"row": row, "reason": str(error)}
        replaced = getattr(metadata, "replaced_frames", 0)
        return {"row": row, "label": entry.get("label"), "framings": framings, "pixels": pixels, "replaced": replaced}
