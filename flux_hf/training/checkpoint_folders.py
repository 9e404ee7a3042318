"""Checkpoints that a run goes on from: whole or not there while they are written, checked before they are read."""

import os
import re
import shutil
import zipfile
import zlib
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from flux_hf.files import read_json, write_json

LIST_OF_FILES = "checkpoint_files.json"
"""Size and CRC-32 of every other file of the checkpoint. Those of the plain Trainer have no such list."""

PARTIAL = ".checkpoints.partial"
"""Folder beside the checkpoints: what is in it is being written or being deleted, and rubbish when no run goes on."""

DEEPSPEED = "global_step*"
PARTS = {
    "where training was": (TRAINER_STATE_NAME,),
    "the weights": ("model.safetensors", "model*.safetensors*", "pytorch_model*", "*adapter_model.*", DEEPSPEED),
    "the optimizer": ("optimizer.pt", "optimizer.bin", "optimizer_*", "rank*-optimizer.pt", DEEPSPEED),
    "the learning rate schedule": ("scheduler.pt", DEEPSPEED),
    "the random numbers": ("rng_state.pth", "rng_state_0.pth"),
}
"""What `Trainer` writes, each in one of these forms: one process or several, adapters, FSDP, DeepSpeed, TPUs."""


def check_checkpoint(folder: str | Path) -> None:
    """Raises ValueError naming a file of the checkpoint that is missing or damaged, and what was in it."""
    folder = Path(folder)
    for part, names in PARTS.items():
        if not any(any(folder.rglob(name)) for name in names):
            raise ValueError(f"{folder / names[0]} is missing, and {part} with it")
    if (folder / LIST_OF_FILES).exists():
        _check_listed(folder)
    else:
        _check_unlisted(folder)


def last_checkpoint(output_dir: str | Path) -> tuple[Path | None, list[str]]:
    """The checkpoint of the most steps that is whole (None: there is none), and what is wrong with those of more."""
    complaints = []
    for folder in reversed(numbered_checkpoints(output_dir)):
        try:
            check_checkpoint(folder)
        except ValueError as error:
            complaints.append(str(error))
        else:
            return folder, complaints
    return None, complaints


def numbered_checkpoints(output_dir: str | Path) -> list[Path]:
    """The folders `checkpoint-STEP`, whole or not, in the order of their steps."""
    pattern = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")
    found = [(pattern.fullmatch(path.name), path) for path in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")]
    found = [(int(match[1]), path) for match, path in found if match and path.is_dir()]
    return [path for _, path in sorted(found)]


def publish_checkpoint(partial: Path, folder: Path) -> None:
    """Give a checkpoint that was written to `partial`, a folder in PARTIAL, its list of files and its name; the disk
    has all of it before. One that is there is replaced."""
    files = {path.relative_to(partial).as_posix(): _size_and_sum(path) for path in _files(partial)}
    write_json(partial / LIST_OF_FILES, files)
    for path in (partial / LIST_OF_FILES, partial):
        _to_disk(path)
    if folder.exists():
        os.rename(folder, partial.with_name(f"{folder.name}.replaced"))
    os.rename(partial, folder)
    _to_disk(folder.parent)
    remove_partial(folder.parent)


def delete_checkpoints(output_dir: Path, limit: int | None, keep: set[Path]) -> None:
    """Delete the oldest ones until `limit` are left (None or 0: none is deleted), never those to keep. What is deleted
    loses its name first, so that no half of it is taken for a checkpoint."""
    there = numbered_checkpoints(output_dir)
    surplus = len(there) - max(limit, len(keep)) if limit else 0
    for folder in [folder for folder in there if folder not in keep][: max(surplus, 0)]:
        (output_dir / PARTIAL).mkdir(exist_ok=True)
        os.rename(folder, output_dir / PARTIAL / folder.name)
    remove_partial(output_dir)


def remove_partial(output_dir: str | Path) -> None:
    """Delete what a run that was stopped left half written or half deleted."""
    shutil.rmtree(Path(output_dir) / PARTIAL, ignore_errors=True)


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != LIST_OF_FILES]


def _check_listed(folder: Path) -> None:
    listed = read_json(folder / LIST_OF_FILES)
    if not isinstance(listed, dict) or not all(
        isinstance(entry, list) and len(entry) == 2 for entry in listed.values()
    ):
        raise ValueError(f"{folder / LIST_OF_FILES} is damaged")
    for name, (size, checksum) in listed.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing")
        if path.stat().st_size != size:
            raise ValueError(f"{path} is damaged: it has {path.stat().st_size:,} bytes of {size:,}")
        if _checksum(path) != checksum:
            raise ValueError(f"{path} is damaged: its bytes are not those that were saved")


def _check_unlisted(folder: Path) -> None:
    for path in _files(folder):
        if path.suffix == ".json":
            read_json(path)
        elif path.suffix in (".pt", ".pth", ".bin", ".distcp"):
            _check_zip(path)
        elif path.suffix == ".safetensors":
            try:
                with safe_open(path, "pt"):
                    pass
            except (SafetensorError, OSError) as error:
                raise ValueError(f"{path} is damaged: {error}") from error
    for index in folder.glob("*.index.json"):
        content = read_json(index)
        if not isinstance(content, dict) or not isinstance(content.get("weight_map"), dict):
            raise ValueError(f"{index} is damaged: it has no weight_map")
        for name in set(content["weight_map"].values()):
            if not (folder / name).is_file():
                raise ValueError(f"{folder / name} is missing, which {index.name} names")
    ranks = len(list(folder.glob("rng_state_*.pth")))
    for rank in range(ranks):
        if not (folder / f"rng_state_{rank}.pth").is_file():
            raise ValueError(f"{folder / f'rng_state_{rank}.pth'} is missing, and the random numbers of a process")


def _check_zip(path: Path) -> None:
    """`torch.save` writes a zip archive, which has a checksum of every entry."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if damaged is not None:
        raise ValueError(f"{path} is damaged: {damaged} in it is not what was saved")


def _size_and_sum(path: Path) -> list[int]:
    _to_disk(path)
    return [path.stat().st_size, _checksum(path)]


def _checksum(path: Path) -> int:
    checksum = 0
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def _to_disk(path: Path) -> None:
    """What was written to a file, or renamed in a folder, survives a power cut from here on."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
