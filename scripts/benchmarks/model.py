"""Measure a forward against its floor and the naive arithmetic, its memory and its grids; writes JSON."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.files import write_json
from flux_hf.options import parse_options

MODELS = ("nano", "small", "base")

COMMAND = "scripts/benchmarks/model.py"


@dataclass
class ModelOptions:
    output: str = field(default="scripts/benchmarks/results/model.json", metadata={"help": "JSON file to write."})
    configs: str = field(default="scripts/configs/models", metadata={"help": "Folder of fluxvit_NAME.json."})
    models: list[str] = field(default_factory=lambda: list(MODELS), metadata={"help": "Names of configs."})
    token_budgets: list[int] = field(default_factory=lambda: [512, 1024, 2048, 3072], metadata={"help": "Tokens kept."})
    batch_sizes: list[int] = field(default_factory=lambda: [1, 2, 8], metadata={"help": "Clips per forward."})
    repeats: int = field(default=7, metadata={"help": "Counted runs of each, taking turns."})
    most_seconds: float = field(default=120.0, metadata={"help": "Nothing takes a further turn after that."})
    compile: bool = field(default=True, metadata={"help": "Also measure torch.compile."})
    quick: bool = field(
        default=False,
        metadata={"help": "The small model at 512 and 2048 tokens, one clip, not compiled; no memory, no other grids."},
    )


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(ModelOptions, argv, __doc__)
    import torch

    from flux_hf import FluxViTConfig, FluxViTForVideoClassification
    from flux_hf.provenance import provenance

    if options.quick:
        options.models, options.token_budgets, options.batch_sizes = ["small"], [512, 2048], [1]
        options.repeats, options.compile = 5, False
    rows, memory, grids = [], [], []
    for name in options.models:
        torch.manual_seed(0)
        config_file = Path(options.configs, f"fluxvit_{name}.json")
        model = FluxViTForVideoClassification(FluxViTConfig.from_json_file(config_file)).eval()
        for budget in options.token_budgets:
            for batch in options.batch_sizes:
                rows.append(
                    {"model": name, "token_budget": budget, "batch": batch} | _measured(model, budget, batch, options)
                )
                print(json.dumps(rows[-1]), flush=True)
        if not options.quick:
            memory += [{"model": name} | row for row in _memory(config_file, model.config.patch_size, options)]
            grids += [{"model": name} | _grids(model, budget, options) for budget in options.token_budgets]
    result = provenance(f"python {COMMAND}", argv) | {"options": vars(options), "model": rows}
    result |= {"memory": memory, "grids": grids}
    write_json(options.output, result)


def _measured(model, budget: int, batch: int, options: ModelOptions) -> dict:
    import torch

    from flux_hf.costs import forward_macs
    from flux_hf.processing.grid_fluxvit import choose_grid, grid_tokens
    from flux_hf.scripts.benchmarks.measuring.floor import matmuls_and_attention, selection_and_positions, shares
    from flux_hf.scripts.benchmarks.measuring.inference_options import compiled, has_bfloat16, in_bfloat16
    from flux_hf.scripts.benchmarks.measuring.naive import NaiveForward
    from flux_hf.scripts.benchmarks.measuring.timing import alternating

    patch = model.config.patch_size
    grid = choose_grid(budget, patch)
    tokens = grid_tokens(grid, patch)
    kept = min(budget, tokens)
    pixels = torch.randn(batch, grid.frames, model.config.num_channels, *grid.pixels())
    naive = NaiveForward(model)
    with torch.inference_mode():
        difference = (model(pixels, token_budget=budget).logits - naive(pixels, budget)).abs().max().item()
        runs = {
            "forward": lambda: model(pixels, token_budget=budget),
            "floor": matmuls_and_attention(model, batch, tokens, kept),
            "naive": lambda: naive(pixels, budget),
            "selection and positions": selection_and_positions(
                model, batch, (grid.frames, *grid.patch_grid(patch)), budget
            ),
        }
        if options.compile:
            torch.compiler.reset()
            in_one_graph = compiled(model, budget)
            in_one_graph(pixels)
            runs["compiled"] = lambda: in_one_graph(pixels)
        if has_bfloat16():
            bfloat16 = in_bfloat16(model, budget)
            runs["bf16"] = lambda: bfloat16(pixels)
        timed = alternating(runs, options.repeats, options.most_seconds)
        parts = shares(runs["forward"])
    return {
        "grid": list(grid),
        "gmacs": batch * forward_macs(model.config, kept, tokens) / 1e9,
        "runs": timed,
        "shares": parts,
        "difference_to_naive": difference,
    }


def _memory(config_file: Path, patch_size: int, options: ModelOptions) -> list[dict]:
    """Of the largest batch, on each budget's grid; a process for every budget."""
    from flux_hf.processing.grid_fluxvit import choose_grid
    from flux_hf.scripts.benchmarks.measuring.budgets import forward_kilobytes, patches_kilobytes

    batch, budgets = max(options.batch_sizes), options.token_budgets
    grids = [choose_grid(budget, patch_size) for budget in budgets]
    forward = [forward_kilobytes(config_file, batch, budget, grid) for budget, grid in zip(budgets, grids, strict=True)]
    patches = [patches_kilobytes(config_file, batch, grid) for grid in grids]
    return [
        {"batch": batch, "token_budget": budget, "grid": grid, "forward_kilobytes": whole, "patches_kilobytes": part}
        for budget, grid, whole, part in zip(budgets, grids, forward, patches, strict=True)
    ]


def _grids(model, budget: int, options: ModelOptions) -> dict:
    """The same budget, kept of three grids; one clip."""
    import torch

    from flux_hf.scripts.benchmarks.measuring.budgets import grids_of_budget, runs_on_grids
    from flux_hf.scripts.benchmarks.measuring.timing import alternating

    grids = grids_of_budget(budget, model.config.patch_size)
    with torch.inference_mode():
        timed = alternating(runs_on_grids(model, budget, 1, grids), options.repeats, options.most_seconds)
    return {"token_budget": budget, "runs": timed}


if __name__ == "__main__":
    run_command(COMMAND, main)
