"""Measure torch.compile, bf16 and int8 against float32, each with its accuracy; writes JSON."""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf import default_checkpoint
from flux_hf.cli import run_command
from flux_hf.files import write_json
from flux_hf.options import parse_options

COMMAND = "scripts/benchmarks/options.py"


@dataclass
class InferenceOptions:
    dataset: str = field(metadata={"help": "Folder in videofolder layout, or id of a data set on the Hub."})
    split: str = field(default="test", metadata={"help": "Split of the data set."})
    checkpoint: str = field(
        default_factory=default_checkpoint, metadata={"help": "Folder or Hub id. Default: the one in the package."}
    )
    output: str = field(default="scripts/benchmarks/results/options.json", metadata={"help": "JSON file to write."})
    token_budgets: list[int] | None = field(
        default=None, metadata={"help": "Token budgets. Default: those of the model's heads."}
    )
    batch_sizes: list[int] = field(
        default_factory=lambda: [1, 8], metadata={"help": "Clips per timed forward; accuracy is that of one clip each."}
    )
    repeats: int = field(default=15, metadata={"help": "Counted runs of each, taking turns."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(InferenceOptions, argv, __doc__)
    import torch
    from transformers import AutoModelForVideoClassification, AutoVideoProcessor

    from flux_hf.data import load_video_dataset
    from flux_hf.evaluation.accuracy import model_labels
    from flux_hf.provenance import file_list_hash, model_hash, provenance
    from flux_hf.scripts.benchmarks.measuring.inference_options import accuracy_of_options, inference_options

    dataset = load_video_dataset(options.dataset, options.split)
    model = AutoModelForVideoClassification.from_pretrained(options.checkpoint, dtype=torch.float32).eval()
    # Exports take one grid for all videos.
    processor = AutoVideoProcessor.from_pretrained(options.checkpoint, fit_source=False)
    budgets, batches = options.token_budgets or model.config.head_token_budgets, options.batch_sizes
    label_ids = model_labels(dataset, model)
    graphs = len(budgets) * len({1, *batches})
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 4 * graphs)

    with tempfile.TemporaryDirectory(prefix="flux_benchmark_") as folder:
        runs = {
            budget: inference_options(model, options.checkpoint, Path(folder, str(budget)), budget)
            for budget in budgets
        }
        speed = {
            (budget, batch): _timed(named, processor.choose_grid(budget), batch, options.repeats)
            for budget, named in runs.items()
            for batch in batches
        }
        accuracy, unreadable = accuracy_of_options(dataset, processor, runs, label_ids)
    result = provenance(f"python {COMMAND}", argv, "onnxruntime") | {
        "options": vars(options) | {"checkpoint": Path(options.checkpoint).name},
        "files": file_list_hash(dataset),
        "model_hash": model_hash(model),
        "num_videos": len(dataset) - unreadable,
        "unreadable": unreadable,
        "inference_options": [
            {
                "token_budget": budget,
                "speed": {batch: speed[budget, batch] for batch in batches},
                "accuracy": accuracy[budget],
            }
            for budget in budgets
        ],
    }
    write_json(options.output, result)
    print(json.dumps(result["inference_options"], indent=1))


def _timed(runs: dict, grid, batch: int, repeats: int) -> dict:
    import torch

    from flux_hf.scripts.benchmarks.measuring.timing import alternating

    pixels = torch.randn(batch, grid.frames, 3, *grid.pixels())
    with torch.inference_mode():
        # Compiling takes longer than all turns together: before the clock starts.
        runs["compiled"](pixels)
        return alternating({name: (lambda run=run: run(pixels)) for name, run in runs.items()}, repeats)


if __name__ == "__main__":
    run_command(COMMAND, main)
