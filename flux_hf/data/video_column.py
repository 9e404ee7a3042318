"""The column `video`: plain structs of bytes and path in the place of `datasets.Video`.

`datasets` imports torchcodec for every row of a Video column that it writes, decoded or not, and a torchcodec that is
installed may be broken.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from datasets import Dataset, Features, IterableDataset, Value, Video, config

VIDEO = {"bytes": Value("binary"), "path": Value("string")}


class _UndecodedVideo(Video):
    def encode_example(self, value):
        with without_torchcodec():
            return super().encode_example(value)


@contextmanager
def without_torchcodec() -> Iterator[None]:
    """`datasets` writes Video columns as if there were no torchcodec."""
    found, config.TORCHCODEC_AVAILABLE = config.TORCHCODEC_AVAILABLE, False
    try:
        yield
    finally:
        config.TORCHCODEC_AVAILABLE = found


def video_at(path: str) -> dict:
    """A row of the column for a file."""
    return {"bytes": None, "path": path}


def as_structs(dataset: Dataset | IterableDataset, column: str) -> Dataset | IterableDataset:
    """`dataset` with the same rows; its column of videos or paths, `column`, is one of structs, VIDEO."""
    features = Features(dict(dataset.features) | {column: VIDEO})
    dataset = dataset.cast_column(column, _UndecodedVideo(decode=False))
    if isinstance(dataset, IterableDataset):
        return dataset.map(features=features)
    info = dataset.info.copy()
    info.features = features
    # The table stays as it is, but for the note on it that says Video: a cast would write all videos anew.
    return Dataset(dataset.data.replace_schema_metadata(None), info=info, split=dataset.split)
