"""Evaluation clips from a clip source: every video once, on the grid of every budget, never swapped for another."""

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from flux_hf.evaluation.metrics import UNREADABLE
from flux_hf.processing.frame_sampling_fluxvit import segment_middles
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.processing.video_source_fluxvit import VideoDecodeError


class EvaluationClips(Dataset):
    """index -> the central clip of a video on each of several grids, decoded once.

    Frames and pixels are those of `FluxVideoProcessor` with `decoding="exact"`: middles of segments, short side
    resized, central square, normalised. A video that cannot be read gives zeros, the label -100 and the reason.

    Args:
        source: a clip source.
        processor: its normalisation is used.
        grids: (frames, size in pixels) of each.
    """

    def __init__(self, source, processor: FluxVideoProcessor, grids: list[tuple[int, int]]):
        self.source, self.grids = source, grids
        self.mean, self.std = list(processor.image_mean), list(processor.image_std)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict:
        chosen = []

        def choose(total: int) -> np.ndarray:
            chosen.extend(segment_middles(total, frames) for frames, _ in self.grids)
            return np.unique(np.concatenate(chosen))

        try:
            decoded = self.source.read(index, choose)
        except VideoDecodeError as error:
            clips = [torch.zeros(frames, 3, size, size) for frames, size in self.grids]
            return {"clips": clips, "label": UNREADABLE, "unreadable": [[self.source.name(index), str(error)]]}
        numbers = np.unique(np.concatenate(chosen))
        clips = [
            self._pixels(decoded[np.searchsorted(numbers, indices)], size)
            for indices, (_, size) in zip(chosen, self.grids, strict=True)
        ]
        return {"clips": clips, "label": self.source.label(index), "unreadable": []}

    def _pixels(self, frames: np.ndarray, size: int) -> torch.Tensor:
        video = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
        video = F.center_crop(F.resize(video, [size], antialias=True), [size, size])
        return F.normalize(F.to_dtype(video, torch.float32, scale=True), self.mean, self.std)


def collate_evaluation(items: list[dict]) -> dict:
    """`pixel_values_videos`: one tensor (batch, frames, channels, size, size) per grid; `labels` (batch,);
    `unreadable`: [name, reason] of every video that could not be read."""
    return {
        "pixel_values_videos": [torch.stack(clips) for clips in zip(*(item["clips"] for item in items), strict=True)],
        "labels": torch.tensor([item["label"] for item in items]),
        "unreadable": [entry for item in items for entry in item["unreadable"]],
    }
