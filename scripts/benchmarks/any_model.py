"""Measure VideoMAE-B and V-JEPA 2-L with token selection against themselves without, time and memory; writes JSON."""

import json
from dataclasses import dataclass, field

from flux_hf.cli import run_command
from flux_hf.files import write_json
from flux_hf.options import parse_options

MODELS = ("VideoMAE-B", "V-JEPA 2-L")

COMMAND = "scripts/benchmarks/any_model.py"


@dataclass
class AnyModelOptions:
    output: str = field(default="scripts/benchmarks/results/any_model.json", metadata={"help": "JSON file to write."})
    models: list[str] = field(
        default_factory=lambda: list(MODELS), metadata={"help": "Of random weights.", "choices": list(MODELS)}
    )
    shares: list[int] = field(
        default_factory=lambda: [1, 2, 4, 8], metadata={"help": "Tokens kept are all of them divided by these."}
    )
    batch_sizes: list[int] = field(default_factory=lambda: [1], metadata={"help": "Clips per forward."})
    device: str = field(default="cpu", metadata={"help": "Where to run.", "choices": ["cpu", "cuda"]})
    dtype: str = field(
        default="float32", metadata={"help": "Of weights and clips.", "choices": ["float32", "bfloat16"]}
    )
    repeats: int = field(default=5, metadata={"help": "Counted runs of each, taking turns."})
    most_seconds: float = field(default=300.0, metadata={"help": "Nothing takes a further turn after that."})
    quick: bool = field(default=False, metadata={"help": "Tiny models, all and 1/4 of the tokens; no memory of a CPU."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(AnyModelOptions, argv, __doc__)
    import torch

    from flux_hf.provenance import provenance

    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch finds no GPU")
    if options.quick:
        options.shares, options.repeats = [1, 4], 2
    rows = []
    for name in options.models:
        for batch in options.batch_sizes:
            rows.append({"model": name, "batch": batch} | _measured(name, batch, options))
            print(json.dumps(rows[-1]), flush=True)
    result = provenance(f"python {COMMAND}", argv) | {"options": vars(options), "any_model": rows}
    write_json(options.output, result)


def _measured(name: str, batch: int, options: AnyModelOptions) -> dict:
    import torch

    from flux_hf.scripts.benchmarks.measuring.any_model import STOCK, cpu_kilobytes, runs_of
    from flux_hf.scripts.benchmarks.measuring.device import peak_bytes
    from flux_hf.scripts.benchmarks.measuring.timing import alternating

    dtype, shares = getattr(torch, options.dtype), options.shares
    with torch.inference_mode():
        runs, row = runs_of(name, batch, dtype, options.device, shares, options.quick)
        row["runs"] = alternating(runs, options.repeats, options.most_seconds, options.device)
        if 1 in shares:
            row["difference"] = (runs[STOCK]().logits - runs["1/1"]().logits).abs().max().item()
        if options.device == "cuda":
            row["kilobytes"] = {case: peak_bytes(run) // 1024 for case, run in runs.items()}
    if options.device == "cpu" and not options.quick:
        cases = list(runs)
        del runs  # the next models come in processes of their own
        row["kilobytes"] = {case: cpu_kilobytes(name, batch, options.dtype, case, shares) for case in cases}
    return row


if __name__ == "__main__":
    run_command(COMMAND, main)
