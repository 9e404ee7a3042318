"""Pairs of a video and what is said of it, from list files, folders with metadata, and data sets of the Hub."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset, Features, IterableDataset, Value
from datasets import List as ListOf
from pyarrow import compute

from flux_hf.data import MissingSplitError, VideoRows, load_video_dataset
from flux_hf.data.list_files import VIDEO_SUFFIXES
from flux_hf.data.video_column import VIDEO, video_at
from flux_hf.files import read_text, short_json
from flux_hf.processing.video_storage_fluxvit import is_address
from flux_hf.text.protocol_lists import is_protocol_list, protocol_rows

VIDEO_COLUMNS = ("video", "file_name", "path", "video_path", "file", "video_id")
CAPTION_COLUMNS = ("caption", "captions", "text", "texts", "sentence", "sentences", "description", "txt")
TIME_COLUMNS = {"start": ("start", "start_time"), "end": ("end", "end_time")}
LIST_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
SPLITS = ("train", "val", "validation", "test")
METADATA = ("metadata.csv", "metadata.jsonl")
CAPTIONS = ListOf(Value("string"))


def load_pairs(
    name_or_path: str | Path,
    split: str = "train",
    *,
    caption_column: str | None = None,
    video_root: str | Path | None = None,
    streaming: bool = False,
) -> Dataset | IterableDataset:
    """Load one split of a data set of videos with captions.

    Args:
        name_or_path: one of
            - a list file, `.csv` or `.tsv` with a header, `.jsonl` or `.json` with an object a row, which names a video
              (column `video`, `file_name`, `path`, `video_path`, `file` or `video_id`; a path or an address; a name
              without a suffix is looked for with those of videos), its caption or captions, and optionally `start` and
              `end` in seconds; also the lists of MSRVTT-1kA, DiDeMo, MSVD, LSMDC and ActivityNet as they are shared
              (`flux_hf.text.protocol_lists`). It is the whole split, whatever `split` says;
            - a folder with such a list for each split (`{split}.csv`, ...), or with `metadata.csv` or `metadata.jsonl`
              beside the videos or in `{split}/`, as `datasets` has it;
            - what `load_video_dataset` takes: other folders (webdataset, parquet) and data sets on the Hub.
        split: name of the split.
        caption_column: column of the captions, each row with one or a list of them. Default: the first of `caption`,
            `captions`, `text`, `texts`, `sentence`, `sentences`, `description`, `txt` that there is.
        video_root: where the videos of a list are, default its folder.
        streaming: read rows as they come.

    Returns:
        Data set with the columns `video` ({"path", "bytes"}, not decoded), `captions` (a list of at least one), and
        `start` and `end` where there are times. Rows of the same part of the same file are one row with all captions,
        unless it is streamed.

    Raises:
        ValueError: naming the file or data set and the column that is missing or the row without a caption.
        MissingSplitError: a ValueError that names the splits there are.
        OSError: the data set or its first video does not exist.
    """
    path = Path(name_or_path)
    found = _list_of(path, split)
    if found is not None:
        dataset = _from_list(*found, caption_column, video_root)
        return dataset.to_iterable_dataset() if streaming else dataset
    where = f"{name_or_path} ({split})"
    loaded = load_video_dataset(name_or_path, split, streaming=streaming, video_root=video_root, labelled=False)
    column = _one_of(CAPTION_COLUMNS, loaded.features, caption_column, where, "captions")
    times = [name for name in TIME_COLUMNS if name in loaded.features]
    features = Features({"video": VIDEO, "captions": CAPTIONS} | {name: Value("float64") for name in times})
    if streaming:
        return loaded.map(
            lambda row, number: {"captions": _captions(row[column], f"{where}, row {number}", column)},
            with_indices=True,
            remove_columns=[name for name in loaded.features if name not in {"video", *times, column} - {column}],
            features=features,
        )
    captions = [_captions(value, f"{where}, row {row}", column) for row, value in enumerate(loaded[column][:])]
    loaded = loaded.select_columns(["video", *times])
    for name in times:
        if loaded.features[name] != Value("float64"):
            loaded = loaded.cast_column(name, Value("float64"))
    # A column of its own; map would write embedded videos anew.
    return _joined(loaded.add_column("captions", captions, feature=CAPTIONS))


class PairRows(VideoRows):
    """The rows of a data set as [`load_pairs`] returns it; a clip source, see [`clip_source`], whose labels are the
    captions of each video.

    Args:
        dataset: with the columns `video`, `captions` and optionally `start` and `end`.
        short_side, snap_to_keyframes: as of [`VideoRows`].
    """

    label_names = None

    def __init__(self, dataset: Dataset, short_side: int | None = None, snap_to_keyframes: bool = False):
        self.dataset, self.short_side, self.snap_to_keyframes = dataset, short_side, snap_to_keyframes
        self._last = (None, None)

    @property
    def labels(self) -> list[list[str]]:
        return self.dataset["captions"][:]

    def label(self, index: int) -> list[str]:
        return self._row(index)["captions"]


def is_pairs(dataset) -> bool:
    """Whether it is a data set as [`load_pairs`] returns it, streamed or not."""
    columns = getattr(dataset, "column_names", None) or ()
    return isinstance(dataset, (Dataset, IterableDataset)) and {"video", "captions"} <= set(columns)


def draw_caption(captions: Sequence[str], key: tuple) -> str:
    """One of the captions of a video, a function of `key`: numbers that tell an item of a training run from others."""
    if len(captions) == 1:
        return captions[0]
    return captions[int(np.random.default_rng([*key, 7]).integers(len(captions)))]


def _list_of(path: Path, split: str) -> tuple[Path, str | None] | None:
    """The list file that `path` means, and the folder in it that a row must be in; None where there is no list."""
    if path.is_file():
        if path.suffix.lower() not in LIST_SUFFIXES and not is_protocol_list(path):
            raise ValueError(f"{path} is no list of pairs; accepted are {', '.join(LIST_SUFFIXES)}, or a folder")
        return path, None
    if not path.is_dir():
        return None
    for folder, names in ((path, [split + suffix for suffix in LIST_SUFFIXES]), (path / split, METADATA)):
        if there := [folder / name for name in names if (folder / name).is_file()]:
            return _only(there), None
    if there := [path / name for name in METADATA if (path / name).is_file()]:
        if (path / split).is_dir():
            return _only(there), split
        if split == "train":
            return _only(there), None
        raise MissingSplitError(str(path), split, ["train"])
    if there := [name for name in SPLITS if any((path / (name + suffix)).is_file() for suffix in LIST_SUFFIXES)]:
        raise MissingSplitError(str(path), split, there)
    return None


def _only(files: list[Path]) -> Path:
    if len(files) > 1:
        raise ValueError(f"more than one list of pairs fits, leave one: {', '.join(map(str, files))}")
    return files[0]


def _from_list(file: Path, below: str | None, caption_column: str | None, video_root) -> Dataset:
    root = Path(video_root or file.parent)
    paths, captions, times, names = [], [], {name: [] for name in TIME_COLUMNS}, None
    for where, row in _rows(file):
        if names is None:
            names = {
                "video": _one_of(VIDEO_COLUMNS, row, None, str(file), "videos"),
                "captions": _one_of(CAPTION_COLUMNS, row, caption_column, str(file), "captions"),
            } | {name: next((given for given in known if given in row), None) for name, known in TIME_COLUMNS.items()}
        video = row.get(names["video"])
        if not isinstance(video, str) or not video.strip():
            raise ValueError(f"{where}: {names['video']} must name a video, got {short_json(video)}")
        if below is not None and Path(video).parts[0] != below:
            continue
        paths.append(video if is_address(video) else str(root / video))
        captions.append(_captions(row.get(names["captions"]), where, names["captions"]))
        for name in TIME_COLUMNS:
            times[name].append(_seconds(row.get(names[name]), where, names[name]) if names[name] else None)
    if not paths:
        raise ValueError(f"{file} lists no video" + (f" of the split {below}" if below else ""))
    paths = _with_suffixes(paths, file)
    timed = [name for name in TIME_COLUMNS if names[name]]
    features = Features({"video": VIDEO, "captions": CAPTIONS} | {name: Value("float64") for name in timed})
    columns = {"video": [video_at(path) for path in paths], "captions": captions}
    return _joined(Dataset.from_dict(columns | {name: times[name] for name in timed}, features=features))


def _rows(file: Path) -> Iterator[tuple[str, dict]]:
    """Every row of a list and what messages call it."""
    text, suffix = read_text(file), file.suffix.lower()
    if (rows := protocol_rows(file, text)) is not None:
        yield from rows
        return
    if suffix in (".csv", ".tsv"):
        # The module reads numbers, "NA" and "null" as what they are in a caption: text.
        delimiter = "\t" if suffix == ".tsv" else ","
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        try:
            for row in reader:
                where = f"{file}, line {reader.line_num}"
                if None in row:
                    raise ValueError(f"{where}: more values than the header has columns; quote them")
                yield where, row
        except csv.Error as error:
            raise ValueError(f"{file}, line {reader.line_num + 1}: {error}") from None
        return
    entries: Iterable = enumerate(text.split("\n"), 1)
    if suffix == ".json":
        entries = enumerate(_parsed(text, str(file)), 1)
    for number, entry in entries:
        where = f"{file}, {'entry' if suffix == '.json' else 'line'} {number}"
        if suffix == ".jsonl":
            if not entry.strip():
                continue
            entry = _parsed(entry, where)
        if not isinstance(entry, dict):
            raise ValueError(f"{where}: expected an object with a video and its caption, got {short_json(entry)}")
        yield where, entry


def _parsed(text: str, where: str):
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where} is damaged or no JSON: {error}") from None


def _one_of(known: Sequence[str], columns: Iterable[str], given: str | None, where: str, what: str) -> str:
    columns = [str(name) for name in columns]
    if given is not None:
        known = (given,)
    column = next((name for name in known if name in columns), None)
    if column is None:
        raise ValueError(
            f"{where} has no column of {what}: it has {', '.join(columns) or 'none'}; accepted is {' or '.join(known)}"
        )
    return column


def _captions(value, where: str, column: str) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{where}: {column} must hold a caption or a list of them, got {short_json(value)}")
    texts = [text.strip() for text in texts]
    if not all(texts):
        raise ValueError(f"{where}: {column} holds an empty caption")
    return texts


def _seconds(value, where: str, column: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: {column} must be seconds, got {short_json(value)}") from None


def _with_suffixes(paths: list[str], file: Path) -> list[str]:
    """The paths; where the first one is there with a suffix of videos only, all of them with theirs."""
    first = paths[0]
    if is_address(first) or Path(first).exists():
        return paths
    if suffix := next((suffix for suffix in VIDEO_SUFFIXES if Path(first + suffix).exists()), None):
        return [path + suffix for path in paths]
    raise FileNotFoundError(f"{first}, the first video of {file}, does not exist; set video_root")


def _joined(dataset: Dataset) -> Dataset:
    """Rows of the same part of the same file as one row with all of their captions, in the order of the first."""
    times = [name for name in TIME_COLUMNS if name in dataset.features]
    parts = zip(_paths(dataset), *(dataset[name][:] for name in times), strict=True)
    rows, captions = {}, []
    for row, (part, texts) in enumerate(zip(parts, dataset["captions"][:], strict=True)):
        place = rows.setdefault(part if part[0] else row, len(captions))
        if place == len(captions):
            captions.append((row, {}))
        captions[place][1].update(dict.fromkeys(texts))
    joined = dataset.select([row for row, _ in captions]).remove_columns("captions")
    return joined.add_column("captions", [list(texts) for _, texts in captions], feature=CAPTIONS)


def _paths(dataset: Dataset) -> list[str | None]:
    """Path of every row's video, None where it is embedded; no video is read."""
    videos = dataset.with_format("arrow")[:]["video"]
    embedded = compute.is_valid(compute.struct_field(videos, "bytes")).to_pylist()
    paths = compute.struct_field(videos, "path").to_pylist()
    return [None if inside else path for path, inside in zip(paths, embedded, strict=True)]
