"""`flux-hf label`: which videos are left, who answers for them, and where the answers go."""

import hashlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from pathlib import Path

from datasets import Dataset
from tqdm import tqdm

from flux_hf.batch.labeler import VideoLabeler
from flux_hf.batch.output import LabelOutput, video_key
from flux_hf.evaluation.processes import process_state
from flux_hf.evaluation.report import counted
from flux_hf.provenance import model_hash

Answer = Callable[[Iterator[tuple[int, dict]]], Iterator[tuple[int, list[dict]]]]
"""(number, video) one by one -> (number, its rows), in any order."""


def label_videos(
    videos: Dataset | Iterable[str],
    settings: dict,
    labeler: VideoLabeler,
    output: str | Path,
    answer: Answer | None = None,
) -> None:
    """Answer for all videos that `output` does not hold yet, and write it. Every process of a launcher does its share.

    Args:
        videos: with the column `video`, and optionally `start` and `end`; or paths and addresses as they come.
        settings: further ones that the answers depend on.
        answer: what answers. Default: `labeler`, here.

    Raises:
        ValueError: the output holds answers to something else.
        OSError: the disk is full.
    """
    state = process_state()
    settings = settings | labeler_settings(labeler)
    timed = labeler.window is not None or (isinstance(videos, Dataset) and "start" in videos.column_names)
    columns = [name for name in labeler.columns if timed or name not in ("start", "end")]
    with state.main_process_first():
        table = LabelOutput(output, settings, columns, state.process_index)
    done = table.done()
    state.wait_for_everyone()

    total, already = (len(videos) if isinstance(videos, Sized) else None), sum(done.values())
    names = {}

    def left() -> Iterator[tuple[int, dict]]:
        """This process's share of what is not done; what is there twice is done twice."""
        open_number = -1
        for number, video in enumerate(_videos(videos)):
            key = video_key(video, number)
            if done[key]:
                done[key] -= 1
                table.renumber(number, key)
                continue
            open_number += 1
            if open_number % state.num_processes == state.process_index:
                names[number] = key
                yield number, video

    started, count, unreadable = time.perf_counter(), 0, 0
    with tqdm(
        total=None if total is None else -(-max(0, total - already) // state.num_processes),
        unit="video", desc="labels", disable=not state.is_main_process, smoothing=0.05,
    ) as bar:  # fmt: skip
        for number, rows in (answer or answer_here(labeler))(left()):
            table.append(number, names.pop(number), rows)
            count += 1
            bar.update()
            if rows[-1]["error"] is not None:
                unreadable += 1
                bar.set_postfix(unreadable=unreadable)
    seconds = time.perf_counter() - started
    state.wait_for_everyone()
    if state.is_main_process:
        found = table.finish()
        if not found["videos"]:
            raise ValueError("there was no video to label")
        before = f"{already} of them before, " if already else ""
        rows = "" if found["rows"] == found["videos"] else f", {counted(found['rows'], 'row')}"
        print(
            f"{counted(found['videos'], 'video')}{rows}, {before}{found['unreadable']} unreadable"
            f"{f', {count / seconds:.1f} videos/s' if count else ''}; written: {output}"
        )
        if found["unreadable"]:
            print(f"{output} says in the column error why {found['unreadable']} cannot be read", file=sys.stderr)
    state.wait_for_everyone()


def answer_here(labeler: VideoLabeler) -> Answer:
    """What answers in this process and its workers."""

    def answer(numbered: Iterator[tuple[int, dict]]) -> Iterator[tuple[int, list[dict]]]:
        numbers = []

        def videos() -> Iterator[dict]:
            for number, video in numbered:
                numbers.append(number)
                yield video

        for place, rows in labeler.label(videos()):
            yield numbers[place], rows

    return answer


def labeler_settings(labeler: VideoLabeler) -> dict:
    """What the answers of a labeler depend on, as JSON."""
    loaded = labeler.loaded
    if labeler.runtime == "onnx":
        weights = hashlib.sha256((Path(labeler.checkpoint) / "model.onnx").read_bytes()).hexdigest()
    else:
        weights = model_hash(loaded.model)
    return {
        "weights": weights,
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "processor": loaded.processor.to_dict(),
        "token_budget": loaded.budget,
        **{name: getattr(labeler, name) for name in ("top_k", "window", "stride", "embeddings", "runtime")},
    }


def _videos(videos: Dataset | Iterable[str]) -> Iterator[dict]:
    if not isinstance(videos, Dataset):
        yield from ({"path": path} for path in videos)
        return
    for row in videos.select_columns([name for name in ("video", "start", "end") if name in videos.column_names]):
        yield {"start": row.get("start"), "end": row.get("end"), **row["video"]}
