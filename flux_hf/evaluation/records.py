"""A folder of per-video results that an interrupted run goes on from."""

import json
import os
from pathlib import Path

SETTINGS = "settings.json"


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
        self.folder = Path(folder)
        self._file = self.folder / f"videos.{process}.jsonl"
        settings = json.loads(json.dumps(settings))
        described = self.folder / SETTINGS
        if described.exists():
            found = json.loads(described.read_text())
            if found != settings:
                changes = "; ".join(_changes(found, settings))
                raise ValueError(f"{folder} holds results of other options ({changes}); delete it or name another one")
        elif process == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = described.with_suffix(".partial")
            partial.write_text(json.dumps(settings, indent=1) + "\n")
            os.replace(partial, described)

    def load(self) -> list[dict]:
        """All records of all processes. A last line that was cut off in writing is no record."""
        records = []
        for path in sorted(self.folder.glob("videos.*.jsonl")):
            lines = path.read_bytes().split(b"\n")
            records += [json.loads(line) for line in lines[:-1]]
        return records

    def append(self, record: dict):
        """Writes a record; it survives the end of this process from then on."""
        if self._file.exists() and not hasattr(self, "_checked"):
            _cut_unfinished_line(self._file)
        self._checked = True
        with open(self._file, "ab") as file:
            file.write(json.dumps(record).encode() + b"\n")


def _cut_unfinished_line(path: Path):
    content = path.read_bytes()
    os.truncate(path, content.rfind(b"\n") + 1)


def _changes(found: dict, settings: dict, prefix: str = "") -> list[str]:
    """What differs, entries of nested dictionaries by name."""
    changes = []
    for name in sorted({*found, *settings}):
        before, now = found.get(name), settings.get(name)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            changes += _changes(before, now, f"{prefix}{name}.")
        else:
            changes.append(f"{prefix}{name}: {_short(before)} there, {_short(now)} now")
    return changes


def _short(value) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
