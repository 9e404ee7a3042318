"""Cached clips as model inputs: frame sampling, crop, symmetries, colours, normalisation, and one budget per batch."""

import random

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision.transforms import v2

from flux_hf.data import CachedClips
from flux_hf.motion_clips.symmetries import symmetric_view
from flux_hf.processing.frame_sampling_fluxvit import random_in_segments, segment_middles


class ClipDataset(Dataset):
    """Items of the model's input from cached clips.

    Args:
        cached: decoded clips, at least `num_frames` frames of at least `size` pixels.
        num_frames, size: the sampling grid; size in pixels.
        image_mean, image_std: normalisation of the processor, per channel for values in 0..1.
        augment: training views: a random frame of each segment, a random crop and random colours. Off: the middle frame
            of each segment and the central crop.
        motion_symmetries: with `augment`, also turn, mirror and play clips backwards and change their labels with them.
            Only for the labels of the motion clips.
    """

    def __init__(
        self,
        cached: CachedClips,
        *,
        num_frames: int,
        size: int,
        image_mean: list[float],
        image_std: list[float],
        augment: bool = False,
        motion_symmetries: bool = False,
    ):
        frames, side = cached.clips.shape[1:3]
        if num_frames > frames or size > side:
            raise ValueError(
                f"the cache holds {frames} frames of {side} pixels, too few for {num_frames} frames of {size} pixels"
            )
        self.cached, self.num_frames, self.size = cached, num_frames, size
        self.augment, self.motion_symmetries = augment, motion_symmetries
        self.normalize = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(image_mean, image_std)])
        self.colours = v2.Compose(
            [
                v2.RandomChannelPermutation(),
                v2.RandomInvert(0.5),
                v2.ColorJitter(brightness=0.3, contrast=0.3),
            ]
        )

    def __len__(self) -> int:
        return len(self.cached.labels)

    def __getitem__(self, index: int) -> dict:
        clip, label = self.cached.clips[index], int(self.cached.labels[index])
        if not self.augment:
            clip = clip[segment_middles(len(clip), self.num_frames)]
            margin = (clip.shape[1] - self.size) // 2
            clip = clip[:, margin : margin + self.size, margin : margin + self.size]
            return {"pixel_values_videos": self.normalize(_channels_first(clip)), "labels": label, "index": int(index)}

        draw = np.random.default_rng(torch.randint(2**31, ()).item())
        clip = clip[random_in_segments(len(clip), self.num_frames, draw)]
        top, left = draw.integers(0, clip.shape[1] - self.size, 2, endpoint=True)
        clip = clip[:, top : top + self.size, left : left + self.size]
        if self.motion_symmetries:
            names = self.cached.label_names
            clip, name = symmetric_view(
                clip,
                names[label],
                quarter_turns=int(draw.integers(4)),
                mirror=draw.random() < 0.5,
                backwards=draw.random() < 0.5,
            )
            label = names.index(name)
        video = self.colours(_channels_first(clip))
        return {"pixel_values_videos": self.normalize(video), "labels": label, "index": int(index)}


def _channels_first(clip: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(clip)).permute(0, 3, 1, 2)


class BudgetCollator:
    """Stacks items into a batch and gives it one of `token_budgets`, a pure function of the items in it."""

    def __init__(self, token_budgets: list[int]):
        self.token_budgets = token_budgets

    def __call__(self, items: list[dict]) -> dict:
        indices = [item["index"] for item in items]
        return {
            "pixel_values_videos": torch.stack([item["pixel_values_videos"] for item in items]),
            "labels": torch.tensor([item["labels"] for item in items]),
            "token_budget": random.Random(str(indices)).choice(self.token_budgets),
        }
