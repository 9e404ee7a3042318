"""Answers as they come: whole in a folder of records at once, and in a table that is written anew again and again."""

import base64
import csv
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from flux_hf.evaluation.records import RecordFolder, placed_records
from flux_hf.files import SETTINGS, read_json, whole_file
from flux_hf.processing.video_storage_fluxvit import is_address

SUFFIXES = (".parquet", ".csv", ".jsonl")
TYPES = {
    "path": pa.string(),
    "start": pa.float64(),
    "end": pa.float64(),
    "label": pa.string(),
    "score": pa.float64(),
    "labels": pa.list_(pa.string()),
    "scores": pa.list_(pa.float64()),
    "token_budget": pa.int32(),
    "milliseconds": pa.float64(),
    "error": pa.string(),
    "embedding": pa.list_(pa.float32()),
}
ROWS = 4096
"""Rows of a table that are written at once."""

PAUSE = 10.0
SHARE = 0.05
"""A table that is not whole yet is written after so many seconds at least, and in this share of the time at most."""


class LabelOutput:
    """The output of `flux-hf label`.

    Every video that is done is at once a line in the folder that has .videos behind the name of `path`, in a file of
    its process; a line that is not whole does not count. The table at `path` is made of these lines: every now and
    then of those that are there, and in the end of all, in the order of the videos.

    Args:
        path: .parquet, .csv or .jsonl.
        settings: what the answers depend on.
        columns: names of the table's columns, of those in `TYPES`.
        process: number of this process. The first one writes the table.

    Raises:
        ValueError: the folder holds answers of other settings, there is a table without a folder, or another run
            writes to it.
    """

    def __init__(self, path: str | Path, settings: dict, columns: list[str], process: int = 0):
        self.path, self.columns, self._settings, self._first = Path(path), columns, settings, process == 0
        folder = _records(self.path)
        if self.path.exists() and not folder.exists():
            raise ValueError(
                f"{path} is there, but no {folder} that says what made it; delete it or name another output"
            )
        self._records = RecordFolder(folder, settings, process)
        self.folder = folder
        self._lock = FileLock(folder / f".{process}.lock", timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise ValueError(f"another run writes to {path} now; wait for it, stop it or name another output") from None
        self._numbers: dict[str, int] = {}
        self._next = time.monotonic() + PAUSE

    def done(self) -> Counter:
        """How often each video, by its `video_key`, is done already."""
        return Counter(record["video"] for _, _, record in placed_records(self.folder))

    def append(self, number: int, key: str, rows: list[dict]) -> None:
        """The rows of video `number`; they outlive this process from now on. The first process then writes the table
        if it is time."""
        self._records.append({"row": number, "video": key, "answers": [packed(row) for row in rows]})
        if self._first and time.monotonic() > self._next:
            started = time.monotonic()
            self._write(lambda: (record for _, _, record in placed_records(self.folder)))
            now = time.monotonic()
            self._next = now + max(PAUSE, (now - started) / SHARE)

    def renumber(self, number: int, key: str) -> None:
        """A video that was done before is number `number` now."""
        self._numbers[key] = number

    def finish(self) -> Counter:
        """Writes the whole table, in the order of the videos. Returns how many videos and rows there are, and how many
        of the videos are unreadable."""
        places = [
            (self._numbers.pop(record["video"], record["row"]), path, offset)
            for path, offset, record in placed_records(self.folder)
        ]
        places.sort(key=lambda place: place[0])

        def in_order() -> Iterator[dict]:
            files = {path: open(path, "rb") for path in {place[1] for place in places}}  # noqa: SIM115
            try:
                for _, path, offset in places:
                    files[path].seek(offset)
                    yield json.loads(files[path].readline())
            finally:
                for file in files.values():
                    file.close()

        return self._write(in_order)

    def _write(self, records: Callable[[], Iterator[dict]]) -> Counter:
        counts = Counter(videos=0, rows=0, unreadable=0)

        def rows() -> Iterator[dict]:
            for record in records():
                counts.update(
                    videos=1,
                    rows=len(record["answers"]),
                    unreadable=any(row["error"] is not None for row in record["answers"]),
                )
                yield from map(unpacked, record["answers"])

        with whole_file(self.path) as partial:
            {".parquet": self._parquet, ".csv": self._csv, ".jsonl": self._jsonl}[self.path.suffix](partial, rows())
        return counts

    def _parquet(self, path: Path, rows: Iterator[dict]) -> None:
        metadata = {b"flux_hf": json.dumps(self._settings).encode()}
        schema = pa.schema([(name, TYPES[name]) for name in self.columns], metadata=metadata)
        with pq.ParquetWriter(path, schema) as writer:
            for chunk in _chunks(rows):
                writer.write_table(pa.Table.from_pylist(chunk, schema=schema))

    def _csv(self, path: Path, rows: Iterator[dict]) -> None:
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(self.columns)
            for row in rows:
                values = [row[name] for name in self.columns]
                writer.writerow(
                    [json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value for value in values]
                )

    def _jsonl(self, path: Path, rows: Iterator[dict]) -> None:
        with open(path, "w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps({name: row[name] for name in self.columns}, ensure_ascii=False) + "\n")


def settings_there(path: str | Path) -> dict:
    """What the answers depend on that are there for an output; nothing where there are none.

    Raises:
        ValueError: they are damaged; names the file.
    """
    described = _records(Path(path)) / SETTINGS
    if not described.is_file():
        return {}
    found = read_json(described)
    return found if isinstance(found, dict) else {}


def _records(path: Path) -> Path:
    return path.with_name(f"{path.name}.videos")


def video_key(video: dict, number: int) -> str:
    """What makes a video the same in another run: where it is, wherever the run is started, and its times; the number
    of its row where it has no path."""
    path = video.get("path")
    where = f"row {number}" if not path else path if is_address(path) else os.path.abspath(path)
    times = [video.get("start"), video.get("end")]
    return where if times == [None, None] else f"{where} {json.dumps(times)}"


def packed(row: dict) -> dict:
    """A row as JSON: an embedding as text, scores and times as exact as anyone needs, and bytes of a name that are not
    in UTF-8 as Python writes them."""
    row = {name: value for name, value in row.items() if value is not None or name == "error"}
    for name in ("path", "error"):
        if row.get(name):
            row[name] = row[name].encode("utf-8", "backslashreplace").decode()
    for name, digits in (("score", 6), ("milliseconds", 3), ("start", 6), ("end", 6)):
        if name in row:
            row[name] = round(row[name], digits)
    row["scores"] = [round(score, 6) for score in row["scores"]]
    if "embedding" in row:
        row["embedding"] = base64.b64encode(np.asarray(row["embedding"], "<f4").tobytes()).decode()
    return row


def unpacked(row: dict) -> dict:
    row = dict.fromkeys(TYPES) | row
    if row["embedding"] is not None:
        row["embedding"] = np.frombuffer(base64.b64decode(row["embedding"]), "<f4").tolist()
    return row


def _chunks(rows: Iterator[dict]) -> Iterator[list[dict]]:
    chunk = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == ROWS:
            yield chunk
            chunk = []
    yield chunk
