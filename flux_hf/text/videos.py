"""Videos without labels or captions: those of a folder, of a list, or of a split of a data set."""

from collections.abc import Iterator
from pathlib import Path

from datasets import Dataset, Features

from flux_hf.data import load_video_dataset
from flux_hf.data.list_files import VIDEO_SUFFIXES
from flux_hf.data.video_column import VIDEO, video_at
from flux_hf.files import read_text
from flux_hf.processing.video_storage_fluxvit import is_address
from flux_hf.text.pairs import load_pairs


def load_videos(source: str | Path, split: str | None = None, *, video_root: str | Path | None = None) -> Dataset:
    """The videos that `source` names.

    Args:
        source: without a split, a folder, of which every video file below it is meant, in the order of their paths; or
            a list: `.txt` with a path or an address a line, or one of pairs (see `load_pairs`), whose captions do not
            count. With a split, a data set as `load_video_dataset` takes it.
        video_root: where the videos of a list are, default its folder.

    Returns:
        Data set with the column `video` and, where there are times, `start` and `end`.

    Raises:
        ValueError: there is no video in it, it is neither of these, or a folder with `video_root`.
        OSError: there is no such file or data set.
    """
    path = Path(source)
    if split is not None:
        return load_video_dataset(source, split, video_root=video_root, labelled=False)
    if path.is_dir():
        if video_root is not None:
            raise ValueError(f"video_root={video_root} is for the paths of a list, {path} is a folder")
        files = folder_files(path)
        for file in files:
            try:
                file.encode()
            except UnicodeEncodeError:
                raise ValueError(f"the name of {file!r} is not in UTF-8, which is accepted; rename the file") from None
        return videos_at(files)
    if not path.is_file():
        raise FileNotFoundError(f"there is no folder or list {path} here; a data set of the Hub needs --split")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise ValueError(f"{path} is a single video; accepted is a folder or a list of videos")
    if path.suffix.lower() != ".txt":
        return load_pairs(path, video_root=video_root)
    root = Path(video_root or path.parent)
    lines = [line.strip() for line in read_text(path).split("\n") if line.strip()]
    if not lines:
        raise ValueError(f"{path} lists no video")
    return videos_at([line if is_address(line) else str(root / line) for line in lines])


def folder_files(folder: str | Path) -> list[str]:
    """The paths of all video files below a folder, sorted. Links count, also those to nothing; special files do not.

    Raises:
        ValueError: there is none.
    """
    files = sorted(str(file) for file in _video_files(Path(folder)))
    if not files:
        raise ValueError(f"{folder} holds no video file ({', '.join(VIDEO_SUFFIXES)}); a data set needs --split")
    return files


def needs_split(source: str | Path) -> bool:
    """Whether `source` is a data set, of which [`load_videos`] has to know the split: no list, and no folder of video
    files."""
    path = Path(source)
    return not path.is_file() and not any(_video_files(path))


def _video_files(folder: Path) -> Iterator[Path]:
    suffixes = set(VIDEO_SUFFIXES)
    named = (file for file in folder.rglob("*") if file.suffix.lower() in suffixes)
    return (file for file in named if file.is_file() or (file.is_symlink() and not file.exists()))


def videos_at(paths: list[str]) -> Dataset:
    """A data set of the files, or addresses, `paths`."""
    return Dataset.from_dict({"video": [video_at(path) for path in paths]}, features=Features({"video": VIDEO}))
