"""Training clips from a clip source: a random frame of each segment, several views of one decoding, and another video
for one that cannot be read."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from flux_hf.processing.frame_sampling_fluxvit import random_in_part
from flux_hf.processing.grid_fluxvit import Grid
from flux_hf.processing.video_source_fluxvit import VideoDecodeError
from flux_hf.training.arguments import FluxTrainingArguments
from flux_hf.training.augmentation import ClipAugmentation, mix_batch, random_state
from flux_hf.training.label_symmetries import LabelSymmetries
from flux_hf.training.sampling import ClipRequest


@dataclass
class TrainingItem:
    """The views of one video.

    Attributes:
        views: float tensors (frames, channels, size, size).
        labels: class index of each view.
        name: what messages call the video.
        key: numbers that are different for every item of a training run; they seed the mixing of its batch.
        unreadable: [name, reason] of every video that was skipped on the way.
    """

    views: list[torch.Tensor]
    labels: list[int]
    name: str
    key: tuple[int, ...]
    unreadable: list[list[str]]


class ViewMaker:
    """Decodes a video once and makes its random views.

    Args:
        augmentation: of every view.
        views: views of one decoding.
        min_span: smallest share of a video that the frames are drawn from, see [`random_in_part`].
        symmetries: given, views are also turned, mirrored and played backwards, as it says, and labels with them.
    """

    def __init__(
        self,
        augmentation: ClipAugmentation,
        views: int = 1,
        *,
        min_span: float = 1.0,
        symmetries: LabelSymmetries | None = None,
    ):
        self.augmentation, self.views, self.min_span, self.symmetries = augmentation, views, min_span, symmetries

    def __call__(self, read, label: int, grid: Grid, key: tuple) -> tuple[list[torch.Tensor], list[int]]:
        """Views and their labels, a function of the video, `grid` (of squares) and `key`. `read` takes a
        function total -> frame numbers and gives uint8 frames (frames, height, width, 3)."""
        num_frames, size = grid
        with random_state(*key) as generator:
            frames = read(lambda total: random_in_part(total, num_frames, generator, self.min_span))
            views = [self._view(frames, label, generator) for _ in range(self.views)]
            return [self.augmentation(view, size) for view, _ in views], [label for _, label in views]

    def _view(self, frames: np.ndarray, label: int, generator: np.random.Generator) -> tuple[np.ndarray, int]:
        return (frames, label) if self.symmetries is None else self.symmetries.view(frames, label, generator)


class TrainingClips(Dataset):
    """Map-style training data: [`ClipRequest`] -> [`TrainingItem`], a function of the seed and the request alone.

    A video that cannot be read is replaced by another one, drawn from (seed, request), so that batches stay whole.

    Raises:
        RuntimeError: `max_unreadable` videos in a row could not be read; names them.
    """

    def __init__(self, source, make_views: ViewMaker, *, seed: int = 0, max_unreadable: int = 10):
        self.source, self.make_views, self.seed, self.max_unreadable = source, make_views, seed, max_unreadable

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, request: ClipRequest) -> TrainingItem:
        index, unreadable = request.index, []
        repeat = (request.repeat,) if request.repeat else ()
        while len(unreadable) < self.max_unreadable:
            key = (self.seed, request.epoch, request.index, len(unreadable), *repeat)
            try:
                views, labels = self.make_views(
                    lambda choose: self.source.read(index, choose),  # noqa: B023 (called at once)
                    self.source.label(index),
                    request.grid,
                    key,
                )
                return TrainingItem(views, labels, self.source.name(index), key, unreadable)
            except VideoDecodeError as error:
                unreadable.append([self.source.name(index), str(error)])
                index = int(np.random.default_rng(key).integers(len(self.source)))
        raise too_many_unreadable(unreadable)


def too_many_unreadable(unreadable: list[list[str]]) -> RuntimeError:
    """The error that stops training; `unreadable` holds [name, reason] of each video."""
    listed = "\n".join(reason for _, reason in unreadable[-5:])
    return RuntimeError(
        f"{len(unreadable)} videos in a row could not be read (max_unreadable_in_a_row); the last ones:\n{listed}\n"
        "`flux-hf check-videos` lists all bad videos of a data set"
    )


def stack_items(items: list[TrainingItem]) -> dict:
    """A batch, first views first: `pixel_values_videos` (batch, frames, channels, size, size), `labels` (batch,),
    `names` of the videos and `unreadable`, [name, reason] of every video that was skipped."""
    views = range(len(items[0].views))
    return {
        "pixel_values_videos": torch.stack([item.views[view] for view in views for item in items]),
        "labels": torch.tensor([item.labels[view] for view in views for item in items]),
        "names": [item.name for item in items],
        "unreadable": [entry for item in items for entry in item.unreadable],
    }


class TrainingCollator:
    """Stacks [`TrainingItem`]s as [`stack_items`] and mixes the batch; then its `labels` are (batch, num_labels)."""

    def __init__(self, args: FluxTrainingArguments, num_labels: int):
        self.num_labels = num_labels
        self.alphas = (args.mixup_alpha, args.cutmix_alpha)

    def __call__(self, items: list[TrainingItem]) -> dict:
        batch = stack_items(items)
        with random_state("mix", *(item.key for item in items)):
            batch["pixel_values_videos"], batch["labels"] = mix_batch(
                batch["pixel_values_videos"], batch["labels"], self.num_labels, *self.alphas
            )
        return batch
