"""The list files that Kinetics, SSv2 and COIN ship: which video has which label."""

import re
from pathlib import Path

from datasets import ClassLabel, Dataset, Features, Value

from flux_hf.data.label_names import check_label_number, read_label_names
from flux_hf.data.video_column import VIDEO, video_at
from flux_hf.files import read_json, read_text, short_json
from flux_hf.processing.video_storage_fluxvit import is_address

VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".mpeg", ".mpg", ".m4v", ".ts", ".flv", ".wmv", ".3gp")
COIN_SUBSETS = {"train": "training", "training": "training"} | dict.fromkeys(
    ("validation", "val", "test", "testing"), "testing"
)
SSV2_SPLITS = ("train", "validation", "test")
KINETICS_SPLITS = ("train", "val", "validation", "test")
LAST_FIELD = re.compile(r"[,\s]\s*([^,\s]+)$")


class MissingSplitError(ValueError):
    """A data set (`where`) has no split of the name `split`; `there` names those it has."""

    def __init__(self, where: str, split: str, there: list[str]):
        super().__init__(where, split, there)
        self.where, self.split, self.there = where, split, there

    def __str__(self):
        return f"{self.where} has no split {self.split!r}, it has {', '.join(self.there)}"


def load_list_file(
    folder: Path, split: str, *, video_root: str | Path | None = None, label_names: list[str] | None = None
) -> Dataset | None:
    """The split that a list file in `folder` describes, or None when there is none.

    - `COIN.json`: the task is the label, only the part between "start" and "end" of a video is used; splits train and
      test. Videos are found by their id anywhere below `video_root`.
    - `*labels.json` with `*{split}.json` (SSv2): the template without its brackets is the label. Videos are
      `{id}.webm`, or whatever suffix the first one has.
    - `{split}.csv` or `{split}.txt` (Kinetics): a path or an address (http://, hf://) and the number of its label on
      every line, with spaces, commas or tabs between them.

    Args:
        video_root: where the videos are, default `folder`.
        label_names: for Kinetics, default the numbers.

    Raises:
        ValueError: naming file and line or entry of what cannot be understood.
        MissingSplitError: there are lists, none of this split.
        FileNotFoundError: the first video is not where it should be.
    """
    root = Path(video_root or folder)
    if (folder / "COIN.json").is_file():
        return _coin(folder / "COIN.json", split, root)
    labels = sorted(folder.glob("*labels.json"))
    lists = [file for file in sorted(folder.glob(f"*{split}.json")) if file not in labels]
    if labels and lists:
        return _ssv2(_only(lists), read_label_names(_only(labels)), root)
    lists = [folder / f"{split}{suffix}" for suffix in (".csv", ".txt") if (folder / f"{split}{suffix}").is_file()]
    if lists:
        return _kinetics(_only(lists), label_names, root)
    there = [name for name in SSV2_SPLITS if any(folder.glob(f"*{name}.json"))] if labels else []
    there += [name for name in KINETICS_SPLITS if any((folder / f"{name}{end}").is_file() for end in (".csv", ".txt"))]
    if there:
        raise MissingSplitError(str(folder), split, there)
    return None


def _only(files: list[Path]) -> Path:
    if len(files) > 1:
        raise ValueError(f"more than one list file fits, leave one: {', '.join(map(str, files))}")
    return files[0]


def _kinetics(file: Path, label_names: list[str] | None, root: Path) -> Dataset:
    paths, labels = [], []
    for number, line in enumerate(read_text(file).split("\n"), 1):
        if not line.strip():
            continue
        found = LAST_FIELD.search(line.strip())
        if found is None or not found[1].isdecimal():
            raise ValueError(f"{file}, line {number}: expected a path and the number of a label, got {line!r:.200}")
        if label_names is None:
            check_label_number(int(found[1][:20]), f"{file}, line {number}")
        elif int(found[1][:20]) >= len(label_names):
            raise ValueError(
                f"{file}, line {number} has a label {found[1]:.20}, but there are only {len(label_names)} label_names"
            )
        path = line.strip()[: found.start()].rstrip(", \t")
        paths.append(path if is_address(path) else str(root / path))
        labels.append(int(found[1]))
    if not paths:
        raise ValueError(f"{file} lists no video")
    names = label_names or [str(number) for number in range(max(labels) + 1)]
    return _dataset(file, paths, labels, names)


