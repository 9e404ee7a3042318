"""Measure float32, bf16, torch.compile, ONNX Runtime and, where it is installed, OpenVINO against each other on this
processor, how far their logits are from float32's (over the largest), and what `dtype="auto"` takes; writes JSON."""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.files import write_json
from flux_hf.options import parse_options

COMMAND = "scripts/benchmarks/runtimes.py"


@dataclass
class RuntimesOptions:
    output: str = field(default="scripts/benchmarks/results/runtimes.json", metadata={"help": "JSON file to write."})
    nano_budgets: list[int] = field(
        default_factory=lambda: [256, 128, 64], metadata={"help": "Token budgets of the default checkpoint."}
    )
    small_budgets: list[int] = field(
        default_factory=lambda: [2048, 1024, 512], metadata={"help": "Token budgets of FluxViT-S, random weights."}
    )
    batch_sizes: list[int] = field(default_factory=lambda: [1, 8], metadata={"help": "Clips per forward."})
    repeats: int = field(default=9, metadata={"help": "Counted runs of each, taking turns."})
    most_seconds: float = field(default=15.0, metadata={"help": "Nothing takes a further turn after that."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(RuntimesOptions, argv, __doc__)
    import torch

    from flux_hf import FluxVideoProcessor, FluxViTConfig, FluxViTForVideoClassification, default_checkpoint
    from flux_hf.provenance import provenance

    rows = []
    with tempfile.TemporaryDirectory(prefix="flux_benchmark_") as folder:
        small = Path(folder, "small")
        torch.manual_seed(0)
        config = FluxViTConfig.from_json_file("scripts/configs/models/fluxvit_small.json")
        FluxViTForVideoClassification(config).save_pretrained(small)
        FluxVideoProcessor().save_pretrained(small)
        cases = [("nano", default_checkpoint(), budget) for budget in options.nano_budgets]
        cases += [("small", str(small), budget) for budget in options.small_budgets]
        for name, checkpoint, budget in cases:
            for row in _measured(checkpoint, budget, Path(folder, f"{name}_{budget}"), options):
                rows.append({"model": name, "token_budget": budget} | row)
                print(json.dumps(rows[-1]), flush=True)
    result = provenance(f"python {COMMAND}", argv, "onnxruntime", "openvino") | {"options": vars(options)}
    write_json(options.output, result | {"runtimes": rows})


def _measured(checkpoint: str, budget: int, folder: Path, options: RuntimesOptions):
    import torch

    from flux_hf.plugin import load_video_classifier, load_video_processor
    from flux_hf.runtime import choose_dtype
    from flux_hf.scripts.benchmarks.measuring.inference_options import REFERENCE, inference_options
    from flux_hf.scripts.benchmarks.measuring.timing import alternating

    torch.compiler.reset()
    model = load_video_classifier(checkpoint, dtype=torch.float32)
    runs = inference_options(model, checkpoint, folder, budget)
    grid = load_video_processor(checkpoint, model).choose_grid(budget)
    for batch in options.batch_sizes:
        dtype, reason = choose_dtype(model, token_budget=budget, batch_size=batch)
        pixels = torch.randn(batch, grid.frames, 3, *grid.pixels())
        with torch.inference_mode():
            runs["compiled"](pixels)  # Compiling takes longer than all turns together: before the clock starts.
            timed = alternating(
                {name: (lambda run=run: run(pixels)) for name, run in runs.items()},  # noqa: B023
                options.repeats,
                options.most_seconds,
            )
            reference = runs[REFERENCE](pixels)
            for name, run in runs.items():
                if "error" not in timed[name]:
                    difference = (run(pixels) - reference).abs().max() / reference.abs().max()
                    timed[name]["difference"] = float(difference)
        auto = {"auto": str(dtype).removeprefix("torch."), "why": reason}
        yield {"batch": batch, "grid": list(grid), **auto, "runs": timed}


if __name__ == "__main__":
    run_command(COMMAND, main)
