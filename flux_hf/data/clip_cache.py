"""Decoded clips on disk, so that epochs after the first cost no decoding."""

import hashlib
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from datasets import Dataset
from tqdm import tqdm

from flux_hf.processing.frame_sampling_fluxvit import segment_middles
from flux_hf.processing.video_decoding_fluxvit import read_video

CHUNK = 32


@dataclass(frozen=True)
class CachedClips:
    """Decoded clips and their labels.

    Attributes:
        clips: uint8 memory map (videos, frames, size, size, 3), RGB.
        labels: int64 array (videos,).
        label_names: name of every label.
    """

    clips: np.ndarray
    labels: np.ndarray
    label_names: list[str]


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
    """
    sources = dataset["video"][:]
    shape = (len(sources), num_frames, size, size, 3)
    path = Path(directory) / f"clips_{_fingerprint(sources, shape)}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.npy")
        clips = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=shape)
        chunks = [sources[start : start + CHUNK] for start in range(0, len(sources), CHUNK)]
        decode = partial(_decode_chunk, num_frames=num_frames, size=size)
        try:
            with ProcessPoolExecutor(num_workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
                for index, decoded in enumerate(tqdm(pool.map(decode, chunks), total=len(chunks), desc="decoding")):
                    clips[index * CHUNK : index * CHUNK + len(decoded)] = decoded
            clips.flush()
            unfinished.rename(path)
        finally:
            unfinished.unlink(missing_ok=True)
    labels = dataset.features["label"]
    return CachedClips(np.load(path, mmap_mode="r"), np.asarray(dataset["label"][:]), labels.names)


def _fingerprint(sources: list[dict], shape: tuple[int, ...]) -> str:
    """Changes with the files (path, size, time of change; content where they are embedded), their order and `shape`."""
    digest = hashlib.sha256(json.dumps(shape).encode())
    for source in sources:
        if source["bytes"] is not None:
            digest.update(source["bytes"])
        else:
            status = os.stat(source["path"])
            digest.update(f"{source['path']} {status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def _decode_chunk(sources: list[dict], num_frames: int, size: int) -> np.ndarray:
    return np.stack([_decode(source, num_frames, size) for source in sources])


def _decode(source: dict, num_frames: int, size: int) -> np.ndarray:
    frames, _ = read_video(
        source, lambda metadata: segment_middles(metadata.total_num_frames, num_frames), short_side=size, threads=1
    )
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