def _ssv2(file: Path, names: list[str], root: Path) -> Dataset:
    numbers = {name: number for number, name in enumerate(names)}
    paths, labels = [], []
    entries = read_json(file)
    if not isinstance(entries, list):
        raise ValueError(f"{file} must be a list of videos, each with an id and a template")
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or "id" not in entry or not isinstance(entry.get("template"), str):
            where = entry.get("id", number) if isinstance(entry, dict) else number
            raise ValueError(f"{file}, entry {where}: expected an id and a template, got {short_json(entry, 100)}")
        label = entry["template"].replace("[", "").replace("]", "")
        if label not in numbers:
            raise ValueError(f"{file}, entry {entry['id']}: {label!r} is not in the labels file")
        paths.append(root / str(entry["id"]))
        labels.append(numbers[label])
    if not paths:
        raise ValueError(f"{file} lists no video")
    suffix = next((end for end in (".webm", *VIDEO_SUFFIXES) if paths[0].with_name(paths[0].name + end).exists()), "")
    return _dataset(file, [f"{path}{suffix}" for path in paths], labels, names)


def _coin(file: Path, split: str, root: Path) -> Dataset:
    if split not in COIN_SUBSETS:
        raise MissingSplitError(str(file), split, list(COIN_SUBSETS))
    content = read_json(file)
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict):
        raise ValueError(f"{file} must hold a database of videos by their ids")
    for key, entry in database.items():
        _check_coin(entry, f"{file}, entry {key}")
    names = sorted({entry["class"] for entry in database.values()})
    numbers = {name: number for number, name in enumerate(names)}
    rows = {key: entry for key, entry in database.items() if entry["subset"] == COIN_SUBSETS[split]}
    if not rows:
        raise ValueError(f"{file} has no video of the subset {COIN_SUBSETS[split]!r}")
    found = {path.stem: path for path in sorted(root.rglob("*")) if path.suffix.lower() in VIDEO_SUFFIXES}
    if not found.keys() & rows.keys():
        raise FileNotFoundError(f"none of the videos that {file} lists for {split} is below {root}; set video_root")
    return _dataset(
        None,
        [str(found.get(key, root / f"{key}.mp4")) for key in rows],
        [numbers[entry["class"]] for entry in rows.values()],
        names,
        start=[float(entry["start"]) for entry in rows.values()],
        end=[float(entry["end"]) for entry in rows.values()],
    )


def _check_coin(entry, where: str) -> None:
    """Raises ValueError naming `where` unless the entry has a class, a subset, a start and an end in seconds."""
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name), str) for name in ("class", "subset")):
        raise ValueError(f"{where}: expected a class and a subset, got {short_json(entry, 100)}")
    for name in ("start", "end"):
        try:
            float(entry[name])
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{where}: {name} must be seconds, got {short_json(entry.get(name), 100)}") from None


def _dataset(file: Path | None, paths: list[str], labels: list[int], names: list[str], **times) -> Dataset:
    if file is not None and not is_address(paths[0]) and not Path(paths[0]).exists():
        raise FileNotFoundError(f"{paths[0]}, the first video of {file}, does not exist; set video_root")
    features = {"video": VIDEO, "label": ClassLabel(names=names)}
    return Dataset.from_dict(
        {"video": [video_at(path) for path in paths], "label": labels, **times},
        features=Features(features | {name: Value("float64") for name in times}),
    )
