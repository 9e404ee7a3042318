"""Measure token_budget="auto" against fixed budgets: accuracy, mean GMACs and milliseconds; writes JSON.

python scripts/benchmarks/adaptive_budget.py --data data/motion
"""

import json
from dataclasses import dataclass, field

from flux_hf.cli import run_command
from flux_hf.files import write_json
from flux_hf.options import check_at_least, parse_options

COMMAND = "scripts/benchmarks/adaptive_budget.py"


@dataclass
class AdaptiveBudgetOptions:
    data: str = field(metadata={"help": "Folder of labelled clips that calibration did not see."})
    output: str = field(default="scripts/benchmarks/results/adaptive_budget.json", metadata={"help": "JSON to write."})
    split: str = field(default="test", metadata={"help": "Split of the clips."})
    checkpoint: str = field(default="default", metadata={"help": "A calibrated checkpoint."})
    timed: int = field(default=64, metadata={"help": "Clips whose forwards are timed, drawn by --seed."})
    batch_sizes: list[int] = field(default_factory=lambda: [1, 8], metadata={"help": "Clips per forward."})
    repeats: int = field(default=7, metadata={"help": "Runs over all timed clips of each budget, taking turns."})
    seed: int = field(default=0, metadata={"help": "Seed of the choice of timed clips."})
    num_workers: int = field(default=0, metadata={"help": "Decoding processes beside the main one, for accuracy."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(AdaptiveBudgetOptions, argv, __doc__)
    check_at_least(1, options, "timed", "batch_sizes", "repeats")
    from flux_hf.provenance import provenance
    from flux_hf.scripts.benchmarks.measuring.adaptive_budget import accuracy, load, milliseconds

    dataset, model, processor = load(options.data, options.split, options.checkpoint)
    result = {"times": milliseconds(dataset, model, processor, options)}
    print(json.dumps(result["times"]), flush=True)
    result |= accuracy(dataset, model, processor, options.num_workers)
    print(json.dumps(result["budgets"]), flush=True)
    write_json(options.output, provenance(f"python {COMMAND}", argv) | {"options": vars(options)} | result)


if __name__ == "__main__":
    run_command(COMMAND, main)
