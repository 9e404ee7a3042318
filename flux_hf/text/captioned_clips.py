"""Clips with captions, as training and evaluation take them: a caption drawn for each, batches, a cache of clips."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset

from flux_hf.data import CachedClips
from flux_hf.data.clip_cache import decode_once
from flux_hf.processing.grid_fluxvit import Grid
from flux_hf.text.pairs import draw_caption
from flux_hf.training.training_clips import TrainingItem, ViewMaker


@dataclass(frozen=True)
class CachedPairs(CachedClips):
    """Decoded clips and their captions; a clip source whose labels are the captions of each video, and whose
    `label_names` are None."""

    def label(self, index: int) -> list[str]:
        return self.labels[index]


def cache_pairs(pairs: Dataset, directory: str | Path, *, num_frames: int, size: int) -> CachedPairs:
    """As `cache_clips`, for what [`load_pairs`] returns."""
    clips, names = decode_once(pairs, directory, num_frames=num_frames, size=size)
    return CachedPairs(clips, pairs["captions"][:], None, names)


class NumberedClips:
    """A clip source whose labels are the numbers of its videos: evaluation looks their captions up."""

    def __init__(self, source):
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def label(self, index: int) -> int:
        return index

    def name(self, index: int) -> str:
        return self.source.name(index)

    def video(self, index: int) -> dict:
        return self.source.video(index)


class CaptionedViews:
    """Views of a video, all with one of its captions, drawn by key: so each epoch has its own, and a run that goes on
    the same as one without a break. See [`ViewMaker`]."""

    def __init__(self, make_views: ViewMaker):
        self.make_views = make_views

    def __call__(self, read, label: list[str], grid: Grid, key: tuple) -> tuple[list[torch.Tensor], list[str]]:
        views, captions = self.make_views(read, label, grid, key)
        return views, [draw_caption(captions[0], key)] * len(views)


class PairCollator:
    """Stacks [`TrainingItem`]s, first views first: `pixel_values_videos` (batch, frames, channels, size, size), `texts`
    (batch,), `labels` (batch,), numbers that are equal for equal texts on every process, `names` and `unreadable` as of
    `stack_items`, and what the processor makes of the texts.

    Args:
        processor: of the model; None leaves texts as they are.
    """

    def __init__(self, processor=None):
        self.processor = processor

    def __call__(self, items: list[TrainingItem]) -> dict:
        views = range(len(items[0].views))
        texts = [item.labels[view] for view in views for item in items]
        tokens = {} if self.processor is None else dict(self.processor(text=texts, return_tensors="pt"))
        return tokens | {
            "pixel_values_videos": torch.stack([item.views[view] for view in views for item in items]),
            "labels": torch.tensor([text_number(text) for text in texts]),
            "texts": texts,
            "names": [item.name for item in items],
            "unreadable": [entry for item in items for entry in item.unreadable],
        }


def text_number(text: str) -> int:
    """An integer of 63 bits that equal texts share; case and spaces aside."""
    digest = hashlib.sha256(" ".join(text.lower().split()).encode())
    return int.from_bytes(digest.digest()[:8], "big") >> 1
