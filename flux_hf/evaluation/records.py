"""A folder of per-video results that an interrupted run goes on from."""

import json
import os
from pathlib import Path

from flux_hf.files import claim_folder


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
    records = []
    for path in sorted(folder.glob("videos.*.jsonl")):
        for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if not isinstance(record, dict) or "row" not in record or not record.keys() & {"arms", "reason"}:
                raise ValueError(f"{path}, line {number} is damaged; delete the line, and its video is read again")
            records.append(record)
    return records


def _cut_unfinished_line(path: Path):
    content = path.read_bytes()
    os.truncate(path, content.rfind(b"\n") + 1)
