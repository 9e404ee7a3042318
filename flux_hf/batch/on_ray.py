"""The videos of `flux-hf label` on a Ray cluster: actors answer, this process writes."""

import json
from collections.abc import Iterator
from copy import copy

from flux_hf.batch.command import Answer
from flux_hf.batch.labeler import INPUTS, VideoLabeler
from flux_hf.batch.output import packed, unpacked


class _Recorder:
    """What an actor does: a whole video, however many windows it has, is one row of text."""

    def __init__(self, labeler: VideoLabeler):
        self.labeler = labeler

    def __call__(self, columns: dict) -> dict:
        videos = [json.loads(video) for video in columns["video"]]
        for video, content in zip(videos, columns.get("bytes", []), strict=False):
            video["bytes"] = content
        answers = sorted(self.labeler.label(videos))
        return {
            "number": list(columns["number"]),
            "answers": [json.dumps([packed(row) for row in rows]) for _, rows in answers],
        }


def answer_on_ray(labeler: VideoLabeler, *, address: str | None = None, actors: int | None = None) -> Answer:
    """What answers on a Ray cluster, in batches that its actors take as they get free. An actor that dies is replaced,
    and its batch done again.

    Args:
        labeler: sent to the actors. Paths must be those of all nodes.
        address: of the cluster, default the one that RAY_ADDRESS names or that runs here, or a new one.
        actors: default one for every GPU of the cluster, or for every core where there is none.

    Raises:
        ImportError: Ray is not installed.
        OSError: the cluster is not there.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError(f"{error}; --engine ray needs it: pip install 'flux_hf[ray]'") from error

    def answer(numbered: Iterator[tuple[int, dict]]) -> Iterator[tuple[int, list[dict]]]:
        rows = [_row(number, video) for number, video in numbered]
        if not rows:
            return
        try:
            ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
        except ConnectionError as error:
            raise OSError(f"--address {address}: {error}") from error
        sent = copy(labeler)
        sent.dtype = str(labeler.loaded.dtype).removeprefix("torch.")  # the one that the output is about, on every node
        ray.data.DataContext.get_current().enable_progress_bars = False  # there is one already
        gpus = int(ray.cluster_resources().get("GPU", 0))
        count = actors or max(1, gpus or int(ray.cluster_resources()["CPU"]))
        count = min(count, -(-len(rows) // labeler.batch_size))
        answers = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // labeler.batch_size)).map_batches(
            _Recorder,
            fn_constructor_args=(sent,),
            batch_size=labeler.batch_size,
            compute=ray.data.ActorPoolStrategy(size=count),
            num_gpus=1 if gpus else 0,
            max_restarts=-1,
            max_task_retries=RETRIES,
        )
        for row in answers.iter_rows():
            yield row["number"], [unpacked(each) for each in json.loads(row["answers"])]

    return answer


RETRIES = 3
"""How often a batch is done again whose actor died."""


def _row(number: int, video: dict) -> dict:
    content = {"bytes": video["bytes"]} if video.get("bytes") is not None else {}
    known = {name: video[name] for name in INPUTS if name != "bytes" and video.get(name) is not None}
    return {"number": number, "video": json.dumps(known), **content}
