"""Videos shared out among processes, none twice, with results that outlive an interruption."""

import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm import tqdm

from flux_hf.evaluation.records import RecordFolder

PATIENCE = timedelta(days=30)
"""For which processes that are done wait for those that are not. A launcher ends all of them when one fails."""


def process_state() -> PartialState:
    """The processes that run together; gloo where there is no accelerator, which `PartialState` uses only on request.

    Raises:
        RuntimeError: the launcher started more processes than know of each other.
    """
    state = PartialState(cpu=not torch.accelerator.is_available(), timeout=PATIENCE)
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != state.num_processes:
        raise RuntimeError(f"{started} processes were started, but {state.num_processes} work together")
    return state


def open_records(records_dir, settings: dict) -> tuple[RecordFolder | None, dict[int, dict]]:
    """The folder (None without one) and the records in it by row, read by every process before any of them writes.

    Raises:
        ValueError: the folder holds results of other settings.
    """
    state = process_state()
    if records_dir is None:
        return None, {}
    with state.main_process_first():
        folder = RecordFolder(records_dir, settings, state.process_index)
    done = {record["row"]: record for record in folder.load()}
    state.wait_for_everyone()
    return folder, done


def complete_records(
    rows: list[int],
    done: dict[int, dict],
    score: Callable[[list[int]], Iterator[dict]],
    folder: RecordFolder | None,
    description: str = "",
) -> tuple[list[dict], dict]:
    """Records of all `rows`, in their order: those that are done, and new ones from all processes.

    Args:
        rows: rows of the data set.
        done: row -> record, the same in every process.
        score: gives a record for each of the rows that this process gets.
        folder: where new records go at once.

    Returns:
        the records, and what was new: `videos` (readable ones), `seconds`, `videos_per_second`, `processes`.
    """
    state = process_state()
    left = [row for row in rows if row not in done]
    own = left[state.process_index :: state.num_processes]
    started = time.perf_counter()
    new = []
    bar = tqdm(score(own), desc=description, total=len(own), unit="video", disable=not own or not state.is_main_process)
    for record in bar:
        if folder:
            folder.append(record)
        new.append(record)
    seconds = max(gather_object([time.perf_counter() - started]))
    new = gather_object(new)
    found = done | {record["row"]: record for record in new}
    if missing := [row for row in rows if row not in found] or len(new) != len(left):
        raise RuntimeError(f"{len(new)} new results for {len(left)} videos, missing: {missing}")
    read = sum("reason" not in record for record in new)
    return [found[row] for row in rows], {
        "videos": read,
        "seconds": seconds,
        "videos_per_second": read / seconds if read else None,
        "processes": state.num_processes,
    }
