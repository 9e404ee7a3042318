"""An index of videos to search in: a Parquet file with an embedding for every video and token budget.

Columns: `path` (as it was given; what a data set calls the video), `start` and `end` (seconds; None: the whole video),
`token_budget`, `embedding` (float32, unit length; None for a video that cannot be read) and `error` (why it cannot).
The file's metadata say under `flux_hf` as JSON which checkpoint made it, with the hash of its weights.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from datasets import Dataset
from huggingface_hub import snapshot_download

from flux_hf.data.reading import row_name
from flux_hf.files import whole_file
from flux_hf.text.embedding import embedding_of

KEY = b"flux_hf"
ROWS = 4096
"""Rows that are written, and searched, at once."""


@dataclass(frozen=True)
class IndexOrigin:
    """What made an index: the checkpoint as it was named, the sha256 of its weight files, the width of an embedding,
    the token budgets, in the order they were asked for, and which frames were taken ("fast" or "exact")."""

    checkpoint: str
    weights: str
    width: int
    token_budgets: list[int]
    decoding: str


@dataclass(frozen=True)
class Found:
    """A video that was found: what the index calls it, its times in seconds (None: all of it), and the cosine of its
    embedding and the query's."""

    path: str
    start: float | None
    end: float | None
    score: float


def weights_hash(checkpoint: str | Path) -> str:
    """sha256 over the weight files of a checkpoint, a folder or a Hub id, whose files are fetched where the cache lacks
    them.

    Raises:
        ValueError: it has no safetensors file.
    """
    folder = Path(checkpoint)
    if not folder.is_dir():
        folder = Path(snapshot_download(str(checkpoint), allow_patterns="*.safetensors", ignore_patterns="*/*"))
    digest = hashlib.sha256()
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{checkpoint} has no weights in safetensors files")
    for path in files:
        with open(path, "rb") as file:
            while block := file.read(2**24):
                digest.update(block)
    return digest.hexdigest()


def write_index(path: str | Path, dataset: Dataset, records: list[dict], origin: IndexOrigin) -> None:
    """Write the index, whole or not at all.

    Args:
        dataset: the videos, with `start` and `end` where there are times.
        records: one for every row, as `embed_videos` gives them for the budgets of `origin`.
    """
    schema = pa.schema(
        [
            ("path", pa.string()),
            ("start", pa.float64()),
            ("end", pa.float64()),
            ("token_budget", pa.int32()),
            ("embedding", pa.list_(pa.float32())),  # of a fixed size pyarrow before 26 cannot read where one is None
            ("error", pa.string()),
        ],
        metadata={KEY: json.dumps(asdict(origin)).encode()},
    )
    per_batch = max(1, ROWS // len(origin.token_budgets))
    with whole_file(path) as partial, pq.ParquetWriter(partial, schema) as writer:
        for first in range(0, len(records), per_batch):
            rows = [row for record in records[first : first + per_batch] for row in _rows(dataset, record, origin)]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def read_origin(path: str | Path) -> IndexOrigin:
    """What made an index.

    Raises:
        ValueError: the file is damaged, or no index; names it.
        OSError: there is no such file.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is damaged or no Parquet file: {error}") from None
    try:
        return IndexOrigin(**json.loads(metadata[KEY]))
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path} is no index that flux-hf embed wrote: its metadata do not say what made it") from None


def check_has_budget(path: str | Path, origin: IndexOrigin, token_budget: int) -> None:
    """Raises ValueError where the index at `path`, made as `origin` says, has no embeddings of a budget."""
    if token_budget not in origin.token_budgets:
        known = ", ".join(map(str, origin.token_budgets))
        raise ValueError(f"{path} has no embeddings of {token_budget} tokens, it has {known}")


def search_index(path: str | Path, query: np.ndarray, token_budget: int, top_k: int) -> list[Found]:
    """The `top_k` videos nearest to an embedding (width,), best first, of equal ones that which comes first; a part of
    the index at a time, so that it may be larger than the memory.

    Raises:
        ValueError: the index has no embeddings of this budget or none at all, or is damaged.
    """
    check_has_budget(path, read_origin(path), token_budget)
    best: list[Found] = []
    for table, embeddings in _parts(path, token_budget):
        scores = embeddings @ query
        places = np.argsort(-scores, kind="stable")[:top_k]
        rows = table.select(["path", "start", "end"]).take(pa.array(places)).to_pylist()
        best += [Found(**row, score=float(score)) for row, score in zip(rows, scores[places], strict=True)]
        best = sorted(best, key=lambda found: -found.score)[:top_k]
    if not best:
        raise ValueError(f"{path} has no embedding: none of its videos could be read, its column error says why")
    return best


def _rows(dataset: Dataset, record: dict, origin: IndexOrigin) -> Iterator[dict]:
    entry = dataset[record["row"]]
    row = {"path": row_name(entry, record["row"]), "start": entry.get("start"), "end": entry.get("end")}
    for place, budget in enumerate(origin.token_budgets):
        if "reason" in record:
            yield row | {"token_budget": budget, "embedding": None, "error": record["reason"]}
        else:
            embedding = embedding_of(record["arms"][place])
            yield row | {"token_budget": budget, "embedding": embedding, "error": None}


def _parts(path: str | Path, token_budget: int) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Rows with an embedding of this budget, and their embeddings (rows, width)."""
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS):
                table = pa.Table.from_batches([batch])
                right = pa.compute.equal(table["token_budget"], token_budget)
                table = table.filter(pa.compute.and_(right, pa.compute.is_valid(table["embedding"])))
                if len(table):
                    column = table["embedding"].combine_chunks()
                    yield table, column.flatten().to_numpy().reshape(len(table), -1)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
