"""Batches of one grid each, the same on every process and after a restart."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback

from flux_hf.processing.grid_fluxvit import Grid
from flux_hf.training.grids import grid_of_step


class ClipRequest(NamedTuple):
    """One training clip to make: which video, in which epoch, on which grid of squares, and how often it
    came before in that epoch."""

    index: int
    epoch: int
    grid: Grid
    repeat: int = 0


class GridBatchSampler(Sampler[list[ClipRequest]]):
    """Shuffled batches of [`ClipRequest`]. All batches of one optimiser step have one grid: `batches_per_step`
    consecutive ones (processes x accumulated batches; accelerate hands batch k to process k modulo their number).

    The order is a function of (seed, epoch), the grid one of (seed, epoch, step), so neither the number of processes
    nor a restart changes them. Videos that do not fill the last step are left out of that epoch; each epoch of a period
    leaves out others.

    Args:
        num_videos: size of the data set.
        batch_size: videos in a batch of one process.
        grids: what the grids are drawn from, see [`admissible_grids`].
        batches_per_step: processes x gradient accumulation steps.
        seed: of order and grids.
        order: epoch -> the videos of that epoch in order, always as many; default all, shuffled.
        period: epochs after which order, grids and views come again; default never.

    Raises:
        ValueError: the data set does not fill one step.
    """

    # accelerate takes batches as they are only when it finds no batch size here.
    batch_size = None
    drop_last = True

    def __init__(
        self,
        num_videos: int,
        batch_size: int,
        grids: list[Grid],
        *,
        batches_per_step: int = 1,
        seed: int = 0,
        order: Callable[[int], Sequence[int]] | None = None,
        period: int | None = None,
    ):
        self.order, self.period = order or self._shuffled, period
        self.num_videos, self.videos_per_batch, self.grids = num_videos, batch_size, grids
        self.batches_per_step, self.seed, self.epoch = batches_per_step, seed, 0
        if not len(self):
            raise ValueError(
                f"{num_videos} videos do not fill one step of {batches_per_step} batches (processes x accumulation "
                f"steps) of {batch_size}; lower per_device_train_batch_size or gradient_accumulation_steps"
            )

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch % self.period if self.period else epoch

    def __len__(self) -> int:
        return self.num_videos // (self.videos_per_batch * self.batches_per_step) * self.batches_per_step

    def __iter__(self) -> Iterator[list[ClipRequest]]:
        order, came = self.order(self.epoch), Counter()
        for batch in range(len(self)):
            grid = grid_of_step(self.grids, self.seed, self.epoch, batch // self.batches_per_step)
            start = batch * self.videos_per_batch
            requests = []
            for index in order[start : start + self.videos_per_batch]:
                requests.append(ClipRequest(index, self.epoch, grid, came[index]))
                came[index] += 1
            yield requests

    def _shuffled(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(self.seed + epoch)
        return torch.randperm(self.num_videos, generator=generator).tolist()


class EpochOfSampler(TrainerCallback):
    """Tells the sampler the epoch also where accelerate hides it: in a resumed run of several processes."""

    def __init__(self, sampler: GridBatchSampler):
        self.sampler = sampler

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.sampler.set_epoch(int(state.epoch))
