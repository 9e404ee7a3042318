"""Measure seconds from a video file to its labels, against other models of Transformers; writes JSON."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.files import write_json
from flux_hf.options import parse_options

COMMAND = "scripts/benchmarks/end_to_end.py"


@dataclass
class EndToEndOptions:
    output: str = field(default="scripts/benchmarks/results/end_to_end.json", metadata={"help": "JSON file to write."})
    files: str = field(default="benchmark_files", metadata={"help": "Folder for the videos; made ones are kept."})
    configs: str = field(default="scripts/configs/models", metadata={"help": "Folder of fluxvit_small.json."})
    token_budgets: list[int] = field(
        default_factory=lambda: [512, 1024, 2048], metadata={"help": "Budgets of FluxViT-S."}
    )
    repeats: int = field(default=5, metadata={"help": "Counted runs of each, taking turns."})
    most_seconds: float = field(
        default=120.0, metadata={"help": "A model takes no further turn on a file after that, but one at least."}
    )
    quick: bool = field(default=False, metadata={"help": "One file, three repeats, without V-JEPA 2-L."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(EndToEndOptions, argv, __doc__)
    from flux_hf.provenance import provenance
    from flux_hf.scripts.benchmarks.measuring.files import FULL_HD, HD, FileKind, video_file
    from flux_hf.scripts.benchmarks.measuring.timing import alternating

    kinds = [FileKind(10, *HD), FileKind(60, *HD), FileKind(600, *HD), FileKind(60, *FULL_HD)]
    if options.quick:
        kinds, options.repeats, options.most_seconds = [FileKind(60, *HD)], 3, 20.0
    pipelines, rows = _pipelines(options), []
    for kind in kinds:
        path = str(video_file(kind, Path(options.files)))
        runs = {name: (lambda classify=classify: classify(path)) for name, classify in pipelines.items()}  # noqa: B023
        rows.append({"file": kind.name, "models": alternating(runs, options.repeats, options.most_seconds)})
        print(json.dumps(rows[-1]), flush=True)
    result = provenance(f"python {COMMAND}", argv, "torchcodec") | {
        "options": vars(options),
        "end_to_end": rows,
    }
    works = [name for name, entry in rows[-1]["models"].items() if "error" not in entry]
    result["inputs"] = {name: _input_shape(pipelines[name], path) for name in works}
    write_json(options.output, result)


def _pipelines(options: EndToEndOptions) -> dict:
    """Name -> pipeline. Models have random weights; each processor is its model's own."""
    from transformers import (
        VideoMAEConfig,
        VideoMAEForVideoClassification,
        VideoMAEVideoProcessor,
        VJEPA2Config,
        VJEPA2ForVideoClassification,
        VJEPA2VideoProcessor,
        pipeline,
    )

    from flux_hf import FluxVideoProcessor, FluxViTConfig, FluxViTForVideoClassification

    def classifier(model, processor):
        return pipeline("video-classification", model=model.eval(), video_processor=processor)

    small = FluxViTForVideoClassification(FluxViTConfig.from_json_file(f"{options.configs}/fluxvit_small.json"))
    found = {
        f"FluxViT-S at {budget} tokens": classifier(small, FluxVideoProcessor(token_budget=budget))
        for budget in options.token_budgets
    }
    found["VideoMAE-B"] = classifier(VideoMAEForVideoClassification(VideoMAEConfig()), VideoMAEVideoProcessor())
    if not options.quick:
        large = VJEPA2ForVideoClassification(VJEPA2Config())
        large.config.num_frames = large.config.frames_per_clip
        found["V-JEPA 2-L"] = classifier(large, VJEPA2VideoProcessor())
    return found


def _input_shape(classify, path: str) -> list[int]:
    """(clips, frames, channels, height, width) of what the pipeline hands its model."""
    return next(list(value.shape) for value in classify.preprocess(path).values() if value.ndim == 5)


if __name__ == "__main__":
    run_command(COMMAND, main)
