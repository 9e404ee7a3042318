"""Training batches from a streamed data set: the counterpart of the grid sampler for data without random access."""

from collections.abc import Iterator
from itertools import count, cycle, islice

from datasets import IterableDataset
from datasets.distributed import split_dataset_by_node
from torch.utils.data import IterableDataset as TorchIterableDataset
from torch.utils.data import get_worker_info

from flux_hf.data.damaged_files import naming_damaged_file
from flux_hf.data.reading import read_clip
from flux_hf.processing.grid_fluxvit import Grid
from flux_hf.processing.video_source_fluxvit import VideoDecodeError, source_name
from flux_hf.training.grids import grid_of_step
from flux_hf.training.training_clips import TrainingItem, ViewMaker, too_many_unreadable


class StreamedBatches(TorchIterableDataset):
    """Endless whole batches, lists of [`TrainingItem`], of one process; give it to a DataLoader with batch_size None.

    Every loading worker of every process reads its own part of the stream: shards of its own where there are enough,
    else every n-th row. A part starts anew, shuffled differently, when it ends. Batch k of a process has the grid of
    optimiser step k // accumulation, the same in every process. Which rows a batch holds depends on the number of
    processes and workers, but on nothing else besides the seed: a restart with the same numbers goes on exactly.

    If a video cannot be read, its batch repeats one that can, in another view. (A batch without any that can takes
    further rows; only then does a restart go on later, by as many rows.)

    Args:
        dataset: streamed, with the columns `video`, `label` and optionally `start` and `end`.
        make_views: as in `TrainingClips`.
        batch_size: videos in a batch of one process.
        grids: what the grids are drawn from.
        accumulation: batches of a process in one optimiser step.
        rank, world_size: this process, of how many.
        short_side, snap_to_keyframes: as of [`read_clip`].
        start: number of batches to leave out at the beginning; their videos are read past, not decoded.

    Raises:
        RuntimeError: `max_unreadable` videos in a row could not be read; names them.
        ValueError: a part of the stream holds no row at all, or a file of it is damaged; names the file.
    """

    def __init__(
        self,
        dataset: IterableDataset,
        make_views: ViewMaker,
        *,
        batch_size: int,
        grids: list[Grid],
        accumulation: int = 1,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        shuffle_buffer: int = 1000,
        short_side: int | None = None,
        snap_to_keyframes: bool = False,
        max_unreadable: int = 10,
        start: int = 0,
    ):
        self.dataset = dataset.shuffle(seed=seed, buffer_size=shuffle_buffer)
        self.make_views, self.batch_size, self.grids, self.accumulation = make_views, batch_size, grids, accumulation
        self.rank, self.world_size, self.seed = rank, world_size, seed
        self.reading = {"short_side": short_side, "snap_to_keyframes": snap_to_keyframes}
        self.max_unreadable, self.start = max_unreadable, start

    def __iter__(self) -> Iterator[list[TrainingItem]]:
        worker = get_worker_info()
        identity, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        # A DataLoader takes batches from its workers in turn, so these are the numbers of this worker's batches.
        first = self.start + identity
        part, parts = self.rank * workers + first % workers, self.world_size * workers
        rows = self._rows(part, parts)
        for _ in islice(rows, first // workers * self.batch_size):
            pass
        unreadable = []
        for batch in count(first, workers):
            yield self._items(rows, batch, part, unreadable)

    def _rows(self, part: int, parts: int) -> Iterator[dict]:
        rows = split_dataset_by_node(self.dataset, part, parts)
        for epoch in count():
            rows.set_epoch(epoch)
            row = None
            # iter() reads all rows of the part; plain iteration would divide them among the workers once more.
            with naming_damaged_file("the streamed data set", self.dataset):
                for columns in rows.iter(batch_size=1):
                    row = {name: values[0] for name, values in columns.items()}
                    yield row
            if row is None:
                raise ValueError(
                    f"part {part} of {parts} of the streamed data set (processes x loading workers) is empty; use "
                    "fewer processes or a lower dataloader_num_workers"
                )

    def _items(self, rows: Iterator[dict], batch: int, part: int, unreadable: list) -> list[TrainingItem]:
        grid = grid_of_step(self.grids, self.seed, 0, batch // self.accumulation)
        keys = ((self.seed, part, batch, place) for place in count())
        items, readable, new = [], [], []
        while not items:
            for row, key in zip(islice(rows, self.batch_size), keys, strict=False):
                try:
                    items.append(self._item(row, grid, key))
                    readable.append(row)
                    unreadable.clear()
                except VideoDecodeError as error:
                    new.append([_name(row, key), str(error)])
                    unreadable.append(new[-1])
                    if len(unreadable) >= self.max_unreadable:
                        raise too_many_unreadable(unreadable) from error
        for row in islice(cycle(readable), self.batch_size - len(items)):
            items.append(self._item(row, grid, next(keys)))
        items[0].unreadable.extend(new)
        return items

    def _item(self, row: dict, grid: Grid, key: tuple[int, ...]) -> TrainingItem:
        views, labels = self.make_views(lambda choose: read_clip(row, choose, **self.reading), row["label"], grid, key)
        return TrainingItem(views, labels, _name(row, key), key, [])


def _name(row: dict, key: tuple[int, ...]) -> str:
    _, part, batch, place = key
    path = row["video"].get("path")
    return source_name(path) if path else f"row {place} of batch {batch} of part {part}"
