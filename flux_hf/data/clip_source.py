"""What training and evaluation read clips from: files of a data set, or a cache of decoded clips."""

from collections.abc import Callable

import numpy as np
from datasets import Dataset

from flux_hf.data.clip_cache import CachedClips
from flux_hf.data.reading import read_clip, row_name


class VideoRows:
    """The rows of a data set as [`load_video_dataset`] returns it, decoded when they are read.

    Args:
        dataset: with the columns `video`, `label` and optionally `start` and `end`.
        short_side: larger frames are scaled down to this short side in pixels; None keeps their size.
        snap_to_keyframes: as of [`read_clip`].
    """

    def __init__(self, dataset: Dataset, short_side: int | None = None, snap_to_keyframes: bool = False):
        self.dataset, self.short_side, self.snap_to_keyframes = dataset, short_side, snap_to_keyframes
        self.label_names = dataset.features["label"].names
        self._last = (None, None)

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def labels(self) -> list[int]:
        """Those of all videos, which stay unread."""
        return self.dataset["label"][:]

    def label(self, index: int) -> int:
        return self._row(index)["label"]

    def name(self, index: int) -> str:
        return row_name(self._row(index), index)

    def read(self, index: int, choose: Callable[[int], np.ndarray]) -> np.ndarray:
        """uint8 frames (frames, height, width, 3), those that `choose` takes of the number there are.

        Raises:
            VideoDecodeError: the video cannot be read.
        """
        return read_clip(self._row(index), choose, short_side=self.short_side, snap_to_keyframes=self.snap_to_keyframes)

    def video(self, index: int) -> dict:
        """`video`, whatever a video processor takes, and `start` and `end` in seconds or None."""
        row = self._row(index)
        return {"video": row["video"], "start": row.get("start"), "end": row.get("end")}

    def _row(self, index: int) -> dict:
        if self._last[0] != index:
            self._last = (index, self.dataset[index])
        return self._last[1]


def clip_source(
    dataset, short_side: int | None = None, snap_to_keyframes: bool = False
) -> VideoRows | CachedClips | None:
    """Something with `label_names`, `labels`, `len()`, `label(index)`, `name(index)`, `read(index, choose)` and
    `video(index)`, for a data set of videos or a cache of clips; None for anything else."""
    if isinstance(dataset, CachedClips):
        return dataset
    if isinstance(dataset, Dataset) and {"video", "label"} <= set(dataset.column_names):
        return VideoRows(dataset, short_side, snap_to_keyframes)
    return None
