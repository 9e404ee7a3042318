"""Measure forwards and training steps on a GPU against their floor, and against VideoMAE-B and V-JEPA 2-L; writes JSON.

Forwards have bf16 weights; training steps (forward, backward, AdamW) have float32 weights under bf16 autocast. "graph"
is a replayed CUDA graph. The floor of a forward is its matrix products and attentions alone, in bf16 and as a graph
too; that of a training step has those of the gradients as well. Weights are random.
"""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.files import write_json
from flux_hf.options import parse_options

COMMAND = "scripts/benchmarks/gpu.py"


@dataclass
class GpuOptions:
    output: str = field(default="scripts/benchmarks/results/gpu.json", metadata={"help": "JSON file to write."})
    configs: str = field(default="scripts/configs/models", metadata={"help": "Folder of fluxvit_NAME.json."})
    device: str = field(default="cuda", metadata={"help": "cuda; cpu measures no graphs and no memory."})
    models: list[str] = field(default_factory=lambda: ["small", "base"], metadata={"help": "Names of configs."})
    token_budgets: list[int] = field(default_factory=lambda: [512, 1024, 2048, 3072], metadata={"help": "Tokens kept."})
    batch_sizes: list[int] = field(default_factory=lambda: [16, 64, 4, 1], metadata={"help": "Clips, in this order."})
    modes: list[str] = field(
        default_factory=lambda: ["forward", "training"], metadata={"help": "forward, training; in this order."}
    )
    peers: bool = field(default=True, metadata={"help": "Measure VideoMAE-B and V-JEPA 2-L, too."})
    compiled_clips: int = field(default=16, metadata={"help": "Clips for torch.compile; 0: it is not measured."})
    compiled_budget: int = field(default=1024, metadata={"help": "Tokens kept for torch.compile."})
    repeats: int = field(default=7, metadata={"help": "Counted runs of each, taking turns."})
    most_seconds_each: float = field(default=1.5, metadata={"help": "Nothing takes a further turn after that."})
    most_seconds: float = field(default=150.0, metadata={"help": "No further batch is begun after that."})
    quick: bool = field(default=False, metadata={"help": "One clip and four, 512 and 2048 tokens; not compiled."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(GpuOptions, argv, __doc__)
    import torch

    from flux_hf.provenance import provenance
    from flux_hf.scripts.benchmarks.measuring.accelerator import compiled_rows, rows_of_batch

    if options.device not in ("cuda", "cpu") or (options.device == "cuda" and not torch.cuda.is_available()):
        raise ValueError(f"device must be cuda, where PyTorch finds a GPU, or cpu, got {options.device}")
    if unknown := sorted(set(options.modes) - {"forward", "training"}):
        raise ValueError(f"modes must be some of forward, training, got {unknown}")
    if options.quick:
        options.batch_sizes, options.token_budgets, options.compiled_clips = [4, 1], [512, 2048], 0
        options.repeats = 3
    models = {name: Path(options.configs, f"fluxvit_{name}.json") for name in options.models}
    # Those that compile come last: compiling takes the longest.
    measurements = [(rows_of_batch, mode, batch) for batch in options.batch_sizes for mode in options.modes]
    if options.compiled_clips:
        measurements += [(compiled_rows, mode, options.compiled_clips) for mode in options.modes]
    rows, left_out, started = [], [], time.perf_counter()

    def write() -> None:
        result = provenance(f"python {COMMAND}", argv) | {"options": vars(options), "rows": rows, "left_out": left_out}
        write_json(options.output, result | {"seconds": time.perf_counter() - started})

    for measure, mode, batch in measurements:
        if time.perf_counter() - started > options.most_seconds:
            left_out.append([measure.__name__, mode, batch])
            continue
        for row in measure(models, mode, batch, options):
            rows.append(row)
            print(json.dumps(row), flush=True)
        write()
    write()
    if left_out:
        print(f"not begun after {options.most_seconds:g} s: {left_out}")


if __name__ == "__main__":
    run_command(COMMAND, main)
