"""Measure a forward against its arithmetic floor and the official naive arithmetic; writes JSON."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.options import parse_options

MODELS = ("nano", "small", "base")


@dataclass
class ModelOptions:
    output: str = field(default="benchmark_model.json", metadata={"help": "JSON file to write."})
    configs: str = field(default="scripts/configs/models", metadata={"help": "Folder of fluxvit_NAME.json."})
    models: list[str] = field(default_factory=lambda: list(MODELS), metadata={"help": "Names of configs."})
    token_budgets: list[int] = field(default_factory=lambda: [512, 1024, 2048, 3072], metadata={"help": "Tokens kept."})
    batch_sizes: list[int] = field(default_factory=lambda: [1, 2, 8], metadata={"help": "Clips per forward."})
    repeats: int = field(default=7, metadata={"help": "Counted runs of each, taking turns."})
    most_seconds: float = field(default=120.0, metadata={"help": "Nothing takes a further turn after that."})
    compile: bool = field(default=True, metadata={"help": "Also measure torch.compile."})
    quick: bool = field(
        default=False, metadata={"help": "The small model at 512 and 2048 tokens, one clip, not compiled."}
    )


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(ModelOptions, argv, __doc__)
    import torch

    from flux_hf import FluxViTConfig, FluxViTForVideoClassification
    from flux_hf.provenance import provenance

    if options.quick:
        options.models, options.token_budgets, options.batch_sizes = ["small"], [512, 2048], [1]
        options.repeats, options.compile = 5, False
    rows = []
    for name in options.models:
        torch.manual_seed(0)
        config = FluxViTConfig(**json.loads(Path(options.configs, f"fluxvit_{name}.json").read_text()))
        model = FluxViTForVideoClassification(config).eval()
        for budget in options.token_budgets:
            for batch in options.batch_sizes:
                rows.append(
                    {"model": name, "token_budget": budget, "batch": batch} | _measured(model, budget, batch, options)
                )
                print(json.dumps(rows[-1]), flush=True)
    result = provenance("benchmark-model", argv) | {"options": vars(options), "model": rows}
    Path(options.output).write_text(json.dumps(result, indent=1) + "\n")


def _measured(model, budget: int, batch: int, options: ModelOptions) -> dict:
    import torch

    from flux_hf.benchmarking.floor import matmuls_and_attention, selection_and_positions, shares
    from flux_hf.benchmarking.naive import NaiveForward
    from flux_hf.benchmarking.timing import alternating
    from flux_hf.costs import forward_macs
    from flux_hf.processing.grid_fluxvit import choose_grid

    patch = model.config.patch_size
    frames, side = choose_grid(budget, patch)
    grid = (frames, side // patch, side // patch)
    tokens = frames * (side // patch) ** 2
    kept = min(budget, tokens)
    pixels, naive = torch.randn(batch, frames, model.config.num_channels, side, side), NaiveForward(model)
    with torch.inference_mode():
        difference = (model(pixels, token_budget=budget).logits - naive(pixels, budget)).abs().max().item()
        runs = {
            "forward": lambda: model(pixels, token_budget=budget),
            "floor": matmuls_and_attention(model, batch, tokens, kept),
            "naive": lambda: naive(pixels, budget),
            "selection and positions": selection_and_positions(model, batch, grid, budget),
        }
        if options.compile:
            compiled = torch.compile(model, fullgraph=True)
            runs["compiled"] = lambda: compiled(pixels, token_budget=budget)
        if torch.ops.mkldnn._is_mkldnn_bf16_supported():
            runs["bf16"] = _in_bfloat16(model, pixels, budget)
        timed = alternating(runs, options.repeats, options.most_seconds)
        parts = shares(runs["forward"])
    forward = timed["forward"]["seconds"]
    return {
        "grid": [frames, side],
        "gmacs": batch * forward_macs(model.config, kept, tokens) / 1e9,
        "runs": timed,
        "shares": parts,
        "forward_over_floor": forward / timed["floor"]["seconds"],
        "naive_over_forward": timed["naive"]["seconds"] / forward,
        "selection_share": timed["selection and positions"]["seconds"] / forward,
        "difference_to_naive": difference,
    }


def _in_bfloat16(model, pixels, budget: int):
    import torch

    def run():
        with torch.autocast("cpu", torch.bfloat16):
            return model(pixels, token_budget=budget)

    return run


if __name__ == "__main__":
    main()
