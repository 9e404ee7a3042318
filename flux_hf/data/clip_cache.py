"""Decoded clips on disk, so that epochs after the first cost no decoding."""

import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from datasets import Dataset
from tqdm import tqdm

from flux_hf.data.reading import read_clip, row_name
from flux_hf.files import FULL, whole_file
from flux_hf.processes import worker_processes
from flux_hf.processing.frame_sampling_fluxvit import segment_middles
from flux_hf.processing.video_storage_fluxvit import local_path

CHUNK = 32


@dataclass(frozen=True)
class CachedClips:
    """Decoded clips and their labels; a clip source, see [`clip_source`].

    Attributes:
        clips: uint8 memory map (videos, frames, size, size, 3), RGB.
        labels: int64 array (videos,).
        label_names: name of every label.
        video_names: what messages call each video.
    """

    clips: np.ndarray
    labels: np.ndarray
    label_names: list[str]
    video_names: list[str]

    def __len__(self) -> int:
        return len(self.labels)

    def label(self, index: int) -> int:
        return int(self.labels[index])

    def name(self, index: int) -> str:
        return self.video_names[index]

    def read(self, index: int, choose: Callable[[int], np.ndarray]) -> np.ndarray:
        """uint8 frames (frames, size, size, 3), those that `choose` takes of the number there are."""
        return self.clips[index][choose(self.clips.shape[1])]

    def video(self, index: int) -> dict:
        """The cached frames as the whole `video`, see [`VideoRows.video`]."""
        return {"video": self.clips[index], "start": None, "end": None}


def cache_clips(
    dataset: Dataset, directory: str | Path, *, num_frames: int, size: int, num_workers: int | None = None
) -> CachedClips:
    """Decode every video of a data set once: the middle frames of `num_frames` equal segments, short side `size`,
    central square. A cache of the same files and options in `directory` is used as it is.

    Args:
        dataset: as [`load_video_dataset`] returns it.
        directory: where caches are kept; each gets a file name of its own.
        num_frames: frames per clip; shorter videos repeat frames evenly.
        size: side of the square in pixels; smaller videos are enlarged.
        num_workers: decoding processes, default one per core.

    Raises:
        VideoDecodeError: naming the first file that cannot be read.
        ValueError: the cache that is there is damaged; names it.
        OSError: the disk has no room for the cache, which is found before anything is decoded; names both.
    """
    clips, names = decode_once(dataset, directory, num_frames=num_frames, size=size, num_workers=num_workers)
    return CachedClips(clips, np.asarray(dataset["label"][:]), dataset.features["label"].names, names)


def decode_once(
    dataset: Dataset, directory: str | Path, *, num_frames: int, size: int, num_workers: int | None = None
) -> tuple[np.ndarray, list[str]]:
    """What [`CachedClips`] calls `clips` and `video_names`; see [`cache_clips`]. `dataset` needs no labels."""
    rows = [dict(row) for row in dataset.select_columns(_columns(dataset))]
    shape = (len(rows), num_frames, size, size, 3)
    path = Path(directory) / f"clips_{_fingerprint(rows, shape)}.npy"
    if not path.exists():
        _write(path, rows, shape, num_workers)
    return _open(path, shape), [row_name(row, index) for index, row in enumerate(rows)]


def _write(path: Path, rows: list[dict], shape: tuple[int, ...], num_workers: int | None) -> None:
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    decode = partial(_decode_chunk, num_frames=shape[1], size=shape[2])
    # Through the file, not a memory map: where the disk is full, writing to that kills the process.
    with whole_file(path) as unfinished, open(unfinished, "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        _reserve(file, math.prod(shape))
        with worker_processes(num_workers) as pool:
            for decoded in tqdm(pool.map(decode, chunks), total=len(chunks), desc="decoding"):
                file.write(decoded.data)


def _reserve(file, size: int) -> None:
    """Take room for `size` more bytes on the disk, so that hours of decoding do not end where it is full."""
    start = file.tell()
    try:
        if hasattr(os, "posix_fallocate") and size:
            file.flush()
            os.posix_fallocate(file.fileno(), start, size)
    except OSError as error:
        if error.errno not in FULL:
            return  # a file system that cannot; writing will tell
        raise OSError(error.errno, f"{error.strerror}: the decoded clips take {size / 1e6:,.1f} MB") from error


def _open(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        clips = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path} is damaged, delete it: {error}") from error
    if clips.shape != shape or clips.dtype != np.uint8:
        raise ValueError(f"{path} is damaged, delete it: it holds {clips.dtype} of {clips.shape}, not uint8 of {shape}")
    return clips


def _columns(dataset: Dataset) -> list[str]:
    return [name for name in ("video", "start", "end") if name in dataset.column_names]


def _fingerprint(rows: list[dict], shape: tuple[int, ...]) -> str:
    """Changes with the files (path, size, time of change; content where they are embedded; of those that lie elsewhere
    their address), their order, their start and end times and `shape`."""
    digest = hashlib.sha256(json.dumps(shape).encode())
    for row in rows:
        source = row["video"]
        if source["bytes"] is not None:
            digest.update(source["bytes"])
        elif local_path(source["path"]) is None:
            digest.update(source["path"].encode())
        else:
            status = os.stat(local_path(source["path"]))
            digest.update(f"{source['path']} {status.st_size} {status.st_mtime_ns}".encode())
        if "start" in row:
            digest.update(f"{row['start']} {row['end']}".encode())
    return digest.hexdigest()[:16]


def _decode_chunk(rows: list[dict], num_frames: int, size: int) -> np.ndarray:
    return np.stack([_decode(row, num_frames, size) for row in rows])


def _decode(row: dict, num_frames: int, size: int) -> np.ndarray:
    frames = read_clip(row, lambda total: segment_middles(total, num_frames), short_side=size)
    height, width = frames.shape[1:3]
    if min(height, width) < size:
        frames = _enlarge(frames, size)
        height, width = frames.shape[1:3]
    top, left = (height - size) // 2, (width - size) // 2
    return frames[:, top : top + size, left : left + size]


def _enlarge(frames: np.ndarray, size: int) -> np.ndarray:
    import torch
    from torchvision.transforms.v2.functional import resize

    video = torch.from_numpy(frames).permute(0, 3, 1, 2)
    return resize(video, size, antialias=True).permute(0, 2, 3, 1).numpy()
