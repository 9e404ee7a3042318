"""Evaluation clips from a clip source: every video once, for every budget, never swapped for another."""

import torch
from torch.utils.data import Dataset

from flux_hf.evaluation.metrics import UNREADABLE
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.processing.video_source_fluxvit import VideoDecodeError
from flux_hf.processing.views_fluxvit import Views, check_processor, read_views

ONE_VIEW = Views()


class EvaluationClips(Dataset):
    """index -> what the processor makes of a video at each of several budgets, decoded once.

    A video that cannot be read has no clips, the label -100 and the reason.

    Args:
        source: a clip source.
        token_budgets: those that the clips are for.

    Raises:
        ValueError: the processor's settings leave nothing to evaluate on, see `check_processor`.
    """

    def __init__(self, source, processor: FluxVideoProcessor, token_budgets: list[int]):
        check_processor(processor, ONE_VIEW)
        self.source, self.processor, self.wanted = source, processor, [(budget, None) for budget in token_budgets]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict:
        try:
            framings, pixels, _ = read_views(
                processor=self.processor, wanted=self.wanted, views=ONE_VIEW, **self.source.video(index)
            )
        except VideoDecodeError as error:
            return {
                "looks": [],
                "pixels": {},
                "label": UNREADABLE,
                "unreadable": [[self.source.name(index), str(error)]],
            }
        looks = [(framing, budget) for framing, (budget, _) in zip(framings, self.wanted, strict=True)]
        return {"looks": looks, "pixels": pixels, "label": self.source.label(index), "unreadable": []}


def collate_evaluation(items: list[dict]) -> dict:
    """A batch of videos that need not have the same grids.

    Returns:
        `labels` (batch,); `pixel_values_videos`, tensors (clips, frames, channels, height, width); `forwards`, a list
        of (number of one of these tensors, places of its clips in the batch, token budget); `unreadable`, [name,
        reason] of every video that could not be read.
    """
    places = {}
    for place, item in enumerate(items):
        for look in item["looks"]:
            places.setdefault(look, []).append(place)
    groups = {}
    forwards = []
    for (framing, budget), rows in places.items():
        group = groups.setdefault((framing, tuple(rows)), len(groups))
        forwards.append((group, rows, budget))
    return {
        # First: the trainer takes the size of a batch from its first tensor.
        "labels": torch.tensor([item["label"] for item in items]),
        "pixel_values_videos": [
            torch.cat([items[place]["pixels"][framing] for place in rows]) for framing, rows in groups
        ],
        "forwards": forwards,
        "unreadable": [entry for item in items for entry in item["unreadable"]],
    }
