"""Which file of a data set it is that cannot be read."""

import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from datasets import IterableDataset, load_dataset
from datasets.exceptions import DatasetGenerationError

READERS = {".parquet": "parquet", ".jsonl": "json", ".csv": "csv"}


@contextmanager
def naming_damaged_file(where: str, dataset: str | Path | IterableDataset) -> Iterator[None]:
    """Makes one ValueError, with the name of the file, of what `datasets` and its readers raise over a damaged tar,
    parquet or metadata file.

    Args:
        where: what the message calls the data set.
        dataset: a folder, or what is being read; of one on the Hub the files have no names here.
    """
    try:
        yield
    except Exception as error:
        # The readers' libraries are not ours to import: their exceptions are known by where they come from.
        library = type(error).__module__.partition(".")[0]
        expected = isinstance(error, (DatasetGenerationError, tarfile.TarError, UnicodeDecodeError))
        if not expected and library not in ("pyarrow", "pandas"):
            raise
        cause = error
        while isinstance(cause, DatasetGenerationError) and (inner := cause.__cause__ or cause.__context__):
            cause = inner
        if isinstance(cause, OSError):
            raise cause from None  # a full disk, a file that went away: it says so itself
        for path in _files(dataset):
            if reason := what_is_wrong(path):
                raise ValueError(f"{path} is damaged: {reason}") from error
        raise ValueError(f"{where} cannot be read: {type(cause).__name__}: {cause}") from error


def what_is_wrong(path: Path) -> str | None:
    """Reads a tar, parquet, jsonl or csv file to its end; None where nothing is wrong, or it is of another kind."""
    try:
        if path.suffix == ".tar":
            with tarfile.open(path) as archive:
                for member in archive:
                    if member.isfile():
                        archive.extractfile(member).read()
        elif path.suffix in READERS:
            for _ in load_dataset(READERS[path.suffix], data_files=str(path), split="train", streaming=True):
                pass
    except Exception as error:  # of whichever library reads this kind
        return str(error)
    return None


def _files(dataset: str | Path | IterableDataset) -> Iterable[Path]:
    if not isinstance(dataset, IterableDataset):
        return (path for path in sorted(Path(dataset).rglob("*")) if path.is_file())
    iterable = dataset._ex_iterable  # no public name for the files of a stream; without them the message is shorter
    while hasattr(iterable, "ex_iterable"):
        iterable = iterable.ex_iterable
    named = [value for value in getattr(iterable, "kwargs", {}).values() if isinstance(value, list)]
    return (Path(name) for names in named for name in names if isinstance(name, str) and Path(name).is_file())
