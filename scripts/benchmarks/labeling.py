"""Measure videos/s of flux-hf label against a loop over the stock pipeline, decoding alone and forwards alone; writes
JSON."""

import json
from collections import deque
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.files import write_json
from flux_hf.options import check_at_least, parse_options

COMMAND = "scripts/benchmarks/labeling.py"
SMALL, SMALL_BUDGET = "FluxViT-S", 512


@dataclass
class LabelingOptions:
    output: str = field(default="scripts/benchmarks/results/labeling.json", metadata={"help": "JSON file to write."})
    files: str = field(default="benchmark_files", metadata={"help": "Folder for the videos; made ones are kept."})
    configs: str = field(default="scripts/configs/models", metadata={"help": "Folder of fluxvit_small.json."})
    copies: int = field(default=6, metadata={"help": "How often each file is labelled in a run."})
    repeats: int = field(default=5, metadata={"help": "Counted runs of each, taking turns."})
    most_seconds: float = field(
        default=600.0, metadata={"help": "A way takes no further turn after that, but one at least."}
    )
    num_workers: int | None = field(default=None, metadata={"help": "Decoding processes. Default: a core each."})
    quick: bool = field(default=False, metadata={"help": "Four small files, one copy, one repeat."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(LabelingOptions, argv, __doc__)
    check_at_least(1, options, "copies", "repeats", "num_workers")
    import os

    from flux_hf import default_checkpoint
    from flux_hf.provenance import provenance
    from flux_hf.scripts.benchmarks.measuring.files import FileKind, video_file
    from flux_hf.scripts.benchmarks.measuring.timing import alternating

    sizes, codecs = ((426, 240), (640, 360), (854, 480), (1280, 720)), ("libx264", "libx265", "libvpx-vp9", "mpeg4")
    lengths, gaps = (5, 12, 30, 60), (250, 48, 120, 12)
    kinds = [
        FileKind(lengths[(row + column) % 4], *sizes[row], gaps[(row + 2 * column) % 4], codec)
        for row, (column, codec) in product(range(4), enumerate(codecs))
    ]
    if options.quick:
        kinds, options.copies, options.repeats, options.most_seconds = kinds[:4], 1, 1, 20.0
    paths = [str(video_file(kind, Path(options.files))) for kind in kinds]
    workers = options.num_workers or len(os.sched_getaffinity(0))
    rows = []
    for name, checkpoint, budget in (
        (Path(default_checkpoint()).name, default_checkpoint(), None),
        (SMALL, _random_small(options), SMALL_BUDGET),
    ):
        runs, dtype, budget = _ways(checkpoint, budget, paths * options.copies, workers)
        found = alternating(runs, options.repeats, options.most_seconds)
        rows.append({"model": name, "token_budget": budget, "dtype_auto": dtype, "ways": found})
        print(json.dumps(rows[-1]), flush=True)
    result = provenance(f"python {COMMAND}", argv) | {
        "options": vars(options),
        "files": [kind.name for kind in kinds],
        "videos": len(paths) * options.copies,
        "num_workers": workers,
        "labeling": rows,
    }
    write_json(options.output, result)


def _ways(checkpoint: str, budget: int | None, paths: list[str], workers: int) -> tuple[dict, str, int]:
    """Name -> a run over all paths; the type that "auto" is; the budget.

    On two cores, decoding and forwards that overlap have one each: the slower of both on one core is what they take.
    """
    import torch
    from transformers import pipeline

    from flux_hf.batch import VideoLabeler
    from flux_hf.batch.labeler import Run
    from flux_hf.batch.workers import Workers

    processing = {} if budget is None else {"token_budget": budget}
    labelers = {
        dtype: VideoLabeler(checkpoint, dtype=dtype, num_workers=workers, **processing) for dtype in ("float32", "auto")
    }
    labeler = labelers["float32"]
    stock = pipeline("video-classification", model=checkpoint)
    videos = [{"path": path, "bytes": None, "start": None, "end": None} for path in paths]
    parts = [labeler.loaded.decoder(video) for video in videos]

    def label(labeler) -> None:
        answers = dict(labeler.label(videos))
        assert len(answers) == len(paths) and all(rows[0]["error"] is None for rows in answers.values())

    one_worker = Workers(labeler.loaded.decoder, 1, None)

    def decode(workers) -> None:
        tasks = ((number, video, 0) for number, video in enumerate(videos))
        for _ in workers.answers(tasks, deque()):
            pass

    def forward(threads: int) -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        run = Run(labeler)
        for number, (video, part) in enumerate(zip(videos, parts, strict=True)):
            run.take(number, video, 0, part)
            while run.waiting(labeler.batch_size):
                list(run.forward(labeler.batch_size))
        while run.waiting(1):
            list(run.forward(labeler.batch_size))
        torch.set_num_threads(before)

    runs = {
        "label": lambda: label(labeler),
        "loop over the pipeline": lambda: [stock(path) for path in paths],
        "decoding alone": lambda: decode(labeler.workers),
        "forwards alone": lambda: forward(torch.get_num_threads()),
        "decoding alone, one core": lambda: decode(one_worker),
        "forwards alone, one core": lambda: forward(1),
        "label, dtype auto": lambda: label(labelers["auto"]),
    }
    dtype = str(labelers["auto"].loaded.dtype).removeprefix("torch.")
    return runs, dtype, labeler.loaded.budget


def _random_small(options: LabelingOptions) -> str:
    import torch

    from flux_hf import FluxVideoProcessor, FluxViTConfig, FluxViTForVideoClassification

    folder = Path(options.files) / "fluxvit_small_random"
    if not (folder / "config.json").exists():
        torch.manual_seed(0)
        config = FluxViTConfig.from_json_file(f"{options.configs}/fluxvit_small.json")
        FluxViTForVideoClassification(config).save_pretrained(folder)
        FluxVideoProcessor(token_budget=SMALL_BUDGET).save_pretrained(folder)
    return str(folder)


if __name__ == "__main__":
    run_command(COMMAND, main)
