"""Measure forward and backward of a training with torch's attention (sdpa) and with explicit weights (eager), in
float32 and bf16, compiled and not; writes JSON. Clips are noise; weights are random."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from flux_hf.cli import run_command
from flux_hf.files import write_json
from flux_hf.options import parse_options
from flux_hf.scripts.benchmarks.measuring.steps import CONFIGS

COMMAND = "scripts/benchmarks/attention.py"


@dataclass
class BenchmarkOptions:
    output: str = field(default="scripts/benchmarks/results/attention.json", metadata={"help": "JSON file to write."})
    model_config: str = field(default=f"{CONFIGS}/fluxvit_nano.json", metadata={"help": "JSON config of the model."})
    token_budgets: list[int] = field(default_factory=lambda: [256, 128, 64], metadata={"help": "Tokens kept."})
    batch_size: int = field(default=64, metadata={"help": "Clips in a batch."})
    num_frames: int = field(default=8, metadata={"help": "Frames of the grid."})
    size: int = field(default=96, metadata={"help": "Side of the grid in pixels."})
    repeats: int = field(default=7, metadata={"help": "Steps that are timed."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(BenchmarkOptions, argv, __doc__)
    from flux_hf.provenance import provenance
    from flux_hf.scripts.benchmarks.measuring.timing import alternating

    rows = []
    for bf16 in (False, True):
        for budget in options.token_budgets:
            timed = alternating(_runs(options, budget, bf16), options.repeats, most_seconds=120)
            rows.append({"type": "bf16" if bf16 else "float32", "token_budget": budget, "runs": timed})
            print(json.dumps(rows[-1]), flush=True)
    write_json(options.output, provenance(f"python {COMMAND}", argv) | {"options": vars(options), "rows": rows})


def _runs(options: BenchmarkOptions, budget: int, bf16: bool) -> dict[str, Callable[[], None]]:
    import torch

    from flux_hf import FluxViTConfig, FluxViTForVideoClassification

    config = FluxViTConfig.from_json_file(options.model_config)
    pixels = torch.randn(options.batch_size, options.num_frames, config.num_channels, options.size, options.size)
    labels = torch.zeros(options.batch_size, dtype=torch.long)

    def step(model) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(pixel_values_videos=pixels, labels=labels, token_budget=budget).loss
        loss.backward()
        model.zero_grad()

    torch.compiler.reset()
    runs = {}
    for attention in ("sdpa", "eager"):
        torch.manual_seed(0)
        model = FluxViTForVideoClassification(config).train()
        model.set_attn_implementation(attention)
        runs[attention] = partial(step, model)
        runs[f"{attention}, compiled"] = partial(step, torch.compile(model))
    return runs


if __name__ == "__main__":
    run_command(COMMAND, main)
