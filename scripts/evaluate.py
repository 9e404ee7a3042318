"""Measure top-1 accuracy of a checkpoint on a data set at several token budgets; writes one JSON file."""

import json
import platform
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from transformers import AutoModelForVideoClassification, AutoVideoProcessor

from flux_hf import default_checkpoint
from flux_hf.data import load_video_dataset
from flux_hf.evaluation import evaluate
from flux_hf.options import parse_options

PACKAGES = ("torch", "torchvision", "transformers", "datasets", "av")


@dataclass
class EvaluateOptions:
    dataset: str = field(metadata={"help": "Folder in videofolder layout, or id of a data set on the Hub."})
    split: str = field(default="test", metadata={"help": "Split of the data set."})
    checkpoint: str = field(
        default_factory=default_checkpoint, metadata={"help": "Folder or Hub id. Default: the one in the package."}
    )
    token_budgets: list[int] | None = field(
        default=None, metadata={"help": "Default: the budgets of the model's heads."}
    )
    batch_size: int = field(default=32, metadata={"help": "Clips per forward."})
    num_workers: int = field(default=0, metadata={"help": "Decoding processes beside the main one."})
    output: str | None = field(default=None, metadata={"help": "JSON file to write."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(EvaluateOptions, argv, __doc__)
    model = AutoModelForVideoClassification.from_pretrained(options.checkpoint).eval()
    result = evaluate(
        load_video_dataset(options.dataset, options.split),
        model,
        AutoVideoProcessor.from_pretrained(options.checkpoint),
        options.token_budgets or model.config.head_token_budgets,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
    )
    result |= {
        "dataset": options.dataset,
        "split": options.split,
        "command": " ".join(["flux-hf", "evaluate", *(sys.argv[1:] if argv is None else argv)]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": platform.machine(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }
    for budget, figures in result["budgets"].items():
        print(f"budget {budget}: top-1 {100 * figures['top1']:.1f} %, {figures['gmacs']:.3f} GMACs")
    print(f"{result['num_videos']} videos, {len(result['unreadable'])} unreadable")
    if options.output:
        Path(options.output).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
