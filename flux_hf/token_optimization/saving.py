"""Processors with new grids, in the folders of their checkpoints."""

import json
from pathlib import Path

from flux_hf.files import read_json, whole_folder, write_text


def save_processor(processor, folder: str | Path) -> None:
    """Save a processor into a folder, new or a checkpoint's. No code is put beside a checkpoint that holds none."""
    with whole_folder(folder) as partial:
        write_processor(processor, partial, with_code=goes_with_code(folder))


def goes_with_code(folder: str | Path) -> bool:
    """Whether what is saved into a folder brings its code: a checkpoint that holds none stays without."""
    folder = Path(folder)
    return not (folder / "config.json").exists() or any(folder.glob("*.py"))


def write_processor(processor, folder: str | Path, with_code: bool) -> None:
    """Save a processor of videos, or of videos and text, with copies of its code and `auto_map`, or without."""
    processor.save_pretrained(folder)
    if with_code:
        return
    for path in Path(folder).glob("*.py"):
        path.unlink()
    for path in Path(folder).glob("*.json"):
        settings = read_json(path)
        parts = [part for part in (settings, *settings.values()) if isinstance(part, dict) and "auto_map" in part]
        for part in parts:
            del part["auto_map"]
        if parts:
            write_text(path, json.dumps(settings, indent=2, sort_keys=True) + "\n")
