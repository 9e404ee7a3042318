"""A folder of per-video results that an interrupted run goes on from."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from flux_hf.files import claim_folder

CONTENTS = {"arms", "answers", "reason"}
"""What a record says beside which row it is of, at least one of them."""


class RecordFolder:
    """Append-only JSON lines, one file per process, beside the settings they were made with.

    Args:
        folder: made when it is not there.
        settings: what the records depend on, as JSON.
        process: number of this process; the first one writes the settings.

    Raises:
        ValueError: the folder holds results of other settings; the message names those that differ.
    """

    def __init__(self, folder: str | Path, settings: dict, process: int = 0):
        self.folder = claim_folder(folder, settings, write=process == 0)
        self._file = self.folder / f"videos.{process}.jsonl"

    def load(self) -> list[dict]:
        """All records of all processes, see [`load_records`]. A last line that was cut off in writing is no record."""
        return load_records(self.folder)

    def append(self, record: dict):
        """Writes a record; it survives the end of this process from then on."""
        if self._file.exists() and not hasattr(self, "_checked"):
            _cut_unfinished_line(self._file)
        self._checked = True
        with open(self._file, "ab") as file:
            file.write(json.dumps(record).encode() + b"\n")


def load_records(folder: Path) -> list[dict]:
    """All records in a folder of [`RecordFolder`].

    Raises:
        ValueError: a line is no record; names file and line.
    """
    return [record for _, _, record in placed_records(folder)]


def placed_records(folder: Path) -> Iterator[tuple[Path, int, dict]]:
    """(file, offset of its line in bytes, record) of every record, file by file; one after the other, for there may be
    more of them than memory holds. Raises as [`load_records`]."""
    for path in sorted(folder.glob("videos.*.jsonl")):
        offset = 0
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    record = json.loads(line)
                except ValueError:
                    record = None
                if not isinstance(record, dict) or "row" not in record or not record.keys() & CONTENTS:
                    raise ValueError(f"{path}, line {number} is damaged; delete the line, and its video is read again")
                yield path, offset, record
                offset += len(line)


def _cut_unfinished_line(path: Path):
    content = path.read_bytes()
    os.truncate(path, content.rfind(b"\n") + 1)
