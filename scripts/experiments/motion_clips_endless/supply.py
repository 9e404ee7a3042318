"""Batches of composed clips, as a trainer takes them."""

import random
from collections import deque
from dataclasses import dataclass

import torch
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import normalize, resize

from flux_hf.scripts.experiments.motion_clips_endless.clips import compose
from flux_hf.scripts.experiments.motion_clips_endless.dice import Dice
from flux_hf.scripts.experiments.motion_clips_endless.layers import Banks
from flux_hf.training.label_symmetries import LabelSymmetries

KEPT = 32
"""Batches that are kept for a second look."""


class Numbers(Dataset):
    """The numbers from 0 to `count` - 1, which stand for clips: the first one of a batch is the seed of its clips."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> int:
        return place


@dataclass
class ClipSupply:
    """Makes of the numbers of a batch its clips and labels.

    Attributes:
        dice: on the device that composes.
        symmetries: of the labels, which give a batch that is seen again another look.
        frames: of a clip.
        sides: in pixels that a batch may have, each as often.
        source_sides: sides of the clips before they are scaled to that of the batch.
        often: labels that come twice as often as the others.
        looks: how often a batch is seen, on average.
        mean, std: of colours, for normalising.
        seed: with the numbers, what a batch depends on, and on the batches before it where `looks` is above 1.
    """

    banks: Banks
    dice: Dice
    symmetries: LabelSymmetries
    frames: int
    sides: list[int]
    source_sides: list[int]
    often: list[str]
    looks: float
    mean: list[float]
    std: list[float]
    seed: int

    def __post_init__(self):
        self.kept = deque(maxlen=KEPT)

    @torch.no_grad()
    def __call__(self, numbers: list[int]) -> dict[str, torch.Tensor]:
        self.dice.seed(numbers[0] + self.seed * 2**32)
        choice = random.Random(numbers[0] + self.seed * 2**32)
        if not self.kept or choice.random() < 1 / self.looks:
            side = choice.choice(self.source_sides)
            clips, labels = compose(
                len(numbers), self.banks, self.dice, frames=self.frames, side=side, often=self.often
            )
            if self.looks > 1:
                self.kept.append(((clips * 255).round().byte(), labels))
        else:
            clips, labels = choice.choice(self.kept)
            clips, labels = self._turned(clips, labels, choice)
            clips = clips / 255
        side = choice.choice(self.sides)
        clips = resize(clips, [side, side], antialias=True)
        return {"pixel_values_videos": normalize(clips, self.mean, self.std), "labels": labels}

    def _turned(self, clips, labels, choice):
        """The same turn, mirroring and direction of time for all clips of a batch."""
        changes = {
            "quarter_turn": (4, lambda clips: torch.rot90(clips, dims=(3, 4))),
            "mirror": (2, lambda clips: clips.flip(4)),
            "backwards": (2, lambda clips: clips.flip(1)),
        }
        for name, images in self.symmetries.images.items():
            period, change = changes[name]
            becomes = torch.tensor(images, device=labels.device)
            for _ in range(choice.randrange(period)):
                clips, labels = change(clips), becomes[labels]
        return clips, labels
