"""Label the videos of a folder, list, data set or standard input: a row a video, or a window.

flux-hf label my/videos --output labels.parquet
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.options import (
    check_at_least,
    check_checkpoints,
    check_output,
    check_paths,
    decoding_option,
    dtype_option,
    naming_option,
    naming_split,
    parse_options,
)


@dataclass
class LabelOptions:
    dataset: str = field(
        metadata={
            "help": "Folder, of which every video below it is meant; list file (.txt with a path or address a line, or "
            "one of pairs); - for such lines on standard input; with --split a data set: folder or id on the Hub."
        }
    )
    output: str = field(
        metadata={
            "help": "Table to write: .parquet, .csv or .jsonl. It is written anew every now and then. What is done is "
            "at once in the folder of that name with .videos behind it, from which an interrupted run goes on."
        }
    )
    checkpoint: str = field(
        default="default",
        metadata={
            "help": "Folder, Hub id, or default: the static-camera motion model in the package. With --runtime onnx an "
            "output folder of flux-hf export."
        },
    )
    split: str | None = field(default=None, metadata={"help": "Split, where the videos are a data set."})
    video_root: str | None = field(
        default=None, metadata={"help": "Folder of the videos of a list file. Default: the folder of the list."}
    )
    token_budget: str | None = field(
        default=None,
        metadata={
            "help": "Tokens to keep, or auto: as many as the answer takes. Default: the processor's, or model's."
        },
    )
    top_k: int = field(default=5, metadata={"help": "Labels of an answer."})
    window: float | None = field(default=None, metadata={"help": "Seconds. A row for each window, not for a video."})
    stride: float | None = field(default=None, metadata={"help": "Seconds between windows. Default: --window."})
    embeddings: bool = field(default=False, metadata={"help": "Add the feature that the classifier sees."})
    decoding: str | None = decoding_option("Frames")
    dtype: str = dtype_option("auto")
    runtime: str = field(
        default="torch", metadata={"help": "onnx: ONNX Runtime, for an export.", "choices": ("torch", "onnx")}
    )
    batch_size: int = field(default=8, metadata={"help": "Clips per forward."})
    num_workers: int | None = field(
        default=None, metadata={"help": "Decoding processes beside each main one. Default: a core each."}
    )
    engine: str = field(
        default="local", metadata={"help": "ray: actors of a Ray cluster do the work.", "choices": ("local", "ray")}
    )
    address: str | None = field(
        default=None, metadata={"help": "Of the Ray cluster. Default: the running one, or one on this machine."}
    )
    actors: int | None = field(
        default=None, metadata={"help": "Ray actors, with a core (and a GPU, where there are any) each. Default: all."}
    )
    download_seconds: float | None = field(
        default=None, metadata={"help": "Seconds for all transfers of one video. Default: 300."}
    )
    download_bytes: int | None = field(
        default=None,
        metadata={"help": "Of one video that its server or archive gives only whole. Default: 1 GiB."},
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Allow code that comes with the checkpoint."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(LabelOptions, argv, __doc__, {"dataset": "SOURCE"})
    check_at_least(1, options, "top_k", "batch_size", "actors", "download_bytes")
    check_at_least(0, options, "num_workers")
    check_paths(options, "video_root")
    folder = options.split is None and Path(options.dataset).is_dir()
    if options.video_root is not None and (folder or options.dataset == "-"):
        raise ValueError(f"--video_root is for the paths of a list file or data set, the source is {options.dataset}")
    check_output(options, ".parquet", ".csv", ".jsonl")
    if options.engine == "local":
        for name in ("address", "actors"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name} is of --engine ray")
    budget = options.token_budget
    if budget is not None and budget != "auto":
        if not budget.isdecimal() or int(budget) < 1:
            raise ValueError(f"--token_budget must be a number of tokens >= 1, or auto, got {budget}")
        budget = int(budget)
    workers = options.num_workers
    if options.engine == "ray":
        workers = 0  # of an actor, of which there are enough
    elif workers is None:
        workers = max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if workers:
        from flux_hf.processes import begin_worker_server

        begin_worker_server()
    from flux_hf.batch import VideoLabeler
    from flux_hf.batch.command import label_videos
    from flux_hf.batch.output import settings_there
    from flux_hf.batch.sources import read_lines
    from flux_hf.evaluation.processes import process_state
    from flux_hf.progress_bars import no_bars_for_folders
    from flux_hf.text.videos import folder_files, load_videos

    check_checkpoints(checkpoint=options.checkpoint)
    state = process_state()
    if state.num_processes > 1 and (options.dataset == "-" or options.engine == "ray"):
        what = "--engine ray" if options.engine == "ray" else "standard input"
        raise ValueError(
            f"{what} is for one process, {state.num_processes} were started; write the paths to a .txt file"
        )
    dtype = options.dtype
    if dtype == "auto" and options.runtime == "torch":  # what was found before, for a run that goes on
        dtype = settings_there(options.output).get("dtype", dtype)
    labeler = VideoLabeler(
        options.checkpoint,
        token_budget=budget,
        num_workers=workers,
        dtype=dtype,
        **{
            name: getattr(options, name)
            for name in (
                "top_k", "window", "stride", "embeddings", "decoding", "runtime", "batch_size",
                "download_seconds", "download_bytes", "trust_remote_code",
            )
        },
    )  # fmt: skip
    if options.dataset == "-":
        videos, source = read_lines(), "-"
    elif folder:
        videos, source = folder_files(options.dataset), str(Path(options.dataset).absolute())
    else:
        with no_bars_for_folders(options.dataset), naming_split(options, "split"):
            videos = load_videos(options.dataset, options.split, video_root=options.video_root)
        here = Path(options.dataset)
        source = str(here.absolute()) if here.exists() else options.dataset
    with naming_option("checkpoint", options.checkpoint):
        labeler.loaded  # noqa: B018
    answer = None
    if options.engine == "ray":
        from flux_hf.batch.on_ray import answer_on_ray

        answer = answer_on_ray(labeler, address=options.address, actors=options.actors)
    try:
        label_videos(videos, {"source": source, "split": options.split}, labeler, options.output, answer)
    finally:
        labeler.close()


if __name__ == "__main__":
    run_command("flux-hf label", main)
