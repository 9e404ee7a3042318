"""Video data sets as `datasets` gives them, with files left undecoded."""

from pathlib import Path

from datasets import ClassLabel, Dataset, Video, load_dataset


def load_video_dataset(name_or_path: str | Path, split: str) -> Dataset:
    """Load one split of a labelled video data set.

    Args:
        name_or_path: a local folder in `videofolder` layout (`split/label/clip.mp4`, or `split/metadata.jsonl` with
            columns `file_name` and `label`), or the id of a data set on the Hub.
        split: name of the split.

    Returns:
        Data set with the columns `video` ({"path", "bytes"}, not decoded), `label` (ClassLabel; names sorted where the
        files give strings) and whatever else the set has.

    Raises:
        ValueError: when the set has no `video` or `label` column.
    """
    if Path(name_or_path).is_dir():
        dataset = load_dataset("videofolder", data_dir=str(name_or_path), split=split)
    else:
        dataset = load_dataset(str(name_or_path), split=split)
    missing = {"video", "label"} - set(dataset.column_names)
    if missing:
        raise ValueError(f"{name_or_path} ({split}) lacks column {sorted(missing)}, it has {dataset.column_names}")
    dataset = dataset.cast_column("video", Video(decode=False))
    if not isinstance(dataset.features["label"], ClassLabel):
        dataset = dataset.class_encode_column("label")
    return dataset
