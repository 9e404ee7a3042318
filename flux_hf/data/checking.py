"""Which videos of a data set cannot be read, and which have damaged frames."""

import csv
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
from datasets import Dataset
from tqdm import tqdm

from flux_hf.data.reading import decode_clip, row_name
from flux_hf.files import whole_file
from flux_hf.processes import worker_processes
from flux_hf.processing.frame_sampling_fluxvit import segment_middles
from flux_hf.processing.video_source_fluxvit import VideoDecodeError

ROWS_PER_TASK = 8


@dataclass(frozen=True)
class BadVideo:
    """A video that cannot be read, or only with other frames than those wanted: the number of its row, its name, why,
    and how many damaged frames others stand in for (0: it cannot be read)."""

    row: int
    video: str
    reason: str
    replaced_frames: int = 0


def check_videos(dataset: Dataset, *, num_frames: int | None = 16, num_workers: int | None = None) -> list[BadVideo]:
    """Decode every video of a data set and list those where that fails or frames are damaged, in the order of their
    rows.

    Args:
        dataset: as `load_video_dataset` returns it.
        num_frames: frames to decode of each, evenly spread, as training and evaluation do; None for all.
        num_workers: decoding processes, default one per core.
    """
    bad = []
    tasks = [range(start, min(start + ROWS_PER_TASK, len(dataset))) for start in range(0, len(dataset), ROWS_PER_TASK)]
    with (
        worker_processes(num_workers) as pool,
        tqdm(total=len(dataset), desc="checking", unit="video") as progress,
    ):
        for rows, found in zip(tasks, pool.map(partial(_check_rows, dataset, num_frames), tasks), strict=True):
            bad += found
            progress.update(len(rows))
            progress.set_postfix(bad=len(bad))
    return bad


def write_bad_videos(bad: list[BadVideo], path: str | Path) -> None:
    """A csv file with a header and a line for each."""
    with whole_file(path) as unfinished, open(unfinished, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(BadVideo)])
        writer.writeheader()
        writer.writerows(asdict(video) for video in bad)


def _check_rows(dataset: Dataset, num_frames: int | None, rows: range) -> list[BadVideo]:
    bad = []
    for index in rows:
        row = dataset[index]
        try:
            _, metadata = decode_clip(
                row, lambda total: np.arange(total) if num_frames is None else segment_middles(total, num_frames)
            )
        except VideoDecodeError as error:
            bad.append(BadVideo(index, row_name(row, index), error.reason or str(error)))
        else:
            if count := metadata.replaced_frames:
                reason = f"{count} of {num_frames} frames are damaged, the nearest intact ones would be taken"
                bad.append(BadVideo(index, row_name(row, index), reason, count))
    return bad
