"""Video data sets as `datasets` gives them, with files left undecoded and one set of column names."""

import re
from collections.abc import Sequence
from pathlib import Path

from datasets import ClassLabel, Dataset, Features, IterableDataset, Value, load_dataset, load_dataset_builder

from flux_hf.data.damaged_files import naming_damaged_file
from flux_hf.data.label_names import read_label_names
from flux_hf.data.list_files import VIDEO_SUFFIXES, MissingSplitError, load_list_file
from flux_hf.data.video_column import VIDEO, as_structs, without_torchcodec
from flux_hf.options.errors import not_found

VIDEOFOLDER_SUFFIXES = (".mkv", ".mp4", ".avi", ".mpeg", ".mov")
TIME_COLUMNS = {"start_time": "start", "end_time": "end"}
LABEL_COLUMNS = ("label", "cls", "json", "txt")


def load_video_dataset(
    name_or_path: str | Path,
    split: str,
    *,
    streaming: bool = False,
    video_root: str | Path | None = None,
    label_names: Sequence[str] | str | Path | None = None,
    labelled: bool = True,
) -> Dataset | IterableDataset:
    """Load one split of a video data set.

    Args:
        name_or_path: id of a data set on the Hub, or a local folder with one of
            - the list files of Kinetics (`{split}.csv`), SSv2 (`*labels.json` and `*{split}.json`) or COIN
              (`COIN.json`), see [`load_list_file`];
            - webdataset shards (`.tar`, the label in `.cls`, `.txt` or the "label" of `.json`);
            - parquet files with embedded videos;
            - `videofolder` layout: `split/label/clip.mp4`, or `split/metadata.jsonl` with the columns `file_name` and
              `label`.
        split: name of the split.
        streaming: read rows as they come instead of downloading and preparing the set first.
        video_root: where the videos of a list file are, default the folder itself.
        label_names: names of the labels in the order of their numbers, or a file with them (one per line, or SSv2's
            JSON). Needed where the set has none: streamed sets without a ClassLabel. Default: the ClassLabel's names;
            sorted, where labels are strings; the numbers, where they are numbers.
        labelled: False reads no labels; then the set need not have any.

    Returns:
        Data set with the columns `video` ({"path", "bytes"}, not decoded), `label` (ClassLabel, where wanted), `start`
        and `end` where the set has times (seconds, None for the whole video), and whatever else the set has.

    Raises:
        ValueError: naming the columns that are missing, the files that would be left out or are damaged, or the labels
            without a name.
        MissingSplitError: a ValueError that names the splits there are.
        OSError: the data set or its first video does not exist.
    """
    path = Path(name_or_path)
    names = read_label_names(label_names) if label_names is not None else None
    if path.is_dir():
        dataset = load_list_file(path, split, video_root=video_root, label_names=names)
        if dataset is not None:
            return dataset.to_iterable_dataset() if streaming else dataset
        source = {"path": _folder_module(path), "data_dir": str(path)}
    else:
        source = {"path": str(name_or_path)}
    try:
        with naming_damaged_file(f"{name_or_path} ({split})", path), without_torchcodec():
            dataset = load_dataset(**source, split=split, streaming=streaming)
    except ValueError:
        there = [str(name) for name in load_dataset_builder(**source).config.data_files or ()]
        if not there or re.match(r"\w*", split)[0] in ("all", *there):
            raise
        raise MissingSplitError(str(name_or_path), split, there) from None
    except (FileNotFoundError, ConnectionError) as error:
        if path.is_dir():
            raise
        raise FileNotFoundError(f"no such data set: {not_found(str(name_or_path), error)}") from error
    where = f"{name_or_path} ({split})"
    dataset = _with_times(_with_video_column(dataset, where))
    if not labelled:
        return dataset
    return _with_class_labels(_with_label_column(dataset, where), names, where)


