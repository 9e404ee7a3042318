"""Where a result comes from: the command, the day, the machine, the versions and the files."""

import hashlib
import json
import os
import platform
import shlex
import sys
import time
from importlib import metadata
from pathlib import Path

import torch
from datasets import Dataset

from flux_hf.processing.video_source_fluxvit import source_name
from flux_hf.processing.video_storage_fluxvit import is_address

PACKAGES = ("flux_hf", "torch", "torchvision", "transformers", "accelerate", "datasets", "av", "numpy")


def provenance(command: str, argv: list[str] | None, *packages: str) -> dict:
    """`command` (the line to type: the given `command` and `argv`, default the arguments of this process), `date`,
    `machine` (architecture, cpu, cores, threads, accelerator) and `versions`, also of further `packages`."""
    versions = {"python": platform.python_version()}
    for package in (*PACKAGES, *packages):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "command": shlex.join([*command.split(), *(sys.argv[1:] if argv is None else argv)]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": {
            "architecture": platform.machine(),
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "versions": versions,
    }


def result_origin(result: dict) -> str:
    """What [`provenance`] put into a result, as a line for people."""
    machine = ", ".join(f"{name} {value}" for name, value in result["machine"].items() if value is not None)
    versions = ", ".join(f"{name} {value}" for name, value in result["versions"].items() if value is not None)
    return f"`{result['command']}`, {result['date']}; {machine}; {versions}."


def cpu_model() -> str:
    """Name of the processor as the system gives it, its architecture where it gives none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def video_names(dataset: Dataset) -> list[str]:
    """A name for every video of a data set: its path below the folder that all have in common, "row N" where the data
    set holds no path."""
    videos = dataset.select_columns(["video"])["video"]
    paths = [video["path"] and source_name(video["path"]) for video in videos]
    known = [path for path in paths if path]
    alike = len({is_address(path) for path in known}) == 1
    root = os.path.commonpath([os.path.dirname(path) for path in known]) if alike else ""
    return [os.path.relpath(path, root) if path and root else path or f"row {row}" for row, path in enumerate(paths)]


def file_list_hash(dataset: Dataset) -> str:
    """sha256 over name (see `video_names`), size in bytes (None for a missing file), label or captions (None for a set
    without) and, where there are any, start and end time of every video, in order. The same for a copy of the data set
    in another folder."""
    digest = hashlib.sha256()
    times = [name for name in ("start", "end") if name in dataset.column_names]
    said = next((name for name in ("label", "captions") if name in dataset.column_names), None)
    rows = dataset.select_columns(["video", *([said] if said else []), *times])
    for name, row in zip(video_names(dataset), rows, strict=True):
        entry = [name, _size(row["video"]), row[said] if said else None]
        cut = [row.get("start"), row.get("end")]
        digest.update((json.dumps(entry if cut == [None, None] else [*entry, *cut]) + "\n").encode())
    return digest.hexdigest()


def model_hash(model: torch.nn.Module) -> str:
    """sha256 over name, type and values of every parameter and buffer that is saved."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _size(video: dict) -> int | None:
    if video.get("bytes") is not None:
        return len(video["bytes"])
    path = video.get("path")
    return os.path.getsize(path) if path and os.path.exists(path) else None