def _folder_module(folder: Path) -> str:
    suffixes = {file.suffix.lower() for file in folder.rglob("*") if file.is_file()}
    if ".tar" in suffixes:
        return "webdataset"
    if ".parquet" in suffixes:
        return "parquet"
    if left_out := sorted(suffixes & (set(VIDEO_SUFFIXES) - set(VIDEOFOLDER_SUFFIXES))):
        raise ValueError(
            f"{folder} holds {', '.join(left_out)} files, which the videofolder layout of datasets leaves out (it "
            f"reads {', '.join(VIDEOFOLDER_SUFFIXES)}); describe them with a "
            "list file, {split}.csv with one `path label` a line"
        )
    return "videofolder"


def _with_video_column(dataset, where: str):
    columns = _columns(dataset, where)
    if "video" in columns:
        column = "video"
    else:
        column = next((suffix[1:] for suffix in VIDEO_SUFFIXES if suffix[1:] in columns), None)
    if column is None:
        raise ValueError(f"{where} lacks a column video, it has {columns}")
    if dataset.features[column] == Value("binary"):
        # webdataset knows this suffix as bytes only.
        dataset = dataset.map(
            lambda row: {"video": {"bytes": row[column], "path": f"{row['__key__']}.{column}"}},
            remove_columns=[column],
            features=Features(
                {name: feature for name, feature in dataset.features.items() if name != column} | {"video": VIDEO}
            ),
        )
        return dataset
    # First of all: any step before this would try to decode.
    dataset = as_structs(dataset, column)
    return dataset if column == "video" else dataset.rename_column(column, "video")


def _with_times(dataset):
    for name, wanted in TIME_COLUMNS.items():
        if name in dataset.features and wanted not in dataset.features:
            dataset = dataset.rename_column(name, wanted)
    return dataset


def _with_label_column(dataset, where: str):
    columns = _columns(dataset, where)
    column = next((name for name in LABEL_COLUMNS if name in columns), None)
    if column == "json":
        fields = dataset.features["json"]
        if "label" not in fields:
            raise ValueError(f'{where} has json files without a "label", they have {list(fields)}')
        return dataset.map(
            lambda row: {"label": row["json"]["label"]},
            remove_columns=["json"],
            features=Features(
                {name: feature for name, feature in dataset.features.items() if name != "json"}
                | {"label": fields["label"]}
            ),
        )
    if column is None:
        raise ValueError(
            f"{where} has no labels: give every class a folder, SPLIT/LABEL/clip.mp4, or every clip a column label; it "
            f"has the columns {', '.join(columns)}"
        )
    return dataset if column == "label" else dataset.rename_column(column, "label")


def _columns(dataset, where: str) -> list[str]:
    if dataset.features is None:
        raise ValueError(f"{where} does not say which columns it has; load it with streaming off")
    return list(dataset.features)


def _with_class_labels(dataset, names: list[str] | None, where: str):
    feature = dataset.features["label"]
    if isinstance(feature, ClassLabel):
        if names is not None and names != feature.names:
            raise ValueError(f"label_names differ from the names that {where} has: {feature.names}")
        return dataset
    strings = feature == Value("string")
    if names is None:
        if isinstance(dataset, IterableDataset):
            raise ValueError(f"{where} is streamed and its labels have no names: give label_names")
        present = {label.strip() if strings else label for label in dataset["label"][:]}
        names = sorted(present) if strings else [str(number) for number in range(max(present) + 1)]
    numbers = {name: number for number, name in enumerate(names)}

    def encode(label: str | int) -> int:
        label = label.strip() if strings else label
        if (label not in numbers) if strings else not 0 <= label < len(names):
            raise ValueError(f"{where}: label {label!r} is not among the {len(names)} label names")
        return numbers[label] if strings else label

    labels = ClassLabel(names=names)
    if isinstance(dataset, IterableDataset):
        features = Features(dict(dataset.features) | {"label": labels})
        return dataset.map(lambda row: {"label": encode(row["label"])}, features=features)
    # A column of its own; map would write embedded videos anew.
    encoded = [encode(label) for label in dataset["label"][:]]
    return dataset.remove_columns("label").add_column("label", encoded, feature=labels)
